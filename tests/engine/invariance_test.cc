// A request gives the same tokens and log-probabilities, to the bit, whatever else runs and however
// it is run: fault cases F42, F56 and F70.
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/engine/running_engine.h"

namespace vernier {
namespace {

using testing::RecordingSink;
using testing::RunningEngine;

constexpr int kRequests = 32;
constexpr int64_t kMaxContext = 96;
constexpr uint64_t kSeed = 20240607;

std::vector<Request> Requests() {
  std::mt19937_64 random(kSeed);
  std::vector<Request> requests(kRequests);
  for (size_t i = 0; i < requests.size(); ++i) {
    Request& request = requests[i];
    request.id = i;
    request.variant = static_cast<int>(i % 2);
    request.priority = i % 5 == 4 ? Priority::kLow : Priority::kNormal;
    request.prompt.resize(1 + random() % 45);
    for (int32_t& id : request.prompt) id = static_cast<int32_t>(3 + random() % 509);
    request.sampling.max_tokens = 20 + static_cast<int64_t>(random() % 30);
    request.sampling.seed = random();
    request.sampling.ignore_eos = true;
    request.sampling.logprobs = 2;
    switch (i % 4) {
      case 0:
        request.sampling.temperature = 0;
        break;
      case 1:
        request.sampling.temperature = 0.8f;
        request.sampling.top_p = 0.9f;
        break;
      case 2:
        request.sampling.frequency_penalty = 0.7f;
        request.sampling.repetition_penalty = 1.2f;
        request.sampling.prompt_logprobs = 1;
        break;
      default:  // a score against the other variant
        request.score.emplace();
        request.score->reference_variant = 1 - request.variant;
    }
  }
  return requests;
}

// All that a request was told, as text: floats by their bits.
std::string TextOf(RecordingSink* sink) {
  std::string text;
  const auto add = [&](float value) {
    text += std::to_string(std::bit_cast<uint32_t>(value)) + " ";
  };
  for (const TokenEvent& token : sink->tokens()) {
    text += std::to_string(token.id) + ":";
    add(token.logprob);
    for (int k = 0; k < token.top.count; ++k) add(token.top.entries[k].logprob);
  }
  for (const ScoreResult& score : sink->scores()) {
    text += "|";
    for (const float value : {score.logprob, score.margin, score.reference_logprob,
                              score.kl_from_reference, score.kl_to_reference}) {
      add(value);
    }
  }
  return text;
}

EngineOptions Options() {
  return {.max_sequences = 32, .kv_blocks = 256, .max_context = kMaxContext};
}

std::vector<std::string> Alone() {
  RunningEngine running;
  running.Start(Options());
  std::vector<std::string> texts;
  if (running.engine == nullptr) return texts;
  for (const Request& request : Requests()) {
    texts.push_back(TextOf(running.Run(request).get()));
    EXPECT_GT(texts.back().size(), 0u);
  }
  return texts;
}

std::vector<std::string> Together(RunningEngine* running) {
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  running->backend->Hold();  // so that they do run together
  for (const Request& request : Requests()) sinks.push_back(running->Submit(request).sink);
  running->backend->Release();
  std::vector<std::string> texts;
  for (const auto& sink : sinks) {
    const FinishEvent event = sink->Wait();
    EXPECT_TRUE(event.status.ok()) << event.status;
    texts.push_back(TextOf(sink.get()));
  }
  return texts;
}

TEST(InvarianceTest, NeighboursChunksDepthAndThreadsChangeNothing) {
  const std::vector<std::string> alone = Alone();
  for (const int threads : {1, 2}) {
    for (const int depth : {1, 2}) {
      for (const int step_tokens : {256, 7}) {
        SCOPED_TRACE(::testing::Message() << threads << " threads, depth " << depth << ", steps of "
                                          << step_tokens << " rows, seed " << kSeed);
        EngineOptions options = Options();
        options.planning_depth = depth;
        options.step_tokens = step_tokens;
        RunningEngine running;
        running.Start(options, threads);
        ASSERT_NE(running.engine, nullptr);
        EXPECT_EQ(Together(&running), alone);
        EXPECT_EQ(running.observer.counts().preempted, 0);
      }
    }
  }
}

TEST(InvarianceTest, PreemptionChangesNothing) {
  const std::vector<std::string> alone = Alone();
  for (const int depth : {1, 2}) {
    SCOPED_TRACE(::testing::Message() << "depth " << depth << ", seed " << kSeed);
    EngineOptions options = Options();
    options.planning_depth = depth;
    options.kv_blocks = 9;
    options.max_preemptions = 1000;
    RunningEngine running;
    running.Start(options);
    ASSERT_NE(running.engine, nullptr);
    EXPECT_EQ(Together(&running), alone);
    EXPECT_GT(running.observer.counts().preempted, 0);
  }
}

// F70: the second run finds what the first computed, the third in another order and in chunks.
TEST(InvarianceTest, APrefixHitChangesNothing) {
  EngineOptions options = Options();
  options.prefix_cache = false;
  options.max_context = 256;
  std::vector<Request> requests = Requests();
  for (Request& request : requests) {
    std::vector<int32_t> common(100, 7);
    request.prompt.insert(request.prompt.begin(), common.begin(), common.end());
    if (request.score.has_value()) request.score->first_target = 90;
  }
  std::vector<std::string> misses;
  {
    RunningEngine running;
    running.Start(options);
    ASSERT_NE(running.engine, nullptr);
    for (const Request& request : requests) {
      const auto sink = running.Run(request);
      EXPECT_EQ(sink->Wait().cached_tokens, 0);
      misses.push_back(TextOf(sink.get()));
    }
  }
  options.prefix_cache = true;
  for (const int step_tokens : {256, 7}) {
    options.step_tokens = step_tokens;
    RunningEngine running;
    running.Start(options);
    ASSERT_NE(running.engine, nullptr);
    int64_t cached = 0;
    for (int run = 0; run < 3; ++run) {
      for (size_t i = 0; i < requests.size(); ++i) {
        const size_t at = run == 2 ? requests.size() - 1 - i : i;
        const auto sink = running.Run(requests[at]);
        cached += sink->Wait().cached_tokens;
        EXPECT_EQ(TextOf(sink.get()), misses[at]) << "request " << at << " run " << run;
      }
    }
    EXPECT_GT(cached, 3 * 16 * 64);
  }
}

TEST(InvarianceTest, ASmallBudgetOfLogitRowsChangesNothing) {
  const std::vector<std::string> alone = Alone();
  EngineOptions options = Options();
  options.max_logit_rows = 3;
  RunningEngine running;
  running.Start(options);
  ASSERT_NE(running.engine, nullptr);
  EXPECT_EQ(Together(&running), alone);
}

}  // namespace
}  // namespace vernier
