#include "server/compare.h"

#include <cmath>

#include "server/divergence.h"
#include "tests/server/calls_fixture.h"

namespace vernier {
namespace {

using Ids = std::vector<int32_t>;
using Shape = CompareCall::Shape;

TEST(DivergenceTest, FirstDifferenceAndEditDistance) {
  EXPECT_EQ(FirstDifference(Ids{1, 2, 3}, Ids{1, 2, 4}), 2);
  EXPECT_EQ(FirstDifference(Ids{1, 2}, Ids{1, 2, 4}), 2);
  EXPECT_EQ(EditDistance(Ids{}, Ids{1, 2}), 2);
  EXPECT_EQ(EditDistance(Ids{1, 2, 3}, Ids{1, 2, 3}), 0);
  EXPECT_EQ(EditDistance(Ids{'k', 'i', 't', 't', 'e', 'n'}, Ids{'s', 'i', 't', 't', 'i', 'n', 'g'}),
            3);
  EXPECT_EQ(EditDistance(Ids{1, 2, 3, 4}, Ids{2, 3, 4, 5}), 2);
}

TEST(DivergenceTest, QuantilesAreNearestRank) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const v1::Distribution d = Distribute(values);
  EXPECT_DOUBLE_EQ(d.mean(), 50.5);
  EXPECT_DOUBLE_EQ(d.p50(), 50);
  EXPECT_DOUBLE_EQ(d.p90(), 90);
  EXPECT_DOUBLE_EQ(d.p99(), 99);
  EXPECT_DOUBLE_EQ(d.max(), 100);
  EXPECT_DOUBLE_EQ(Distribute({}).max(), 0);
}

TEST(DivergenceTest, ForcedScoresAreMeansOverPositions) {
  std::vector<ScoreResult> results(2);
  results[0].logprob = -1;
  results[1].logprob = -3;
  results[0].reference_logprob = results[1].reference_logprob = -1;
  results[0].kl_from_reference = 0.5f;
  results[0].top_k_overlap = 1;
  results[0].top1 = 4;  // the reference's is 0
  const v1::ForcedScores scores = SummarizeForced(results, true);
  EXPECT_EQ(scores.positions(), 2u);
  EXPECT_DOUBLE_EQ(scores.perplexity(), std::exp(2));
  EXPECT_DOUBLE_EQ(scores.reference_perplexity(), std::exp(1));
  EXPECT_DOUBLE_EQ(scores.log_perplexity_difference(), 1);
  EXPECT_DOUBLE_EQ(scores.kl().mean(), 0.25);
  EXPECT_DOUBLE_EQ(scores.top1_agreement(), 0.5);
  EXPECT_DOUBLE_EQ(scores.top_k_overlap(), 0.5);
}

class CompareTest : public testing::CallsTest {
 protected:
  CompareSpec Spec(CompareMode mode) {
    v1::CompareRequest request;
    request.mutable_base()->set_prompt("hi");
    request.mutable_base()->mutable_sampling()->set_max_tokens(4);
    request.add_variants("fp16");
    request.add_variants("nf4");
    CompareSpec spec = *ConvertCompare(request, *model_, engine_.max_context());
    spec.mode = mode;
    return spec;
  }
};

TEST_F(CompareTest, FreeRunsShareSeedAndPromptAndAreComparedToTheReference) {
  auto call = StartCall<CompareCall>(Method::kCompare, Spec(CompareMode::kFree), Shape::kUnary);
  EXPECT_EQ(engine_.Await(0)->sampling.seed, engine_.Await(1)->sampling.seed);
  EXPECT_EQ(engine_.Await(0)->priority, Priority::kLow);
  EXPECT_EQ(engine_.load().requests, 2);
  engine_.Emit(0, {'a', 'b', 'c'});
  engine_.Emit(1, {'a', 'x'});
  engine_.Finish(0, FinishReason::kEos, 3);
  engine_.Finish(1, FinishReason::kEos, 2);
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto reply = client_.Reply<v1::CompareResponse>();
  ASSERT_EQ(reply.results_size(), 2);
  EXPECT_EQ(reply.reference(), "fp16");
  EXPECT_TRUE(reply.results(0).is_reference());
  EXPECT_FALSE(reply.results(0).has_divergence());
  const v1::Divergence& divergence = reply.results(1).divergence();
  EXPECT_EQ(divergence.position(), 1u);
  EXPECT_FLOAT_EQ(divergence.margin(), 1.0f);  // the fake's alternatives are 1 apart
  EXPECT_EQ(divergence.edit_distance_tokens(), 2u);
  EXPECT_DOUBLE_EQ(divergence.length_ratio(), 2.0 / 3);
}

TEST_F(CompareTest, ForcedScoresTheReferencesOwnOutput) {
  auto call = StartCall<CompareCall>(Method::kCompare, Spec(CompareMode::kForced), Shape::kUnary);
  EXPECT_EQ(engine_.Await(0)->variant, 0);  // only the reference writes
  engine_.Emit(0, {'a', 'b'});
  engine_.Finish(0, FinishReason::kLength, 2);
  for (size_t i = 1; i <= 2; ++i) {
    Request* request = engine_.Await(i);
    ASSERT_TRUE(request->score);
    EXPECT_EQ(request->prompt.size(), 5u);
    EXPECT_EQ(request->score->first_target, 3);
    EXPECT_EQ(request->score->reference_variant, i == 1 ? -1 : 0);
    std::vector<ScoreResult> results(2);
    request->sink->OnScores(3, results);
    engine_.Finish(i, FinishReason::kLength, 0);
  }
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto reply = client_.Reply<v1::CompareResponse>();
  EXPECT_EQ(reply.forced_token_ids_size(), 2);
  EXPECT_EQ(reply.results(1).forced().positions(), 2u);
  EXPECT_FALSE(reply.results(1).has_completion());
}

TEST_F(CompareTest, OneVariantsFailureIsInItsPart) {
  auto call = StartCall<CompareCall>(Method::kCompare, Spec(CompareMode::kFree), Shape::kUnary);
  engine_.Emit(0, {'a'});
  engine_.Finish(0, FinishReason::kEos, 1);
  engine_.Finish(1, FinishReason::kError, 0, absl::InternalError("logits held NaN"));
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto reply = client_.Reply<v1::CompareResponse>();
  EXPECT_EQ(reply.results(0).status_code(), 0u);
  EXPECT_EQ(reply.results(1).status_code(), 13u);
  EXPECT_FALSE(reply.results(1).has_divergence());
}

TEST_F(CompareTest, AllVariantsFailingFailsTheCall) {
  auto call = StartCall<CompareCall>(Method::kCompare, Spec(CompareMode::kBoth), Shape::kUnary);
  for (size_t i = 0; i < 2; ++i) {
    engine_.Finish(i, FinishReason::kDeadline, 0);
  }
  EXPECT_EQ(client_.AwaitStatus().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(CompareTest, SerialRunsOneAfterTheOther) {
  CompareSpec spec = Spec(CompareMode::kFree);
  spec.serial = true;
  auto call = StartCall<CompareCall>(Method::kCompare, spec, Shape::kUnary);
  engine_.Emit(0, {'a'});
  EXPECT_EQ(engine_.submitted(), 1u);
  engine_.Finish(0, FinishReason::kEos, 1);
  engine_.Emit(1, {'a'});
  engine_.Finish(1, FinishReason::kEos, 1);
  EXPECT_TRUE(client_.AwaitStatus().ok());
}

TEST_F(CompareTest, StreamTellsWhereTextsPartAndEndsWithTheSummary) {
  auto call =
      StartCall<CompareCall>(Method::kCompareStream, Spec(CompareMode::kFree), Shape::kStream);
  engine_.Emit(0, {'a', 'b'});
  engine_.Emit(1, {'a', 'c'});
  engine_.Finish(0, FinishReason::kEos, 2);
  engine_.Finish(1, FinishReason::kEos, 2);
  ASSERT_TRUE(client_.AwaitStatus().ok());
  const auto messages = client_.Messages<v1::CompareStreamResponse>();
  int divergences = 0;
  std::string texts[2];
  for (const auto& message : messages) {
    if (message.has_divergence()) {
      ++divergences;
      EXPECT_EQ(message.divergence().position(), 1u);
    }
    if (message.has_delta()) {
      texts[message.delta().variant() == "nf4"] += message.delta().delta().text();
    }
  }
  EXPECT_EQ(divergences, 1);
  EXPECT_EQ(texts[0], "ab");
  EXPECT_EQ(texts[1], "ac");
  ASSERT_TRUE(messages.back().has_summary());
  EXPECT_EQ(messages.back().summary().results_size(), 2);
  EXPECT_EQ(messages.back().summary().results(1).completion().text(), "ac");
}

TEST_F(CompareTest, AdmissionCountsEveryRequestAtOnce) {
  auto held = engine_.Reserve(13, 1, 1, {});
  ASSERT_TRUE(held.ok());
  auto call = StartCall<CompareCall>(Method::kCompare, Spec(CompareMode::kBoth), Shape::kUnary);
  EXPECT_EQ(client_.AwaitStatus().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(engine_.submitted(), 0u);
}

}  // namespace
}  // namespace vernier
