#include "engine/reservation.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"

namespace vernier {
namespace {

// What a client is told to wait: never so short that it hammers, never longer
// than a person waits.
constexpr absl::Duration kShortestRetry = absl::Milliseconds(50);
constexpr absl::Duration kLongestRetry = absl::Seconds(10);
// Time constant of the drain rate's moving average.
constexpr double kRateSeconds = 5;

}  // namespace

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    Release();
    ledger_ = std::move(other.ledger_);
    tokens_ = std::exchange(other.tokens_, 0);
  }
  return *this;
}

void Reservation::Trim(int64_t tokens) {
  tokens = std::max<int64_t>(0, tokens);
  if (ledger_ == nullptr || tokens >= tokens_) return;
  ledger_->Return(0, tokens_ - tokens);
  tokens_ = tokens;
}

void Reservation::Release() {
  if (ledger_ == nullptr) return;
  ledger_->Return(1, tokens_);
  ledger_.reset();
  tokens_ = 0;
}

absl::StatusOr<std::vector<Reservation>> AdmissionLedger::Reserve(int64_t requests,
                                                                  int64_t tokens) {
  if (requests < 1 || tokens < 0 || tokens > std::numeric_limits<int64_t>::max() / requests) {
    return absl::InvalidArgumentError("a reservation is for at least one request");
  }
  const int64_t wanted = requests * tokens;
  if (requests > limits_.max_requests || wanted > limits_.max_tokens) {
    return Rejected(
        requests > limits_.max_requests ? RejectReason::kQueueRequests : RejectReason::kQueueTokens,
        absl::StrCat("needs room for ", requests, " requests and ", wanted, " tokens, limits are ",
                     limits_.max_requests, " and ", limits_.max_tokens),
        absl::Seconds(-1));
  }
  {
    MutexLock lock(&mutex_);
    if (load_.draining) {
      return Rejected(RejectReason::kDraining, "the server is draining", absl::Seconds(-1));
    }
    const int64_t excess_tokens = load_.tokens + wanted - limits_.max_tokens;
    if (load_.requests + requests > limits_.max_requests || excess_tokens > 0) {
      const bool by_tokens = excess_tokens > 0;
      const double backlog = static_cast<double>(by_tokens ? excess_tokens : tokens);
      const absl::Duration retry = drain_tokens_per_second_ > 0
                                       ? absl::Seconds(backlog / drain_tokens_per_second_)
                                       : absl::Seconds(1);
      return Rejected(by_tokens ? RejectReason::kQueueTokens : RejectReason::kQueueRequests,
                      by_tokens ? absl::StrCat("the queue holds ", load_.tokens, " tokens, limit ",
                                               limits_.max_tokens)
                                : absl::StrCat("the queue holds ", load_.requests,
                                               " requests, limit ", limits_.max_requests),
                      std::clamp(retry, kShortestRetry, kLongestRetry));
    }
    load_.requests += requests;
    load_.tokens += wanted;
  }
  std::vector<Reservation> reservations;
  reservations.reserve(static_cast<size_t>(requests));
  for (int64_t i = 0; i < requests; ++i) {
    reservations.push_back(Reservation(shared_from_this(), tokens));
  }
  return reservations;
}

void AdmissionLedger::StartDrain() {
  MutexLock lock(&mutex_);
  load_.draining = true;
}

void AdmissionLedger::OnFinished(int64_t tokens, absl::Duration now) {
  MutexLock lock(&mutex_);
  const double elapsed = drain_measured_ == absl::InfiniteDuration()
                             ? 0
                             : std::max(0.0, absl::ToDoubleSeconds(now - drain_measured_));
  drain_measured_ = now;
  // Those that finish at the same instant all count: only the old average fades with the time.
  drain_tokens_per_second_ *= 1 - std::min(1.0, elapsed / kRateSeconds);
  drain_tokens_per_second_ += static_cast<double>(tokens) / std::max(elapsed, kRateSeconds);
}

AdmissionLedger::Load AdmissionLedger::load() const {
  MutexLock lock(&mutex_);
  return load_;
}

void AdmissionLedger::Return(int64_t requests, int64_t tokens) {
  MutexLock lock(&mutex_);
  load_.requests -= requests;
  load_.tokens -= tokens;
}

}  // namespace vernier
