#include "engine/status_payload.h"

#include <gtest/gtest.h>

#include <string>

namespace vernier {
namespace {

TEST(StatusPayloadTest, InvalidFieldSaysFieldValueAndLimit) {
  const absl::Status status = InvalidField({"sampling.top_p", "1.5", "in (0, 1]"});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "sampling.top_p is 1.5, must be in (0, 1]");
  const auto violation = FieldViolationOf(status);
  ASSERT_TRUE(violation.has_value());
  EXPECT_EQ(violation->field, "sampling.top_p");
  EXPECT_EQ(violation->value, "1.5");
  EXPECT_EQ(violation->limit, "in (0, 1]");
}

TEST(StatusPayloadTest, OtherStatusesHaveNoPayload) {
  for (const absl::Status& status : {absl::OkStatus(), absl::InvalidArgumentError("no field")}) {
    EXPECT_FALSE(FieldViolationOf(status).has_value());
    EXPECT_EQ(RejectReasonOf(status), RejectReason::kNone);
    EXPECT_FALSE(RetryAfterOf(status).has_value());
  }
}

TEST(StatusPayloadTest, EachReasonHasItsCodeAndComesBack) {
  struct Row {
    RejectReason reason;
    const char* name;
    absl::StatusCode code;
  };
  const Row rows[] = {
      {RejectReason::kQueueRequests, "queue_requests", absl::StatusCode::kResourceExhausted},
      {RejectReason::kQueueWait, "queue_wait", absl::StatusCode::kResourceExhausted},
      {RejectReason::kQueueTokens, "queue_tokens", absl::StatusCode::kResourceExhausted},
      {RejectReason::kDeadlineInfeasible, "deadline_infeasible",
       absl::StatusCode::kDeadlineExceeded},
      {RejectReason::kDraining, "draining", absl::StatusCode::kUnavailable},
      {RejectReason::kBreaker, "breaker", absl::StatusCode::kUnavailable}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    EXPECT_STREQ(RejectReasonName(row.reason), row.name);
    const absl::Status status = Rejected(row.reason, "full", absl::Milliseconds(1500));
    EXPECT_EQ(status.code(), row.code);
    EXPECT_EQ(status.message(), "full");
    EXPECT_EQ(RejectReasonOf(status), row.reason);
    EXPECT_EQ(RetryAfterOf(status), absl::Milliseconds(1500));
  }
}

TEST(StatusPayloadTest, ARetryThatCannotHelpIsNegative) {
  const absl::Status status = Rejected(RejectReason::kQueueTokens, "too large", -absl::Seconds(9));
  ASSERT_TRUE(RetryAfterOf(status).has_value());
  EXPECT_LT(*RetryAfterOf(status), absl::ZeroDuration());
}

}  // namespace
}  // namespace vernier
