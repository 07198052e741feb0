#include "cli/call_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace vernier::cli {
namespace {

using grpc::StatusCode;
using ::testing::HasSubstr;
using ::testing::Not;

const CallPlace kReached = {"host:1", true};

TEST(CallErrorTest, CodesHaveTheirExitCodes) {
  const auto code = [](StatusCode status) { return Explain({status, "text"}, kReached).exit_code; };
  EXPECT_EQ(code(StatusCode::INVALID_ARGUMENT), 65);
  EXPECT_EQ(code(StatusCode::OUT_OF_RANGE), 65);
  EXPECT_EQ(code(StatusCode::UNAVAILABLE), 69);
  EXPECT_EQ(code(StatusCode::RESOURCE_EXHAUSTED), 69);
  for (const StatusCode other :
       {StatusCode::CANCELLED, StatusCode::UNKNOWN, StatusCode::DEADLINE_EXCEEDED,
        StatusCode::NOT_FOUND, StatusCode::FAILED_PRECONDITION, StatusCode::INTERNAL,
        StatusCode::UNIMPLEMENTED}) {
    EXPECT_EQ(code(other), 1) << other;
  }
}

TEST(CallErrorTest, AnUnreachableServerIsToldHowToStart) {
  const CommandResult result = Explain(
      {StatusCode::UNAVAILABLE, "failed to connect: Connection refused"}, {"host:1", false});
  EXPECT_EQ(result.exit_code, 69);
  EXPECT_THAT(result.error, HasSubstr("host:1 cannot be reached (connection refused)"));
  EXPECT_THAT(result.error, HasSubstr("is vernierd running? Start it with `vernierd --model PATH"));
}

TEST(CallErrorTest, AServerThatLoadsIsNotUnreachable) {
  const CommandResult result =
      Explain({StatusCode::UNAVAILABLE, "the model is still loading"}, kReached);
  EXPECT_EQ(result.error, "unavailable: the model is still loading");
}

TEST(CallErrorTest, DetailsNameTheFieldItsFlagAndTheLimit) {
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("base.sampling.top_p");
  violation->set_description("is 1.5, must be in (0, 1]");
  google::rpc::Status rich;
  rich.add_details()->PackFrom(bad);
  const CommandResult result =
      Explain({StatusCode::INVALID_ARGUMENT, "short", rich.SerializeAsString()}, kReached);
  EXPECT_EQ(result.error,
            "invalid argument: base.sampling.top_p (--top-p) is 1.5, must be in (0, 1]");
}

TEST(CallErrorTest, ARetryHintIsTold) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(1);
  retry.mutable_retry_delay()->set_nanos(500'000'000);
  google::rpc::Status rich;
  rich.add_details()->PackFrom(retry);
  const CommandResult result = Explain(
      {StatusCode::RESOURCE_EXHAUSTED, "the queue is full", rich.SerializeAsString()}, kReached);
  EXPECT_EQ(result.error, "too busy: the queue is full; try again in 1.5 s");
}

TEST(CallErrorTest, HostileTextAndDetailsDoNoHarm) {
  const CommandResult result =
      Explain({StatusCode::INTERNAL, "\x1b[31mboo", "not a message"}, kReached);
  EXPECT_THAT(result.error, Not(HasSubstr("\x1b")));
  EXPECT_EQ(CodeWords(99), "error 99");
}

}  // namespace
}  // namespace vernier::cli
