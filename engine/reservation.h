// Admission: room in the queue, taken atomically before any work is done for a request.
//
// A pure upper bound: prompt bytes (a token has at least one byte) + max_tokens. Trimmed when the
// tokens are known.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/base/mutex.h"

namespace vernier {

struct AdmissionLimits {
  int64_t max_requests = 1024;   // admitted and not finished
  int64_t max_tokens = 1 << 20;  // prompt + max_tokens of those
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
  Reservation(std::shared_ptr<AdmissionLedger> ledger, int64_t tokens)
      : ledger_(std::move(ledger)), tokens_(tokens) {}
  std::shared_ptr<AdmissionLedger> ledger_;
  int64_t tokens_ = 0;
};

// Counts what is admitted. Thread-safe; outlives its reservations by shared ownership.
class AdmissionLedger : public std::enable_shared_from_this<AdmissionLedger> {
 public:
  explicit AdmissionLedger(AdmissionLimits limits) : limits_(limits) {}
  // All or nothing for `requests` requests of `tokens` each: one Reservation a request.
  // RESOURCE_EXHAUSTED (Rejected, with a retry hint) when full; UNAVAILABLE once draining.
  absl::StatusOr<std::vector<Reservation>> Reserve(int64_t requests, int64_t tokens);
  void StartDrain();
  // Finished tokens a second lately, from which the retry hint is computed.
  void OnFinished(int64_t tokens, absl::Duration now);

  struct Load {
    int64_t requests = 0;
    int64_t tokens = 0;
    bool draining = false;
  };
  Load load() const;

 private:
  friend class Reservation;
  void Return(int64_t requests, int64_t tokens);

  const AdmissionLimits limits_;
  mutable Mutex mutex_;
  Load load_ ABSL_GUARDED_BY(mutex_);
  double drain_tokens_per_second_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration drain_measured_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
};

}  // namespace vernier
