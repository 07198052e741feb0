#include "engine/status_payload.h"

#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

constexpr char kFieldUrl[] = "vernier/field";
constexpr char kValueUrl[] = "vernier/value";
constexpr char kLimitUrl[] = "vernier/limit";
constexpr char kReasonUrl[] = "vernier/reason";
constexpr char kRetryUrl[] = "vernier/retry-after-ms";

constexpr const char* kReasonNames[] = {
    "none",         "queue_requests",      "queue_tokens", "queue_wait", "tenant_quota",
    "peer_streams", "deadline_infeasible", "draining",     "breaker"};

absl::StatusCode CodeOf(RejectReason reason) {
  switch (reason) {
    case RejectReason::kDraining:
    case RejectReason::kBreaker:
      return absl::StatusCode::kUnavailable;
    case RejectReason::kDeadlineInfeasible:
      return absl::StatusCode::kDeadlineExceeded;
    default:
      return absl::StatusCode::kResourceExhausted;
  }
}

}  // namespace

absl::Status InvalidField(FieldViolation violation) {
  absl::Status status = absl::InvalidArgumentError(
      absl::StrCat(violation.field, " is ", violation.value, ", must be ", violation.limit));
  status.SetPayload(kFieldUrl, absl::Cord(violation.field));
  status.SetPayload(kValueUrl, absl::Cord(violation.value));
  status.SetPayload(kLimitUrl, absl::Cord(violation.limit));
  return status;
}

std::optional<FieldViolation> FieldViolationOf(const absl::Status& status) {
  const auto field = status.GetPayload(kFieldUrl);
  if (!field.has_value()) return std::nullopt;
  const absl::Cord empty;
  return FieldViolation{std::string(*field),
                        std::string(status.GetPayload(kValueUrl).value_or(empty)),
                        std::string(status.GetPayload(kLimitUrl).value_or(empty))};
}

const char* RejectReasonName(RejectReason reason) { return kReasonNames[static_cast<int>(reason)]; }

absl::Status Rejected(RejectReason reason, std::string message, absl::Duration retry_after) {
  absl::Status status(CodeOf(reason), message);
  status.SetPayload(kReasonUrl, absl::Cord(RejectReasonName(reason)));
  const int64_t milliseconds =
      retry_after < absl::ZeroDuration() ? -1 : absl::ToInt64Milliseconds(retry_after);
  // Not from the string itself: clang 18 and the GCC that built Ubuntu's Abseil name that
  // constructor, a template, differently.
  const std::string text = absl::StrCat(milliseconds);
  status.SetPayload(kRetryUrl, absl::Cord(absl::string_view(text)));
  return status;
}

RejectReason RejectReasonOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kReasonUrl);
  if (!payload.has_value()) return RejectReason::kNone;
  const std::string name(*payload);
  for (int i = 0; i < static_cast<int>(std::size(kReasonNames)); ++i) {
    if (name == kReasonNames[i]) return static_cast<RejectReason>(i);
  }
  return RejectReason::kNone;
}

std::optional<absl::Duration> RetryAfterOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryUrl);
  int64_t milliseconds = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &milliseconds)) {
    return std::nullopt;
  }
  return absl::Milliseconds(milliseconds);
}

}  // namespace vernier
