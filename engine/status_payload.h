// What a refusal says beyond its text: the field at fault, when to come back, and the reason that
// metrics count.
//
// Carried as payloads of an absl::Status, so that the engine and its callers need no error class of
// their own.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace vernier {

struct FieldViolation {
  std::string field;  // proto path: "sampling.top_p", "prompt"
  std::string value;  // as given, shortened; never prompt text
  std::string limit;  // what is accepted: "(0, 1]", "8192 tokens"
};

// INVALID_ARGUMENT: "top_p is 1.5, must be in (0, 1]".
absl::Status InvalidField(FieldViolation violation);
std::optional<FieldViolation> FieldViolationOf(const absl::Status& status);

// Why admission refused; the values of vernier_admission_rejections_total's `reason`.
enum class RejectReason {
  kNone,
  kQueueRequests,
  kQueueTokens,
  kQueueWait,
  kTenantQuota,
  kPeerStreams,
  kDeadlineInfeasible,
  kDraining,
  kBreaker
};
const char* RejectReasonName(RejectReason reason);

// RESOURCE_EXHAUSTED, UNAVAILABLE or DEADLINE_EXCEEDED by `reason`. `retry_after` < 0: a retry
// cannot help.
absl::Status Rejected(RejectReason reason, std::string message, absl::Duration retry_after);
RejectReason RejectReasonOf(const absl::Status& status);
std::optional<absl::Duration> RetryAfterOf(const absl::Status& status);

}  // namespace vernier
