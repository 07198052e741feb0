#include "server/generate.h"

#include "engine/status_payload.h"
#include "server/score.h"
#include "tests/server/calls_fixture.h"

namespace vernier {
namespace {

using Shape = GenerateCall::Shape;

class GenerateTest : public testing::CallsTest {
 protected:
  GenerateSpec Spec(const std::string& prompt, int64_t max_tokens) {
    v1::GenerateRequest request;
    request.set_prompt(prompt);
    request.mutable_sampling()->set_max_tokens(max_tokens);
    request.mutable_sampling()->set_seed(7);
    return *ConvertGenerate(request, *model_, engine_.max_context());
  }
  double Count(const std::string& code, const std::string& reason) {
    double count = 0;
    for (const auto& family : metrics_.Collect()) {
      if (family.name != "vernier_requests_total") continue;
      for (const auto& metric : family.metric) {
        bool match = true;
        for (const auto& label : metric.label) {
          if (label.name == "code") match = match && label.value == code;
          if (label.name == "finished_reason") match = match && label.value == reason;
        }
        if (match) count += metric.counter.value;
      }
    }
    return count;
  }
};

TEST_F(GenerateTest, UnaryAnswersWithTextUsageAndWhoServed) {
  auto call = StartCall<GenerateCall>(Method::kGenerate, Spec("hi", 3), Shape::kUnary);
  engine_.Emit(0, {'a', 'b', 'c'});
  engine_.Finish(0, FinishReason::kLength, 3);
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto reply = client_.Reply<v1::GenerateResponse>();
  ASSERT_EQ(reply.completions_size(), 1);
  EXPECT_EQ(reply.completions(0).text(), "abc");
  EXPECT_EQ(reply.completions(0).finish_reason(), v1::LENGTH);
  EXPECT_EQ(reply.usage().prompt_tokens(), 3u);  // BOS and two bytes
  EXPECT_EQ(reply.usage().completion_tokens(), 3u);
  EXPECT_EQ(reply.served_by().variant(), "fp16");
  EXPECT_EQ(reply.served_by().seed(), 7u);
  EXPECT_EQ(engine_.load().requests, 0);
  EXPECT_EQ(Count("OK", "length"), 1);
}

TEST_F(GenerateTest, StreamStartsWithWhoServedAndEndsWithFinish) {
  auto call = StartCall<GenerateCall>(Method::kGenerateStream, Spec("hi", 3), Shape::kStream);
  engine_.Emit(0, {'a'});
  client_.AwaitMessages(2);
  engine_.Emit(0, {'b', 'c'});
  engine_.Finish(0, FinishReason::kEos, 3);
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto messages = client_.Messages<v1::GenerateStreamResponse>();
  ASSERT_TRUE(messages.front().has_start());
  EXPECT_EQ(messages.front().start().prompt_token_ids_size(), 3);
  ASSERT_TRUE(messages.back().has_finish());
  EXPECT_EQ(messages.back().finish().finish_reason(), v1::EOS);
  std::string text;
  for (const auto& message : messages) text += message.delta().text();
  EXPECT_EQ(text, "abc");
}

TEST_F(GenerateTest, SlowClientGetsWaitingTokensInOneMessage) {
  auto call =
      StartCall<GenerateCall>(Method::kGenerateStream, Spec("hi", 8), Shape::kStream, false);
  engine_.Emit(0, {'a'});
  client_.AwaitMessages(1);  // the start is in flight
  engine_.Emit(0, {'b', 'c', 'd'});
  engine_.Finish(0, FinishReason::kLength, 4);
  client_.Follow(call.get(), true);
  call->OnWritten(true);
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto messages = client_.Messages<v1::GenerateStreamResponse>();
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[1].delta().text(), "abcd");
  EXPECT_EQ(messages[1].delta().token_ids_size(), 4);
}

TEST_F(GenerateTest, F27ClientThatDoesNotReadForFiveSecondsIsEnded) {
  auto call =
      StartCall<GenerateCall>(Method::kGenerateStream, Spec("hi", 8), Shape::kStream, false);
  engine_.Emit(0, {'a'});
  client_.AwaitMessages(1);
  Request* request = engine_.Await(0);
  clock_.Advance(absl::Seconds(5.1));
  engine_.Emit(0, {'b'});  // the writer looks at the age at the latest now
  while (request->control->end() == EndReason::kNone) writers_.Tick();
  EXPECT_EQ(request->control->end(), EndReason::kSlowConsumer);
  engine_.Finish(0, FinishReason::kSlowConsumer, 2);
  EXPECT_EQ(client_.AwaitStatus().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(client_.delivered_tokens(), 2);
  EXPECT_EQ(Count("RESOURCE_EXHAUSTED", "slow_consumer"), 1);
}

TEST_F(GenerateTest, F27FinishedAnswerIsNotHeldForeverForAClientThatDoesNotRead) {
  auto call =
      StartCall<GenerateCall>(Method::kGenerateStream, Spec("hi", 8), Shape::kStream, false);
  engine_.Emit(0, {'a'});
  engine_.Finish(0, FinishReason::kLength, 1);
  client_.AwaitMessages(1);
  clock_.Advance(absl::Seconds(6));
  writers_.Tick();
  EXPECT_EQ(client_.AwaitStatus().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(GenerateTest, F8StopStringSplitOverTokensEndsTheRequest) {
  GenerateSpec spec = Spec("hi", 8);
  spec.stops = {"END"};
  auto call = StartCall<GenerateCall>(Method::kGenerateStream, spec, Shape::kStream);
  Request* request = engine_.Await(0);
  engine_.Emit(0, {'x', 'E', 'N'});
  EXPECT_EQ(request->control->end(), EndReason::kNone);
  engine_.Emit(0, {'D', 'y', 'z'});
  while (request->control->end() == EndReason::kNone) writers_.Tick();
  EXPECT_EQ(request->control->end(), EndReason::kStopMatched);
  engine_.Finish(0, FinishReason::kStop, 6);
  ASSERT_TRUE(client_.AwaitStatus().ok());
  std::string text;
  const auto messages = client_.Messages<v1::GenerateStreamResponse>();
  for (const auto& message : messages) text += message.delta().text();
  EXPECT_EQ(text, "x");
  EXPECT_EQ(messages.back().finish().stop_match(), "END");
  // What came after the match is neither delivered nor counted.
  EXPECT_EQ(messages.back().finish().usage().completion_tokens(), 4u);
}

TEST_F(GenerateTest, SamplesUseConsecutiveSeedsAndShareTheAnswer) {
  GenerateSpec spec = Spec("hi", 2);
  spec.samples = 3;
  auto call = StartCall<GenerateCall>(Method::kGenerate, spec, Shape::kUnary);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(engine_.Await(i)->sampling.seed, 7 + i);
    engine_.Emit(i, {static_cast<int32_t>('a' + i)});
    engine_.Finish(i, FinishReason::kEos, 1);
  }
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto reply = client_.Reply<v1::GenerateResponse>();
  ASSERT_EQ(reply.completions_size(), 3);
  EXPECT_EQ(reply.completions(2).text(), "c");
  EXPECT_EQ(reply.completions(2).seed(), 9u);
  EXPECT_EQ(reply.usage().completion_tokens(), 3u);
  EXPECT_EQ(reply.usage().prompt_tokens(), 3u);
}

TEST_F(GenerateTest, CancelEndsTheRequestAndIsCountedOnce) {
  auto call = StartCall<GenerateCall>(Method::kGenerateStream, Spec("hi", 8), Shape::kStream);
  engine_.Emit(0, {'a'});
  client_.AwaitMessages(2);
  call->Cancel();
  EXPECT_EQ(engine_.Await(0)->control->end(), EndReason::kCancelled);
  engine_.Finish(0, FinishReason::kCancelled, 1);
  EXPECT_EQ(client_.AwaitStatus().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(Count("CANCELLED", "cancelled"), 1);
}

TEST_F(GenerateTest, DeadlineBeforeTheFirstTokenWritesNothing) {
  auto call = StartCall<GenerateCall>(Method::kGenerateStream, Spec("hi", 8), Shape::kStream);
  engine_.Await(0);
  engine_.Finish(0, FinishReason::kDeadline, 0);
  EXPECT_EQ(client_.AwaitStatus().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(client_.Messages<v1::GenerateStreamResponse>().empty());
  EXPECT_EQ(client_.delivered_tokens(), -1);
}

TEST_F(GenerateTest, F15PastDeadlineIsRefusedAtAdmission) {
  CallContext context = Context(Method::kGenerate);
  context.deadline = clock_.Now() - absl::Milliseconds(1);
  auto call =
      std::make_shared<GenerateCall>(&served_, context, &client_, Spec("hi", 8), Shape::kUnary);
  call->Start();
  EXPECT_EQ(client_.AwaitStatus().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(engine_.submitted(), 0u);
  EXPECT_EQ(Count("DEADLINE_EXCEEDED", "rejected"), 1);
}

TEST_F(GenerateTest, F65FullQueueIsResourceExhaustedBeforeTokenizing) {
  auto held = engine_.Reserve(16, 1, 1, {});
  ASSERT_TRUE(held.ok());
  auto call = StartCall<GenerateCall>(Method::kGenerate, Spec("hi", 8), Shape::kUnary);
  const absl::Status status = client_.AwaitStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GT(*RetryAfterOf(status), absl::ZeroDuration());
  EXPECT_EQ(engine_.submitted(), 0u);
  EXPECT_EQ(Count("RESOURCE_EXHAUSTED", "rejected"), 1);
}

TEST_F(GenerateTest, TheEngineKnowsTenantAndSalt) {
  CallContext context = Context(Method::kGenerate);
  context.tenant = "acme";
  GenerateSpec spec = Spec("hi", 8);
  spec.cache_salt = "s";
  auto call =
      std::make_shared<GenerateCall>(&served_, context, &client_, std::move(spec), Shape::kUnary);
  call->Start();
  EXPECT_EQ(engine_.Await(0)->tenant, "acme");
  EXPECT_EQ(engine_.Await(0)->cache_salt, "s");
  engine_.Finish(0, FinishReason::kLength, 0);
  EXPECT_TRUE(client_.AwaitStatus().ok());
}

TEST_F(GenerateTest, DrainingServerSaysWhenToRetry) {
  engine_.StartDrain();
  auto call = StartCall<GenerateCall>(Method::kGenerate, Spec("hi", 8), Shape::kUnary);
  const absl::Status status = client_.AwaitStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_GT(*RetryAfterOf(status), absl::ZeroDuration());
}

TEST_F(GenerateTest, PromptLongerThanTheContextIsRefusedAndGivesItsRoomBack) {
  auto call =
      StartCall<GenerateCall>(Method::kGenerate, Spec(std::string(64, 'x'), 8), Shape::kUnary);
  EXPECT_EQ(client_.AwaitStatus().code(), absl::StatusCode::kInvalidArgument);
  call.reset();
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(GenerateTest, ReservationIsTrimmedToTheTokens) {
  auto call = StartCall<GenerateCall>(Method::kGenerate, Spec("hello", 8), Shape::kUnary);
  Request* request = engine_.Await(0);
  EXPECT_EQ(request->reservation.tokens(), 6 + 8);
  EXPECT_EQ(engine_.load().tokens, 6 + 8);
  engine_.Finish(0, FinishReason::kLength, 0);
  EXPECT_TRUE(client_.AwaitStatus().ok());
}

class ScoreTest : public testing::CallsTest {};

TEST_F(ScoreTest, WindowsAreScoredFromTheirOwnFirstToken) {
  ScoreSpec spec;
  spec.input.kind = PromptInput::Kind::kIds;
  spec.input.ids = {1, 2, 3, 4, 5};
  spec.window = 2;
  auto call = std::make_shared<ScoreCall>(&served_, Context(Method::kScore), &client_, spec, "");
  call->Start();
  for (size_t i = 0; i < 2; ++i) {  // the last window has one token: nothing to score
    Request* request = engine_.Await(i);
    ASSERT_EQ(request->prompt.size(), 2u);
    ScoreResult result;
    result.logprob = -1.5f;
    request->sink->OnScores(1, std::span(&result, 1));
    engine_.Finish(i, FinishReason::kLength, 0);
  }
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto reply = client_.Reply<v1::ScoreResponse>();
  EXPECT_EQ(reply.scored_tokens(), 2u);
  EXPECT_DOUBLE_EQ(reply.sum_logprob(), -3);
  ASSERT_EQ(reply.positions_size(), 2);
  EXPECT_EQ(reply.positions(1), 3u);
  EXPECT_EQ(engine_.load().requests, 0);
}

TEST_F(ScoreTest, OneTokenHasNoPerplexity) {
  ScoreSpec spec;
  spec.input.kind = PromptInput::Kind::kIds;
  spec.input.ids = {1};
  auto call = std::make_shared<ScoreCall>(&served_, Context(Method::kScore), &client_, spec, "");
  call->Start();
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto reply = client_.Reply<v1::ScoreResponse>();
  EXPECT_EQ(reply.scored_tokens(), 0u);
  EXPECT_TRUE(std::isnan(reply.perplexity()));
}

}  // namespace
}  // namespace vernier
