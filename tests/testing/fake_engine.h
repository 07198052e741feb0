// An engine that a test drives by hand, on a clock that the test moves.
#pragma once

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "kernels/base/mutex.h"
#include "tests/testing/fake_tokenizer.h"

namespace vernier::testing {

class FakeClock : public Clock {
 public:
  absl::Duration Now() const override { return absl::Nanoseconds(now_.load()); }
  void Advance(absl::Duration by) { now_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> now_{1'000'000'000};
};

// Holds what was submitted until the test emits tokens and ends for it. Admission is real.
class FakeEngine : public Engine {
 public:
  FakeEngine(AdmissionLimits limits, int64_t max_context, int variants, const Clock* clock)
      : ledger_(std::make_shared<AdmissionLedger>(limits)),
        max_context_(max_context),
        variants_(variants),
        clock_(clock) {}

  absl::StatusOr<std::vector<Reservation>> Reserve(int64_t requests, int64_t prompt_tokens_bound,
                                                   int64_t max_tokens,
                                                   const AdmissionScope& scope) override {
    return ledger_->Reserve(requests, prompt_tokens_bound + max_tokens, scope);
  }
  absl::Status CheckNotFull() const override { return ledger_->CheckNotFull(); }
  void Submit(std::unique_ptr<Request> request) override {
    {
      MutexLock lock(&mutex_);
      requests_.push_back(std::move(request));
    }
    submitted_.NotifyAll();
  }
  EngineSnapshot Snapshot() const override {
    EngineSnapshot snapshot;
    snapshot.variants.resize(variants_);
    snapshot.kv_blocks_total = snapshot.kv_blocks_free = 64;
    snapshot.heartbeat = clock_->Now();
    return snapshot;
  }
  int64_t max_context() const override { return max_context_; }
  absl::Status LoadVariant(int, VariantWeights) override { return absl::OkStatus(); }
  absl::Status UnloadVariant(int, const std::function<bool()>&) override {
    return absl::OkStatus();
  }
  void StartDrain() override { ledger_->StartDrain(); }
  void Stop() override {}

  AdmissionLedger::Load load() const { return ledger_->load(); }

  // The `index`-th request submitted; waits for it.
  Request* Await(size_t index) {
    MutexLock lock(&mutex_);
    while (requests_.size() <= index) submitted_.Wait(&mutex_);
    return requests_[index].get();
  }
  size_t submitted() {
    MutexLock lock(&mutex_);
    return requests_.size();
  }
  void Emit(size_t index, std::vector<int32_t> ids) {
    Request* request = Await(index);
    for (const int32_t id : ids) {
      TokenEvent event;
      event.index = emitted_++;
      event.id = id;
      event.has_logprob = request->sampling.logprobs >= 0;
      event.logprob = -0.5f;
      for (int k = 0; k < request->sampling.logprobs; ++k) {
        event.top.entries[event.top.count++] = {id + k, -0.5f - static_cast<float>(k)};
      }
      request->sink->OnToken(event);
    }
  }
  // Ends the request and gives its reservation back, as the engine does.
  void Finish(size_t index, FinishReason reason, int64_t completion_tokens,
              absl::Status status = absl::OkStatus()) {
    Request* request = Await(index);
    FinishEvent event;
    event.reason = reason;
    event.status = std::move(status);
    event.prompt_tokens = static_cast<int64_t>(request->prompt.size());
    event.completion_tokens = completion_tokens;
    request->reservation.Release();
    request->sink->OnFinish(event);
  }
  // Drops the requests, as the engine does after OnFinish.
  void Forget() {
    MutexLock lock(&mutex_);
    requests_.clear();
  }

 private:
  const std::shared_ptr<AdmissionLedger> ledger_;
  const int64_t max_context_;
  const int variants_;
  const Clock* const clock_;
  int64_t emitted_ = 0;
  Mutex mutex_;
  CondVar submitted_;
  std::vector<std::unique_ptr<Request>> requests_ ABSL_GUARDED_BY(mutex_);
};

// A model of three variants without weights: what convert and the calls look at.
inline std::unique_ptr<Model> FakeModel(bool with_text) {
  auto model = std::make_unique<Model>();
  model->name = "fake";
  model->source = "bf16";
  model->weights_sha256 = std::string(64, 'a');
  model->config.vocab = ByteTokenizer::kVocab;
  model->config.context = 64;
  model->config.num_layers = 1;
  model->config.attention = {1, 1, 8, 1, 0};
  const std::pair<const char*, FormatId> variants[] = {
      {"fp16", FormatId::kF16}, {"int8", FormatId::kInt8}, {"nf4", FormatId::kNf4}};
  for (const auto& [name, format] : variants) {
    Variant& variant = model->variants.emplace_back();
    variant.name = name;
    variant.precision = format;
  }
  if (with_text) {
    model->tokenizer = std::make_unique<ByteTokenizer>();
    model->chat_template = std::make_unique<TurnTemplate>();
  } else {
    model->no_tokenizer_reason = model->no_chat_reason = "none in the test";
  }
  return model;
}

}  // namespace vernier::testing
