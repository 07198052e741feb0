// Admission: room in the queue, taken atomically before any work is done for a request.
//
// A pure upper bound: prompt bytes (a token has at least one byte) + max_tokens. Trimmed when the
// tokens are known.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/base/mutex.h"

namespace vernier {

// Of what is admitted and not finished.
struct AdmissionLimit {
  int64_t max_requests = std::numeric_limits<int64_t>::max();
  int64_t max_tokens = std::numeric_limits<int64_t>::max();  // prompt + max_tokens
};

struct AdmissionLimits {
  int64_t max_requests = 1024;  // of all
  int64_t max_tokens = 1 << 20;
  AdmissionLimit variant;  // of each
  AdmissionLimit tenant;   // of each
  // Requests that are served at once: what is admitted beyond them waits.
  int64_t served_at_once = std::numeric_limits<int64_t>::max();
  // What would wait longer for its turn, as requests finish lately, is refused.
  absl::Duration max_wait = absl::InfiniteDuration();
};

// Whom room is asked for.
struct AdmissionScope {
  int variant = -1;  // -1: several, counted in none
  std::string tenant;
  absl::Duration time_left = absl::InfiniteDuration();  // until the deadline
};

class AdmissionLedger;

// Room held for one request; given back on destruction. Movable, used by one thread at a time.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept { *this = std::move(other); }
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { Release(); }
  // Lowers the tokens held to `tokens`; never raises them.
  void Trim(int64_t tokens);
  void Release();
  int64_t tokens() const { return tokens_; }

 private:
  friend class AdmissionLedger;
  Reservation(std::shared_ptr<AdmissionLedger> ledger, int64_t tokens, int variant,
              std::string tenant)
      : ledger_(std::move(ledger)),
        tokens_(tokens),
        variant_(variant),
        tenant_(std::move(tenant)) {}
  std::shared_ptr<AdmissionLedger> ledger_;
  int64_t tokens_ = 0;
  int variant_ = -1;
  std::string tenant_;
};

// Counts what is admitted. Thread-safe; outlives its reservations by shared ownership.
class AdmissionLedger : public std::enable_shared_from_this<AdmissionLedger> {
 public:
  explicit AdmissionLedger(AdmissionLimits limits) : limits_(limits) {}
  // All or nothing for `requests` requests of `tokens` each: one Reservation a request.
  // RESOURCE_EXHAUSTED (Rejected, with a retry hint) when full, or when so many wait before it that
  // its turn is more than max_wait away, as they finish lately; UNAVAILABLE once draining;
  // SetDoor's; DEADLINE_EXCEEDED when its turn comes after its deadline.
  absl::StatusOr<std::vector<Reservation>> Reserve(int64_t requests, int64_t tokens,
                                                   const AdmissionScope& scope = {});
  // What Reserve would refuse every request with, before its size is known: the queue of all is
  // full. Under overload most calls end here, unread.
  absl::Status CheckNotFull() const;
  void StartDrain();
  // A status that is not OK is what Reserve answers for `variant` from now on.
  void SetDoor(int variant, absl::Status refusal);
  // What finished lately: the retry hint and the wait are computed from its rate.
  void OnFinished(int64_t tokens, absl::Duration now);

  struct Load {
    int64_t requests = 0;
    int64_t tokens = 0;
    bool draining = false;
  };
  Load load() const;

 private:
  friend class Reservation;
  struct Share {
    int64_t requests = 0;
    int64_t tokens = 0;
  };
  void Return(int64_t requests, int64_t tokens, int variant, const std::string& tenant);
  absl::Status CheckRoom(int64_t requests, int64_t tokens, const AdmissionScope& scope) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckWait(const AdmissionScope& scope) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const AdmissionLimits limits_;
  mutable Mutex mutex_;
  Load load_ ABSL_GUARDED_BY(mutex_);
  std::map<int, Share> variants_ ABSL_GUARDED_BY(mutex_);         // that hold something
  std::map<std::string, Share> tenants_ ABSL_GUARDED_BY(mutex_);  // that hold something
  std::map<int, absl::Status> closed_ ABSL_GUARDED_BY(mutex_);    // variants that are refused
  double drain_tokens_per_second_ ABSL_GUARDED_BY(mutex_) = 0;
  double drain_requests_per_second_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration drain_measured_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
};

}  // namespace vernier
