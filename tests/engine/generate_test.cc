// What one request asks for and gets: ends of text, seeds, log-probabilities, scores.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "tests/engine/running_engine.h"

namespace vernier {
namespace {

using testing::RecordingSink;
using testing::RunningEngine;
using testing::StoryRequest;

constexpr int32_t kEndOfText = 2;

class GenerateTest : public ::testing::Test {
 protected:
  void SetUp() override { running_.Start({.kv_blocks = 64, .max_context = 512}); }

  RunningEngine running_;
};

TEST_F(GenerateTest, GreedyTextIsTheRecordedOne) {
  for (const auto& line :
       testing::ReadJsonLines(testing::TestDataPath("stories260K/greedy_golden.jsonl"))) {
    Request request = StoryRequest(static_cast<int64_t>(line["greedy_ids"].size()));
    request.prompt = line["prompt_ids"].get<std::vector<int32_t>>();
    const auto sink = running_.Run(request);
    EXPECT_EQ(sink->ids(), line["greedy_ids"].get<std::vector<int32_t>>());
    const FinishEvent event = sink->Wait();
    EXPECT_EQ(event.reason, FinishReason::kLength);
    EXPECT_EQ(event.prompt_tokens, static_cast<int64_t>(request.prompt.size()));
    EXPECT_EQ(event.completion_tokens, request.sampling.max_tokens);
    EXPECT_EQ(event.stop_token, -1);
    EXPECT_TRUE(event.status.ok());
  }
}

TEST_F(GenerateTest, AStopTokenEndsTheTextAndIsNotPartOfIt) {
  const std::vector<int32_t> greedy = running_.Run(StoryRequest(40))->ids();
  const int32_t stop = greedy[20];
  const auto first = std::find(greedy.begin(), greedy.end(), stop);
  Request request = StoryRequest(40);
  request.sampling.stop_token_ids = {stop};
  const auto sink = running_.Run(request);
  EXPECT_EQ(sink->ids(), std::vector<int32_t>(greedy.begin(), first));
  EXPECT_EQ(sink->Wait().reason, FinishReason::kStop);
  EXPECT_EQ(sink->Wait().stop_token, stop);
  EXPECT_EQ(sink->Wait().completion_tokens, first - greedy.begin());
}

TEST_F(GenerateTest, NoStopTokenIsDrawnBeforeMinTokens) {
  Request request = StoryRequest(40);
  request.sampling.ignore_eos = false;
  request.sampling.stop_token_ids = {7};
  request.sampling.logit_bias = {{.id = 7, .bias = 100}, {.id = kEndOfText, .bias = 99}};
  EXPECT_EQ(running_.Run(request)->Wait().completion_tokens, 0);
  request.sampling.min_tokens = 12;
  const auto sink = running_.Run(request);
  EXPECT_EQ(sink->Wait().reason, FinishReason::kStop);
  EXPECT_EQ(sink->Wait().completion_tokens, 12);
  for (const int32_t id : sink->ids()) EXPECT_TRUE(id != 7 && id != kEndOfText);
}

TEST_F(GenerateTest, TheEndOfTextEndsUnlessItIsIgnored) {
  Request request = StoryRequest(6);
  request.sampling.ignore_eos = false;
  request.sampling.logit_bias = {{.id = kEndOfText, .bias = 100}};
  const auto ended = running_.Run(request);
  EXPECT_EQ(ended->Wait().reason, FinishReason::kEos);
  EXPECT_EQ(ended->Wait().stop_token, kEndOfText);
  EXPECT_TRUE(ended->ids().empty());
  request.sampling.ignore_eos = true;
  const auto ignored = running_.Run(request);
  EXPECT_EQ(ignored->Wait().reason, FinishReason::kLength);
  EXPECT_EQ(ignored->ids(), std::vector<int32_t>(6, kEndOfText));
}

TEST_F(GenerateTest, ASeedRepeatsATextAndOthersDiffer) {
  std::set<std::vector<int32_t>> texts;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    Request request = StoryRequest(30);
    request.sampling.temperature = 1;
    request.sampling.seed = seed;
    const std::vector<int32_t> text = running_.Run(request)->ids();
    EXPECT_EQ(running_.Run(request)->ids(), text) << seed;
    texts.insert(text);
  }
  EXPECT_EQ(texts.size(), 3u);
}

TEST_F(GenerateTest, SamplesOfOnePromptRunTogetherAsTheyDoAlone) {
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<Request> requests;
  running_.backend->Hold();
  for (uint64_t n = 0; n < 8; ++n) {
    Request& request = requests.emplace_back(StoryRequest(20));
    request.sampling.temperature = 1;
    request.sampling.seed = n;
    sinks.push_back(running_.Submit(request).sink);
  }
  running_.backend->Release();
  std::set<std::vector<int32_t>> texts;
  for (size_t n = 0; n < sinks.size(); ++n) {
    sinks[n]->Wait();
    texts.insert(sinks[n]->ids());
    EXPECT_EQ(running_.Run(requests[n])->ids(), sinks[n]->ids());
  }
  EXPECT_EQ(texts.size(), 8u);
}

TEST_F(GenerateTest, LogprobsAreOfTheDrawnTokenAndTheBest) {
  Request request = StoryRequest(10);
  EXPECT_FALSE(running_.Run(request)->tokens()[0].has_logprob);
  request.sampling.logprobs = 5;
  for (const TokenEvent& token : running_.Run(request)->tokens()) {
    EXPECT_TRUE(token.has_logprob);
    ASSERT_EQ(token.top.count, 5);
    EXPECT_EQ(token.top.entries[0].id, token.id);  // greedy
    EXPECT_EQ(token.top.entries[0].logprob, token.logprob);
    EXPECT_LT(token.logprob, 0);
    for (int k = 1; k < 5; ++k) {
      EXPECT_GE(token.top.entries[k - 1].logprob, token.top.entries[k].logprob);
    }
  }
}

TEST_F(GenerateTest, LogprobsOfAPromptAreItsScoresAndThoseOfItsText) {
  Request text = StoryRequest(30);
  text.sampling.logprobs = 0;
  const auto generated = running_.Run(text);

  Request again = StoryRequest(1);
  for (const int32_t id : generated->ids()) again.prompt.push_back(id);
  again.sampling.prompt_logprobs = 3;
  const auto prompt = running_.Run(again);

  Request score;
  score.prompt = again.prompt;
  score.score.emplace();
  score.score->top_logprobs = 3;
  const auto scored = running_.Run(score);
  EXPECT_EQ(scored->Wait().reason, FinishReason::kStop);
  EXPECT_EQ(scored->Wait().completion_tokens, 0);

  ASSERT_EQ(prompt->first_scored(), 1);
  ASSERT_EQ(scored->first_scored(), 1);
  ASSERT_EQ(prompt->scores().size(), again.prompt.size() - 1);
  ASSERT_EQ(scored->scores().size(), again.prompt.size() - 1);
  for (size_t i = 0; i < scored->scores().size(); ++i) {
    EXPECT_EQ(prompt->scores()[i].logprob, scored->scores()[i].logprob);
    EXPECT_EQ(prompt->scores()[i].top.count, 3);
  }
  const size_t first = text.prompt.size() - 1;
  for (size_t i = 0; i < generated->tokens().size(); ++i) {
    EXPECT_EQ(scored->scores()[first + i].logprob, generated->tokens()[i].logprob) << i;
  }
}

TEST_F(GenerateTest, AScoreMayBeginLater) {
  Request request;
  request.prompt = {1, 403, 407, 261, 378};
  request.score.emplace();
  const auto whole = running_.Run(request);
  request.score->first_target = 3;
  const auto part = running_.Run(request);
  EXPECT_EQ(part->first_scored(), 3);
  ASSERT_EQ(part->scores().size(), 2u);
  EXPECT_EQ(part->scores()[0].logprob, whole->scores()[2].logprob);
  EXPECT_EQ(part->scores()[1].logprob, whole->scores()[3].logprob);
  request.score->first_target = 5;  // beyond the last
  EXPECT_EQ(running_.Run(request)->Wait().reason, FinishReason::kStop);
  request.prompt = {1};
  EXPECT_EQ(running_.Run(request)->Wait().reason, FinishReason::kStop);
}

TEST_F(GenerateTest, APairedScoreComparesTwoVariants) {
  Request request = StoryRequest(0);
  for (int i = 0; i < 100; ++i) request.prompt.push_back(3 + i * 7 % 500);
  request.score.emplace();
  const auto plain = running_.Run(request);
  request.score->reference_variant = 0;  // itself
  const auto same = running_.Run(request);
  request.variant = 1;
  const auto other = running_.Run(request);
  request.score.emplace();
  const auto int8 = running_.Run(request);
  ASSERT_EQ(same->scores().size(), request.prompt.size() - 1);
  ASSERT_EQ(other->scores().size(), request.prompt.size() - 1);
  double divergence = 0;
  for (size_t i = 0; i < same->scores().size(); ++i) {
    const ScoreResult itself = same->scores()[i], against = other->scores()[i];
    EXPECT_EQ(itself.logprob, plain->scores()[i].logprob);
    EXPECT_EQ(itself.reference_logprob, itself.logprob);
    EXPECT_EQ(itself.kl_from_reference, 0);
    EXPECT_EQ(itself.top_k_overlap, 1);
    EXPECT_EQ(against.logprob, int8->scores()[i].logprob);
    EXPECT_EQ(against.reference_logprob, plain->scores()[i].logprob);
    divergence += double{against.kl_from_reference};
  }
  EXPECT_GT(divergence, 0);
}

}  // namespace
}  // namespace vernier
