// Finds connections that open streams only to reset them (CVE-2023-44487), and ends them.
//
// A reset stream gives its place among max_streams back at once, but gRPC 1.51 keeps its call, 22
// KiB, as long as more comes over the connection. So calls that have not ended count: who has many
// times max_streams of them resets what it opens. Where they end as fast as they come, gRPC does
// nothing else on one of its few threads, on which other connections may wait: so cancelled calls
// count, too.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "kernels/base/mutex.h"
#include "server/counts_by_key.h"

namespace vernier {

// Thread-safe.
class ResetGuard {
 public:
  // Ends the connection of a peer, as gRPC names it: "ipv4:10.0.0.1:5000".
  using Cut = std::function<void(const std::string& peer)>;

  // `limit`: calls of one connection that have not ended, and calls of it that are cancelled within
  // a second; 0: none.
  explicit ResetGuard(int limit) : limit_(limit) {}
  // Before calls arrive; what it refers to outlives them.
  void SetCut(Cut cut) { cut_ = std::move(cut); }

  // A call begins; the connection of `peer` is cut when that is one too many.
  void Begin(const std::string& peer);
  // After Begin, once; cut likewise when it was cancelled. `now`: any clock that never goes back.
  void End(const std::string& peer, bool cancelled, absl::Duration now);

 private:
  const int limit_;
  Cut cut_;
  Mutex mutex_;
  CountsByKey alive_ ABSL_GUARDED_BY(mutex_);
  CountsByKey cancelled_ ABSL_GUARDED_BY(mutex_);                              // since second_
  absl::Duration second_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();  // its beginning
};

}  // namespace vernier
