// The engine over stories260K on the CPU backend, with the means to break, hold and watch it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/model/model.h"
#include "kernels/base/mutex.h"
#include "kernels/make_backend.h"
#include "tests/engine/faulty_backend.h"
#include "tests/engine/recording_sink.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/test_data.h"

namespace vernier::testing {

// Counts what it is told. Thread-safe.
class CountingObserver : public EngineObserver {
 public:
  struct Counts {
    int64_t steps = 0;
    int64_t prefill_rows = 0;
    int64_t decode_rows = 0;
    int64_t preempted = 0;
    int64_t finished = 0;
    int64_t corrupted = 0;
    int corrupted_variant = -1;  // the last
    int64_t released = 0;
  };
  void OnStep(const StepReport& report) override {
    MutexLock lock(&mutex_);
    counts_.steps += 1;
    counts_.prefill_rows += report.prefill_rows;
    counts_.decode_rows += report.decode_rows;
  }
  void OnPreempted(int, int64_t) override { Add(&Counts::preempted); }
  void OnFinished(const Request&, const FinishEvent&) override { Add(&Counts::finished); }
  void OnCorrupted(int variant, RowStatus) override {
    MutexLock lock(&mutex_);
    counts_.corrupted += 1;
    counts_.corrupted_variant = variant;
  }
  void OnReleased(int, absl::Duration) override { Add(&Counts::released); }
  Counts counts() {
    MutexLock lock(&mutex_);
    return counts_;
  }

 private:
  void Add(int64_t Counts::*count) {
    MutexLock lock(&mutex_);
    counts_.*count += 1;
  }
  Mutex mutex_;
  Counts counts_ ABSL_GUARDED_BY(mutex_);
};

// Destroyed in reverse order.
struct RunningEngine {
  std::unique_ptr<FaultyBackend> backend;
  std::unique_ptr<Model> model;  // variants: 0 fp32, 1 int8, whose KV cache is int8 too
  CountingObserver observer;
  FakeClock clock;
  std::unique_ptr<Engine> engine;

  void Start(const EngineOptions& options, int threads = 1) {
    // Free blocks hold NaN (F58): who read one would say other tokens, or fail.
    auto cpu = MakeBackend({.kind = "cpu", .threads = threads, .poison_kv = true});
    ASSERT_TRUE(cpu.ok()) << cpu.status();
    backend = std::make_unique<FaultyBackend>(*std::move(cpu));
    std::vector<VariantSpec> specs = {DefaultVariant(FormatId::kF32),
                                      DefaultVariant(FormatId::kInt8)};
    specs[1].kv = KvType::kInt8;  // so that blocks of the one pool hold what differs in size
    auto loaded =
        LoadModel(TestDataPath("stories260K/hf"), "stories", specs, backend.get(), nullptr);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model = *std::move(loaded);
    auto created = Engine::Create(options, model.get(), backend.get(), &observer, &clock);
    ASSERT_TRUE(created.ok()) << created.status();
    engine = *std::move(created);
  }

  struct Submitted {
    std::shared_ptr<RecordingSink> sink;
    std::shared_ptr<RequestControl> control;
  };
  // Sends a copy of what `request` says.
  Submitted Submit(const Request& wanted, std::shared_ptr<RecordingSink> sink = nullptr) {
    auto request = std::make_unique<Request>();
    request->id = wanted.id;
    request->variant = wanted.variant;
    request->priority = wanted.priority;
    request->prompt = wanted.prompt;
    request->sampling = wanted.sampling;
    request->score = wanted.score;
    request->deadline = wanted.deadline;
    request->time_limit = wanted.time_limit;
    request->control = std::make_shared<RequestControl>();
    request->sink = sink = sink != nullptr ? sink : std::make_shared<RecordingSink>();
    Submitted submitted{sink, request->control};
    engine->Submit(std::move(request));
    return submitted;
  }
  std::shared_ptr<RecordingSink> Run(const Request& wanted) {
    auto sink = Submit(wanted).sink;
    sink->Wait();
    return sink;
  }
};

// "Once upon a time" and other openings, as ids of stories260K.
inline Request StoryRequest(int64_t max_tokens) {
  Request request;
  request.prompt = {1, 403, 407, 261, 378};
  request.sampling.max_tokens = max_tokens;
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  return request;
}

}  // namespace vernier::testing
