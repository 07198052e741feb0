// Nothing of one request ever reaches another: F56 to F59 of the fault cases in their short
// form, on the real engine with a pool that is far too small.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/engine/running_engine.h"

namespace vernier {
namespace {

using testing::RecordingSink;
using testing::RunningEngine;
using testing::StoryRequest;

constexpr int kStreams = 64;

// Its own prompt, class, variant and sampling; every second one asks for log-probabilities.
Request StreamOf(int index) {
  std::mt19937_64 random(static_cast<uint64_t>(index) + 1);
  Request request = StoryRequest(10 + static_cast<int64_t>(random() % 30));
  request.prompt.resize(3 + random() % 90);
  for (int32_t& id : request.prompt) id = static_cast<int32_t>(3 + random() % 500);
  request.variant = index % 2;
  request.priority = index % 3 == 0 ? Priority::kLow : Priority::kNormal;
  request.sampling.temperature = index % 4 == 0 ? 0.0f : 0.9f;
  request.sampling.seed = random();
  request.sampling.logprobs = index % 4 < 2 ? 3 : -1;
  return request;
}

struct Seen {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;  // of the chosen and the alternatives
  bool operator==(const Seen&) const = default;
};

Seen SeenBy(RecordingSink* sink) {
  Seen seen;
  for (const TokenEvent& token : sink->tokens()) {
    seen.ids.push_back(token.id);
    if (!token.has_logprob) {
      EXPECT_EQ(token.top.count, 0);
      continue;
    }
    seen.logprobs.push_back(token.logprob);
    for (int i = 0; i < token.top.count; ++i) seen.logprobs.push_back(token.top.entries[i].logprob);
  }
  return seen;
}

class IsolationTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Depth, IsolationTest, ::testing::Values(1, 2));

TEST_P(IsolationTest, F56StreamsThatSharePlacesSayWhatTheySayAlone) {
  RunningEngine alone, together;
  alone.Start({.kv_blocks = 64, .max_context = 256});
  std::vector<Seen> expected;
  for (int i = 0; i < kStreams; ++i) expected.push_back(SeenBy(alone.Run(StreamOf(i)).get()));

  together.Start({.max_sequences = 24,
                  .step_tokens = 48,
                  .kv_blocks = 40,
                  .max_context = 256,
                  .max_preemptions = 1 << 20,
                  .planning_depth = GetParam()});
  std::vector<RunningEngine::Submitted> streams;
  for (int i = 0; i < kStreams; ++i) {
    streams.push_back(together.Submit(StreamOf(i)));
  }
  // Two of five leave, at once or after some tokens: their places and blocks are others' then.
  for (int i = 0; i < kStreams; ++i) {
    if (i % 5 > 1) continue;
    if (i % 5 == 0) streams[static_cast<size_t>(i)].sink->WaitForTokens(5);
    streams[static_cast<size_t>(i)].control->End(EndReason::kCancelled);
  }
  for (int i = 0; i < kStreams; ++i) {
    streams[static_cast<size_t>(i)].sink->Wait();
    Seen seen = SeenBy(streams[static_cast<size_t>(i)].sink.get());
    Seen& whole = expected[static_cast<size_t>(i)];
    if (i % 5 <= 1) {  // cut somewhere
      ASSERT_LE(seen.ids.size(), whole.ids.size());
      whole.ids.resize(seen.ids.size());
      whole.logprobs.resize(seen.logprobs.size());
    }
    EXPECT_EQ(seen.ids, whole.ids) << "stream " << i;
    EXPECT_EQ(seen.logprobs, whole.logprobs) << "stream " << i;
    const bool asked = StreamOf(i).sampling.logprobs >= 0;
    EXPECT_EQ(seen.logprobs.size(), asked ? 4 * seen.ids.size() : 0u) << "F57, stream " << i;
  }
  EXPECT_GT(together.observer.counts().preempted, 0) << "the pool was to be too small";
}

// F58 is asked by every test that runs this engine: NaN in all that is free changes nothing. Here:
// a read of it would be seen.
TEST_P(IsolationTest, F58WhoReadsABlockThatWasFreedFails) {
  RunningEngine engine;
  engine.Start(
      {.kv_blocks = 64, .max_context = 256, .prefix_cache = false, .planning_depth = GetParam()});
  const auto good = engine.Run(StoryRequest(40));
  EXPECT_TRUE(good->Wait().status.ok());
  engine.backend->ForgetAllAfter(3, 64);
  EXPECT_EQ(engine.Run(StoryRequest(40))->Wait().status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(engine.Run(StoryRequest(40))->ids(), good->ids()) << "others are as they were";
}

TEST_P(IsolationTest, F59WhatAnotherTenantSentIsNotFound) {
  RunningEngine running;
  running.Start({.kv_blocks = 64, .max_context = 512, .planning_depth = GetParam()});
  Request request = StoryRequest(4);
  request.prompt.assign(200, 7);
  const auto cached_by = [&](const std::string& tenant, const std::string& salt) {
    auto sent = std::make_unique<Request>();
    sent->prompt = request.prompt;
    sent->sampling = request.sampling;
    sent->tenant = tenant;
    sent->cache_salt = salt;
    sent->control = std::make_shared<RequestControl>();
    auto sink = std::make_shared<RecordingSink>();
    sent->sink = sink;
    running.engine->Submit(std::move(sent));
    return sink->Wait().cached_tokens;
  };
  EXPECT_EQ(cached_by("a", ""), 0);
  EXPECT_GE(cached_by("a", ""), 192);
  EXPECT_EQ(cached_by("b", ""), 0) << "as if nobody had sent it";
  EXPECT_EQ(cached_by("a", "salt"), 0);
  EXPECT_GE(cached_by("b", ""), 192);
}

}  // namespace
}  // namespace vernier
