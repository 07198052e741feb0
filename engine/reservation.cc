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

// Until so much more than there is room for has finished.
absl::Duration RetryAfter(int64_t excess, double drain_per_second) {
  if (drain_per_second <= 0) return absl::Seconds(1);
  return std::clamp(absl::Seconds(static_cast<double>(excess) / drain_per_second), kShortestRetry,
                    kLongestRetry);
}

}  // namespace

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    Release();
    ledger_ = std::move(other.ledger_);
    tokens_ = std::exchange(other.tokens_, 0);
    variant_ = other.variant_;
    tenant_ = std::move(other.tenant_);
  }
  return *this;
}

void Reservation::Trim(int64_t tokens) {
  tokens = std::max<int64_t>(0, tokens);
  if (ledger_ == nullptr || tokens >= tokens_) return;
  ledger_->Return(0, tokens_ - tokens, variant_, tenant_);
  tokens_ = tokens;
}

void Reservation::Release() {
  if (ledger_ == nullptr) return;
  ledger_->Return(1, tokens_, variant_, tenant_);
  ledger_.reset();
  tokens_ = 0;
}

absl::StatusOr<std::vector<Reservation>> AdmissionLedger::Reserve(int64_t requests, int64_t tokens,
                                                                  const AdmissionScope& scope) {
  if (requests < 1 || tokens < 0 || tokens > std::numeric_limits<int64_t>::max() / requests) {
    return absl::InvalidArgumentError("a reservation is for at least one request");
  }
  const int64_t wanted = requests * tokens;
  {
    MutexLock lock(&mutex_);
    if (load_.draining) {
      return Rejected(RejectReason::kDraining, "the server is draining", absl::Seconds(-1));
    }
    if (const auto door = closed_.find(scope.variant); door != closed_.end()) return door->second;
    if (absl::Status status = CheckRoom(requests, wanted, scope); !status.ok()) return status;
    if (absl::Status status = CheckWait(scope); !status.ok()) return status;
    load_.requests += requests;
    load_.tokens += wanted;
    for (Share* share : {&variants_[scope.variant], &tenants_[scope.tenant]}) {
      share->requests += requests;
      share->tokens += wanted;
    }
  }
  std::vector<Reservation> reservations;
  reservations.reserve(static_cast<size_t>(requests));
  for (int64_t i = 0; i < requests; ++i) {
    reservations.push_back(Reservation(shared_from_this(), tokens, scope.variant, scope.tenant));
  }
  return reservations;
}

absl::Status AdmissionLedger::CheckRoom(int64_t requests, int64_t tokens,
                                        const AdmissionScope& scope) const {
  const auto held_by = [](const auto& shares, const auto& key) {
    const auto found = shares.find(key);
    return found == shares.end() ? Share{} : found->second;
  };
  struct Row {
    const char* of;
    AdmissionLimit limit;
    Share held;
    RejectReason by_requests, by_tokens;
  };
  const Row rows[] = {
      {"the queue",
       {limits_.max_requests, limits_.max_tokens},
       {load_.requests, load_.tokens},
       RejectReason::kQueueRequests,
       RejectReason::kQueueTokens},
      {"the variant's queue", scope.variant < 0 ? AdmissionLimit{} : limits_.variant,
       held_by(variants_, scope.variant), RejectReason::kQueueRequests, RejectReason::kQueueTokens},
      {"the tenant's queue", limits_.tenant, held_by(tenants_, scope.tenant),
       RejectReason::kTenantQuota, RejectReason::kTenantQuota}};
  for (const Row& row : rows) {
    if (requests > row.limit.max_requests || tokens > row.limit.max_tokens) {
      return Rejected(
          requests > row.limit.max_requests ? row.by_requests : row.by_tokens,
          absl::StrCat("needs room for ", requests, " requests and ", tokens, " tokens, limits of ",
                       row.of, " are ", row.limit.max_requests, " and ", row.limit.max_tokens),
          absl::Seconds(-1));
    }
  }
  for (const Row& row : rows) {
    if (tokens > row.limit.max_tokens - row.held.tokens) {
      return Rejected(
          row.by_tokens,
          absl::StrCat(row.of, " holds ", row.held.tokens, " tokens, limit ", row.limit.max_tokens),
          RetryAfter(tokens - (row.limit.max_tokens - row.held.tokens), drain_tokens_per_second_));
    }
    if (requests > row.limit.max_requests - row.held.requests) {
      return Rejected(row.by_requests,
                      absl::StrCat(row.of, " holds ", row.held.requests, " requests, limit ",
                                   row.limit.max_requests),
                      RetryAfter(requests - (row.limit.max_requests - row.held.requests),
                                 drain_requests_per_second_));
    }
  }
  return absl::OkStatus();
}

absl::Status AdmissionLedger::CheckNotFull() const {
  MutexLock lock(&mutex_);
  const bool full = load_.requests >= limits_.max_requests || load_.tokens >= limits_.max_tokens;
  // A server that drains says so instead: another one is to be asked, not this one again.
  return full && !load_.draining ? CheckRoom(1, 1, {}) : absl::OkStatus();
}

// A tenant that holds nothing does not wait behind the others' queues (see Scheduler).
absl::Status AdmissionLedger::CheckWait(const AdmissionScope& scope) const {
  const int64_t waiting = load_.requests - limits_.served_at_once;
  const absl::Duration longest = std::min(scope.time_left, limits_.max_wait);
  if (longest == absl::InfiniteDuration() || waiting <= 0 || drain_requests_per_second_ <= 0 ||
      !tenants_.contains(scope.tenant)) {
    return absl::OkStatus();
  }
  const absl::Duration wait =
      absl::Seconds(static_cast<double>(waiting) / drain_requests_per_second_);
  if (wait <= longest) return absl::OkStatus();
  const std::string text =
      absl::StrCat(waiting, " requests wait, about ", absl::ToInt64Milliseconds(wait), " ms; ");
  if (wait > scope.time_left) {
    return Rejected(RejectReason::kDeadlineInfeasible,
                    absl::StrCat(text, "the deadline is in ",
                                 absl::ToInt64Milliseconds(scope.time_left), " ms"),
                    -absl::Seconds(1));
  }
  return Rejected(RejectReason::kQueueWait,
                  absl::StrCat(text, "limit ", absl::ToInt64Milliseconds(limits_.max_wait), " ms"),
                  std::clamp(wait - limits_.max_wait, kShortestRetry, kLongestRetry));
}

void AdmissionLedger::SetDoor(int variant, absl::Status refusal) {
  MutexLock lock(&mutex_);
  if (refusal.ok()) {
    closed_.erase(variant);
  } else {
    closed_[variant] = std::move(refusal);
  }
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
  for (auto& [rate, count] : {std::pair(&drain_tokens_per_second_, static_cast<double>(tokens)),
                              std::pair(&drain_requests_per_second_, 1.0)}) {
    *rate *= 1 - std::min(1.0, elapsed / kRateSeconds);
    *rate += count / std::max(elapsed, kRateSeconds);
  }
}

AdmissionLedger::Load AdmissionLedger::load() const {
  MutexLock lock(&mutex_);
  return load_;
}

void AdmissionLedger::Return(int64_t requests, int64_t tokens, int variant,
                             const std::string& tenant) {
  const auto give_back = [&](auto& shares, const auto& key) {
    const auto share = shares.find(key);
    share->second.requests -= requests;
    share->second.tokens -= tokens;
    if (share->second.requests == 0) shares.erase(share);  // names come from outside
  };
  MutexLock lock(&mutex_);
  load_.requests -= requests;
  load_.tokens -= tokens;
  give_back(variants_, variant);
  give_back(tenants_, tenant);
}

}  // namespace vernier
