// Runs sequences through a backend without an engine: prefill, greedy decode and scores in plain
// loops.
//
// For tests and benchmarks; one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/model/forward.h"
#include "engine/model/model.h"
#include "kernels/backend.h"
#include "kernels/base/check.h"

namespace vernier::testing {

class SequenceDriver {
 public:
  struct Limits {
    int sequences = 1;
    int64_t context = 0;  // tokens of one sequence
    int64_t rows = 0;     // of one batch
    int64_t logit_rows = 0;
    int64_t kv_blocks = 0;  // 0: every sequence can be full
  };
  // Ids to append to a sequence in one step.
  struct Input {
    int sequence = 0;
    std::span<const int32_t> ids;
  };
  enum class Logits { kNone, kLast, kAll };

  // Creates the backend's workspace; `model` and `backend` must outlive the driver.
  static absl::StatusOr<std::unique_ptr<SequenceDriver>> Create(const Model* model,
                                                                Backend* backend,
                                                                const Limits& limits) {
    auto driver = std::unique_ptr<SequenceDriver>(new SequenceDriver(model, backend, limits));
    const int64_t each = (limits.context + kBlockTokens - 1) / kBlockTokens;
    driver->kv_blocks_ = limits.kv_blocks > 0 ? limits.kv_blocks : limits.sequences * each;
    if (absl::Status status = backend->CreateWorkspace(PlanWorkspace(
            *model, limits.rows, limits.logit_rows, limits.context, driver->kv_blocks_));
        !status.ok()) {
      return status;
    }
    return driver;
  }

  // Every sequence is empty again.
  void Reset() {
    for (Sequence& sequence : held_) sequence = {};
    blocks_used_ = 0;
  }

  // One step: appends `inputs` (each sequence at most once) and makes logits of the last or of all
  // of their rows, then `then` within the step.
  absl::Status Step(int variant, std::span<const Input> inputs, Logits logits,
                    absl::FunctionRef<void()> then) {
    MakeBatch(inputs, logits);
    const Batch batch{.num_rows = static_cast<int>(ids_.size()),
                      .ids = ids_,
                      .positions = positions_,
                      .slots = slots_,
                      .sequences = sequences_,
                      .blocks = blocks_,
                      .logit_rows = logit_rows_};
    backend_->Execute({.variant = variant, .num_rows = batch.num_rows}, batch, [&] {
      ForwardPass(*model_, variant, /*logits_buffer=*/0, backend_);
      then();
    });
    return backend_->Synchronize();
  }

  // The logits of the last step, [rows with logits, vocab].
  absl::StatusOr<std::vector<float>> LastLogits() {
    std::vector<float> logits(logit_rows_.size() * static_cast<size_t>(model_->config.vocab));
    if (absl::Status status = backend_->CopyActivation(Activation::kLogits, logits); !status.ok()) {
      return status;
    }
    return logits;
  }

  // `tokens` greedy ids after each prompt, all prompts decoded together; ends of sequence do not
  // stop it.
  absl::StatusOr<std::vector<std::vector<int32_t>>> Greedy(
      int variant, std::span<const std::vector<int32_t>> prompts, int tokens) {
    Reset();
    std::vector<std::vector<int32_t>> outputs(prompts.size());
    std::vector<SampleResult> results(prompts.size());
    for (int step = 0; step < tokens; ++step) {
      std::vector<Input> inputs;
      std::vector<SampleRow> rows;
      for (size_t i = 0; i < prompts.size(); ++i) {
        const std::span<const int32_t> last =
            step == 0 ? std::span(prompts[i]) : std::span(outputs[i]).last(1);
        inputs.push_back({static_cast<int>(i), last});
        rows.push_back({.logit_index = static_cast<int>(i),
                        .position = prompts[i].size() + static_cast<size_t>(step)});
      }
      if (absl::Status status = Step(variant, inputs, Logits::kLast,
                                     [&] { backend_->Sample(rows, std::span(results)); });
          !status.ok()) {
        return status;
      }
      for (size_t i = 0; i < prompts.size(); ++i) outputs[i].push_back(results[i].id);
    }
    return outputs;
  }

  // Sum of the negative log-likelihoods in nats of ids[1..] given those before, for each text, all
  // in one step.
  absl::StatusOr<std::vector<double>> NegativeLogLikelihoods(
      int variant, std::span<const std::vector<int32_t>> texts) {
    Reset();
    std::vector<Input> inputs;
    std::vector<ScoreRow> rows;
    int first_row = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      inputs.push_back({static_cast<int>(i), texts[i]});
      for (size_t t = 1; t < texts[i].size(); ++t) {
        rows.push_back({.logit_index = first_row + static_cast<int>(t) - 1, .target = texts[i][t]});
      }
      first_row += static_cast<int>(texts[i].size());
    }
    std::vector<ScoreResult> results(rows.size());
    if (absl::Status status =
            Step(variant, inputs, Logits::kAll,
                 [&] { backend_->Score({.rows = rows, .results = std::span(results)}); });
        !status.ok()) {
      return status;
    }
    std::vector<double> sums(texts.size());
    size_t next = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      for (size_t t = 1; t < texts[i].size(); ++t) sums[i] -= double{results[next++].logprob};
    }
    return sums;
  }

 private:
  struct Sequence {
    int32_t length = 0;           // tokens so far
    std::vector<int32_t> blocks;  // its table
  };

  SequenceDriver(const Model* model, Backend* backend, const Limits& limits)
      : model_(model), backend_(backend), held_(limits.sequences) {}

  // Blocks are handed out as sequences grow, so that tables are no plain runs.
  int32_t SlotOfNextToken(Sequence* sequence) {
    if (sequence->length % kBlockTokens == 0) {
      VERNIER_CHECK(blocks_used_ < kv_blocks_);
      sequence->blocks.push_back(static_cast<int32_t>(blocks_used_++));
    }
    return sequence->blocks.back() * kBlockTokens + sequence->length % kBlockTokens;
  }

  void MakeBatch(std::span<const Input> inputs, Logits logits) {
    ids_.clear();
    positions_.clear();
    slots_.clear();
    sequences_.clear();
    blocks_.clear();
    logit_rows_.clear();
    for (const Input& input : inputs) {
      SequenceRows rows{.first_row = static_cast<int32_t>(ids_.size()),
                        .num_rows = static_cast<int32_t>(input.ids.size()),
                        .first_block = static_cast<int32_t>(blocks_.size())};
      Sequence& sequence = held_[input.sequence];
      for (const int32_t id : input.ids) {
        if (logits == Logits::kAll) logit_rows_.push_back(static_cast<int32_t>(ids_.size()));
        ids_.push_back(id);
        slots_.push_back(SlotOfNextToken(&sequence));
        positions_.push_back(sequence.length++);
      }
      if (logits == Logits::kLast) logit_rows_.push_back(static_cast<int32_t>(ids_.size()) - 1);
      rows.num_blocks = static_cast<int32_t>(sequence.blocks.size());
      blocks_.insert(blocks_.end(), sequence.blocks.begin(), sequence.blocks.end());
      sequences_.push_back(rows);
    }
  }

  const Model* model_;
  Backend* backend_;
  int64_t kv_blocks_ = 0;
  int64_t blocks_used_ = 0;
  std::vector<Sequence> held_;

  // The batch of the last step; see kernels/backend.h for the shapes.
  std::vector<int32_t> ids_, positions_, slots_, blocks_, logit_rows_;
  std::vector<SequenceRows> sequences_;
};

}  // namespace vernier::testing
