// How requests end: by their clients, by the clock, by the device, by the engine's own end. Each
// exactly once.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine_limits.h"
#include "engine/status_payload.h"
#include "tests/engine/running_engine.h"

namespace vernier {
namespace {

using testing::RecordingSink;
using testing::RunningEngine;
using testing::StoryRequest;

EngineOptions OptionsOf(int planning_depth) {
  return {.kv_blocks = 64, .max_context = 512, .planning_depth = planning_depth};
}

class LifecycleTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { running_.Start(OptionsOf(GetParam())); }

  // Nothing is held any more.
  void ExpectIdle() {
    const EngineSnapshot snapshot = running_.engine->Snapshot();
    EXPECT_EQ(snapshot.kv_blocks_free, snapshot.kv_blocks_total);
  }

  RunningEngine running_;
};

INSTANTIATE_TEST_SUITE_P(Depth, LifecycleTest, ::testing::Values(1, 2));

TEST_P(LifecycleTest, ACancelWhileWaitingEndsWithoutAToken) {
  running_.backend->Hold();
  const auto busy = running_.Submit(StoryRequest(3));
  running_.backend->AwaitHeld();
  const auto waiting = running_.Submit(StoryRequest(400));
  waiting.control->End(EndReason::kCancelled);
  running_.backend->Release();
  const FinishEvent event = waiting.sink->Wait();
  EXPECT_EQ(event.reason, FinishReason::kCancelled);
  EXPECT_EQ(event.status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(waiting.sink->ids().empty());
  EXPECT_EQ(busy.sink->Wait().reason, FinishReason::kLength);
}

TEST_P(LifecycleTest, ACancelInAPromptEndsWithoutAToken) {
  Request request = StoryRequest(10);
  request.prompt.assign(480, 5);  // two steps
  running_.backend->Hold();
  const auto submitted = running_.Submit(request);
  running_.backend->AwaitHeld();
  submitted.control->End(EndReason::kCancelled);
  running_.backend->Release();
  EXPECT_EQ(submitted.sink->Wait().reason, FinishReason::kCancelled);
  EXPECT_TRUE(submitted.sink->ids().empty());
  ExpectIdle();
  EXPECT_EQ(running_.observer.counts().released, 1);
}

TEST_P(LifecycleTest, ACancelInTheTextEndsIt) {
  auto sink = std::make_shared<RecordingSink>();
  std::shared_ptr<RequestControl> control;
  running_.backend->Hold();
  // The cancel is set by the device thread itself, so that the test knows when.
  sink->on_token = [&](const TokenEvent& token) {
    if (token.index == 9) control->End(EndReason::kCancelled);
  };
  control = running_.Submit(StoryRequest(400), sink).control;
  running_.backend->Release();
  const FinishEvent event = sink->Wait();
  EXPECT_EQ(event.reason, FinishReason::kCancelled);
  EXPECT_EQ(event.completion_tokens, 10);
  EXPECT_EQ(sink->ids().size(), 10u);
  ExpectIdle();
}

TEST_P(LifecycleTest, EachSignalHasItsReasonAndStatus) {
  struct Row {
    EndReason signal;
    FinishReason reason;
    absl::StatusCode code;
  };
  const Row rows[] = {
      {EndReason::kCancelled, FinishReason::kCancelled, absl::StatusCode::kCancelled},
      {EndReason::kStopMatched, FinishReason::kStop, absl::StatusCode::kOk},
      {EndReason::kDeadline, FinishReason::kDeadline, absl::StatusCode::kDeadlineExceeded},
      {EndReason::kSlowConsumer, FinishReason::kSlowConsumer,
       absl::StatusCode::kResourceExhausted}};
  for (const Row& row : rows) {
    const auto submitted = running_.Submit(StoryRequest(500));
    EXPECT_TRUE(submitted.control->End(row.signal));
    EXPECT_FALSE(submitted.control->End(EndReason::kCancelled));  // the first one holds
    const FinishEvent event = submitted.sink->Wait();
    EXPECT_EQ(event.reason, row.reason);
    EXPECT_EQ(event.status.code(), row.code);
  }
}

TEST_P(LifecycleTest, TheDeadlineAndTheTimeLimitEndAText) {
  for (const bool is_deadline : {true, false}) {
    Request request = StoryRequest(500);
    (is_deadline ? request.deadline : request.time_limit) =
        running_.clock.Now() + absl::Seconds(10);
    auto sink = std::make_shared<RecordingSink>();
    sink->on_token = [&](const TokenEvent& token) {
      if (token.index == 4) running_.clock.Advance(absl::Seconds(10));
    };
    running_.Submit(request, sink);
    const FinishEvent event = sink->Wait();
    EXPECT_EQ(event.reason, is_deadline ? FinishReason::kDeadline : FinishReason::kTimeLimit);
    EXPECT_EQ(event.status.code(),
              is_deadline ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kOk);
    EXPECT_EQ(event.completion_tokens, 5);
    EXPECT_EQ(event.timings.total, absl::Seconds(10));
  }
}

TEST_P(LifecycleTest, WhatCannotBeRunIsRefusedWithItsField) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  std::vector<std::pair<Request, std::string>> refused;
  const auto with = [&](const std::string& field, auto change) {
    Request request = StoryRequest(10);
    change(&request);
    refused.emplace_back(std::move(request), field);
  };
  with("prompt", [](Request* r) { r->prompt.clear(); });
  with("prompt", [](Request* r) { r->prompt.assign(503, 1); });
  with("sampling.max_tokens", [](Request* r) { r->sampling.max_tokens = kHuge; });
  with("sampling.max_tokens", [](Request* r) { r->sampling.max_tokens = 0; });
  with("sampling.max_tokens", [](Request* r) { r->sampling.max_tokens = -kHuge; });
  with("token_ids", [](Request* r) { r->prompt.push_back(512); });
  with("token_ids", [](Request* r) { r->prompt.insert(r->prompt.begin(), -1); });
  with("variant", [](Request* r) { r->variant = 2; });
  with("variant", [](Request* r) { r->variant = -1; });
  with("reference_variant", [](Request* r) { r->score.emplace().reference_variant = 2; });
  for (const auto& [request, field] : refused) {
    SCOPED_TRACE(field);
    const FinishEvent event = running_.Run(request)->Wait();
    EXPECT_EQ(event.reason, FinishReason::kError);
    EXPECT_EQ(event.status.code(), absl::StatusCode::kInvalidArgument);
    ASSERT_TRUE(FieldViolationOf(event.status).has_value());
    EXPECT_EQ(FieldViolationOf(event.status)->field, field);
  }
  Request exact = StoryRequest(12);
  exact.prompt.assign(500, 1);
  EXPECT_EQ(running_.Run(exact)->Wait().reason, FinishReason::kLength);
}

TEST_P(LifecycleTest, F40NanEndsItsRequestAndSparesTheNeighbours) {
  const std::vector<int32_t> alone = running_.Run(StoryRequest(30))->ids();
  running_.backend->CorruptSeed(77);
  running_.backend->Hold();
  Request corrupt = StoryRequest(30);
  corrupt.id = 0xabcd;
  corrupt.sampling.seed = 77;
  const auto before = running_.Submit(StoryRequest(30));
  const auto hit = running_.Submit(corrupt);
  const auto after = running_.Submit(StoryRequest(30));
  running_.backend->Release();
  const FinishEvent event = hit.sink->Wait();
  EXPECT_EQ(event.reason, FinishReason::kError);
  EXPECT_EQ(event.status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(event.status.message(), "internal error, incident 000000000000abcd");
  EXPECT_TRUE(hit.sink->ids().empty());
  for (const auto& neighbour : {before, after}) {
    EXPECT_EQ(neighbour.sink->Wait().reason, FinishReason::kLength);
    EXPECT_EQ(neighbour.sink->ids(), alone);
  }
  EXPECT_EQ(running_.observer.counts().corrupted, 1);
}

TEST_P(LifecycleTest, InfinityInAScoreEndsItAndNamesTheVariant) {
  running_.backend->CorruptScores();
  for (const int reference : {-1, 1}) {
    Request request = StoryRequest(0);
    request.score.emplace();
    request.score->reference_variant = reference;
    const auto sink = running_.Run(request);
    EXPECT_EQ(sink->Wait().reason, FinishReason::kError);
    EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kInternal);
    EXPECT_TRUE(sink->scores().empty());
    EXPECT_EQ(running_.observer.counts().corrupted_variant, reference < 0 ? 0 : reference);
  }
}

TEST_P(LifecycleTest, F40ALostDeviceEndsEveryRequestOnce) {
  for (const int steps : {0, 1, 5}) {
    RunningEngine running;
    running.Start(OptionsOf(GetParam()));
    ASSERT_NE(running.engine, nullptr);
    running.backend->FailAfter(steps);
    running.backend->Hold();
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (int i = 0; i < 6; ++i) {
      Request request = StoryRequest(50);
      request.variant = i % 2;  // with depth 2 both are in flight
      if (i == 4) request.score.emplace();
      sinks.push_back(running.Submit(request).sink);
    }
    running.backend->Release();
    for (const auto& sink : sinks) {
      const FinishEvent event = sink->Wait();
      if (event.reason == FinishReason::kStop) continue;  // the score may have been in time
      EXPECT_EQ(event.reason, FinishReason::kError);
      EXPECT_EQ(event.status.code(), absl::StatusCode::kUnavailable);
    }
    EXPECT_FALSE(running.engine->Snapshot().device.ok());
    const auto late = running.Run(StoryRequest(5));
    EXPECT_EQ(late->Wait().status.code(), absl::StatusCode::kUnavailable);
    running.engine->Stop();
    for (const auto& sink : sinks) EXPECT_EQ(sink->finishes(), 1);
    EXPECT_EQ(late->finishes(), 1);
    EXPECT_EQ(running.observer.counts().finished, 7);
    const EngineSnapshot snapshot = running.engine->Snapshot();
    EXPECT_FALSE(snapshot.device.ok());
    EXPECT_EQ(snapshot.kv_blocks_free, snapshot.kv_blocks_total);
  }
}

TEST_P(LifecycleTest, StopEndsWhatRunsAndWhatComesLater) {
  running_.backend->Hold();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 4; ++i) {
    Request request = StoryRequest(500);
    request.variant = i % 2;
    if (i == 3) request.score.emplace();
    sinks.push_back(running_.Submit(request).sink);
  }
  running_.backend->AwaitHeld();
  std::thread stopping([this] { running_.engine->Stop(); });
  sinks.push_back(running_.Submit(StoryRequest(500)).sink);
  running_.backend->Release();
  stopping.join();
  running_.engine->Stop();  // idempotent
  sinks.push_back(running_.Submit(StoryRequest(5)).sink);
  for (const auto& sink : sinks) {
    const FinishEvent event = sink->Wait();
    EXPECT_EQ(sink->finishes(), 1);
    if (event.reason == FinishReason::kStop) {  // the score may have been in time
      EXPECT_EQ(sink->scores().size(), 4u);
      continue;
    }
    EXPECT_EQ(event.reason, FinishReason::kDrain);
    EXPECT_EQ(event.status.code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(running_.observer.counts().finished, 6);
  ExpectIdle();
}

TEST_P(LifecycleTest, DrainRefusesNewWorkAndFinishesTheOld) {
  running_.backend->Hold();
  const auto admitted = running_.Submit(StoryRequest(20));
  running_.engine->StartDrain();
  const absl::Status refused = running_.engine->Reserve(1, 5, 5, {}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(RejectReasonOf(refused), RejectReason::kDraining);
  running_.backend->Release();
  EXPECT_EQ(admitted.sink->Wait().reason, FinishReason::kLength);
  EXPECT_EQ(admitted.sink->ids().size(), 20u);
}

TEST_P(LifecycleTest, TheRoomIsFreeWhenTheEndIsTold) {
  RunningEngine running;
  EngineOptions options = OptionsOf(GetParam());
  options.admission = {.max_requests = 1, .max_tokens = 100};
  running.Start(options);
  ASSERT_NE(running.engine, nullptr);
  auto reserved = running.engine->Reserve(1, 5, 10, {});
  ASSERT_TRUE(reserved.ok()) << reserved.status();
  EXPECT_EQ((*reserved)[0].tokens(), 15);
  EXPECT_FALSE(running.engine->Reserve(1, 5, 10, {}).ok());
  bool had_room = false;
  auto sink = std::make_shared<RecordingSink>();
  sink->on_finish = [&] {
    had_room = running.engine->Reserve(1, 90, 10, {}).ok();
    const EngineSnapshot snapshot = running.engine->Snapshot();
    EXPECT_EQ(snapshot.kv_blocks_free, snapshot.kv_blocks_total);
  };
  const Request story = StoryRequest(10);
  auto request = std::make_unique<Request>();
  request->prompt = story.prompt;
  request->sampling = story.sampling;
  request->reservation = std::move((*reserved)[0]);
  request->control = std::make_shared<RequestControl>();
  request->sink = sink;
  running.engine->Submit(std::move(request));
  sink->Wait();
  EXPECT_TRUE(had_room);
}

TEST_P(LifecycleTest, AReservationIsBoundedByTheContext) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  auto reserved = running_.engine->Reserve(1, kHuge, kHuge, {});
  ASSERT_TRUE(reserved.ok()) << reserved.status();
  EXPECT_EQ((*reserved)[0].tokens(), 512);
  EXPECT_FALSE(running_.engine->Reserve(kHuge, kHuge, kHuge, {}).ok());
  EXPECT_FALSE(running_.engine->Reserve(-1, 1, 1, {}).ok());
}

TEST_P(LifecycleTest, TheSnapshotCountsWhatWaitsAndWhatRuns) {
  running_.backend->Hold();
  const auto first = running_.Submit(StoryRequest(20));
  running_.backend->AwaitHeld();
  Request second = StoryRequest(20);
  second.variant = 1;
  const auto waiting = running_.Submit(second);
  EngineSnapshot snapshot = running_.engine->Snapshot();
  ASSERT_EQ(snapshot.variants.size(), 2u);
  EXPECT_EQ(snapshot.variants[0].waiting + snapshot.variants[0].running, 1);
  EXPECT_EQ(snapshot.variants[1].waiting, 1);
  EXPECT_EQ(snapshot.variants[1].queued_prompt_tokens, 5);
  running_.backend->Release();
  first.sink->Wait();
  waiting.sink->Wait();
  running_.engine->Stop();
  snapshot = running_.engine->Snapshot();
  for (const VariantLoad& load : snapshot.variants) {
    EXPECT_EQ(load.waiting + load.running + load.queued_prompt_tokens + load.kv_blocks, 0);
  }
  EXPECT_TRUE(snapshot.device.ok());
  EXPECT_EQ(running_.observer.counts().prefill_rows, 10);
  EXPECT_EQ(running_.observer.counts().decode_rows, 38);
}

TEST(CreateEngineTest, OptionsThatCannotHoldAreRefusedByName) {
  RunningEngine running;
  running.Start(OptionsOf(1));
  ASSERT_NE(running.engine, nullptr);
  const std::pair<const char*, EngineOptions> refused[] = {
      {"max_sequences", {.max_sequences = 0}},
      {"step_tokens", {.step_tokens = 0}},
      {"max_logit_rows", {.max_logit_rows = -1}},
      {"planning_depth", {.planning_depth = 0}},
      {"planning_depth", {.planning_depth = 3}},
      {"max_context", {.kv_blocks = 64, .max_context = 513}},
      {"max_context", {.kv_blocks = 31, .max_context = 512}},
      {"max_context", {.max_context = -1}},
      {"kv_blocks", {.kv_blocks = 1}},
      {"kv_blocks", {.kv_bytes = 100}},
      {"kv_blocks", {.kv_blocks = -1}},
      {"kv_blocks", {.kv_blocks = int64_t{1} << 40}},
  };
  for (const auto& [field, options] : refused) {
    SCOPED_TRACE(field);
    const auto created = Engine::Create(options, running.model.get(), running.backend.get(),
                                        nullptr, &running.clock);
    EXPECT_EQ(created.status().code(), absl::StatusCode::kInvalidArgument);
    ASSERT_TRUE(FieldViolationOf(created.status()).has_value()) << created.status();
    EXPECT_EQ(FieldViolationOf(created.status())->field, field);
  }
}

// As much of a model as LimitsFor looks at.
Model OneLayer(size_t variants) {
  Model model;
  model.config.num_layers = 1;
  model.config.context = 64;
  model.config.attention = {.num_heads = 1, .num_kv_heads = 1, .head_dim = 8};
  model.variants.resize(variants);
  return model;
}

// A sequence without a logit row has its blocks and waits, however much room the step has.
TEST(CreateEngineTest, EverySequenceThatMayRunMayDrawInTheSameStep) {
  const Model model = OneLayer(1);
  const auto rows = [&](const EngineOptions& options) {
    const auto limits = LimitsFor(options, model);
    return limits.ok() ? limits->max_logit_rows : -1;
  };
  EXPECT_EQ(rows({.max_sequences = 512, .step_tokens = 2048}), 512);
  EXPECT_EQ(rows({.max_sequences = 512, .step_tokens = 100}), 100);
  EXPECT_EQ(rows({.max_sequences = 512, .step_tokens = 2048, .max_logit_rows = 7}), 7);
}

// A block of 32 tokens takes 1,024 bytes in fp16, and 768 in int8 with its scales.
TEST(CreateEngineTest, ThePoolIsCountedByTheWidestCache) {
  Model model = OneLayer(2);
  const auto blocks = [&](KvType first, KvType second) {
    model.variants[0].kv = first;
    model.variants[1].kv = second;
    const auto limits = LimitsFor({.kv_bytes = 3072 * 1000}, model);
    return limits.ok() ? limits->kv_blocks : -1;
  };
  EXPECT_EQ(blocks(KvType::kF16, KvType::kBF16), 3000);
  EXPECT_EQ(blocks(KvType::kInt8, KvType::kInt8), 4000);
  EXPECT_EQ(blocks(KvType::kInt8, KvType::kF16), 3000);
}

}  // namespace
}  // namespace vernier
