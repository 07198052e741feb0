// The layer of layer_values.h on one backend: packs its weights, runs any prefix of its calls.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/backend.h"
#include "kernels/base/check.h"
#include "tests/kernels/layer_values.h"
#include "tests/kernels/paged_batch.h"

namespace vernier::testing {

enum class Call : uint8_t {
  kEmbed,
  kAttentionIn,
  kAttention,
  kAttentionOut,
  kMlpIn,
  kMlpOut,
  kLmHead
};
inline constexpr Call kAllCalls[] = {Call::kEmbed,        Call::kAttentionIn, Call::kAttention,
                                     Call::kAttentionOut, Call::kMlpIn,       Call::kMlpOut,
                                     Call::kLmHead};

class LayerOnBackend {
 public:
  static constexpr int kLayers = 2;  // of the cache; every one runs the same weights

  LayerOnBackend(std::unique_ptr<Backend> backend, const LayerValues& values, int64_t max_rows,
                 int64_t kv_blocks)
      : backend_(std::move(backend)), spec_(values.spec), query_width_(values.QueryWidth()) {
    MakeWeights(values);
    const WorkspacePlan plan{.max_rows = max_rows,
                             .max_logit_rows = max_rows,
                             .max_context = values.context,
                             .hidden = spec_.hidden,
                             .intermediate = spec_.intermediate,
                             .vocab = spec_.vocab,
                             .num_layers = kLayers,
                             .attention = spec_.attention,
                             .kv_blocks = kv_blocks,
                             .widest_kv = spec_.kv_type};
    const absl::Status status = backend_->CreateWorkspace(plan);
    VERNIER_CHECK(status.ok());
  }

  Backend& backend() { return *backend_; }

  // Of every product.
  void SetActivations(Activations activations) {
    for (Linear* linear :
         {&attention_in_.q, &attention_in_.k, &attention_in_.v, &attention_out_.linear,
          &mlp_in_.gate, &mlp_in_.up, &mlp_out_.linear, &lm_head_.linear}) {
      linear->activations = activations;
    }
  }

  // Runs `calls` once for each of `layers` (Embed before, LmHead after) in one step, then `then`
  // within it; returns what the last call makes: [rows, width] row-major.
  std::vector<float> Run(
      const Batch& batch, std::span<const Call> calls, int layers = 1,
      absl::FunctionRef<void()> then = [] {}) {
    backend_->Execute({}, batch, [&] {
      for (int layer = kLayers - layers; layer < kLayers; ++layer) {
        for (const Call call : calls) {
          if (call == Call::kEmbed && layer > kLayers - layers) continue;
          if (call == Call::kLmHead && layer < kLayers - 1) continue;
          Append(call, layer);
        }
      }
      then();
    });
    VERNIER_CHECK(backend_->Synchronize().ok());
    return ResultOf(calls.back(), batch);
  }

  // Writes keys and values that are not numbers to every slot of the pool.
  void Poison(int64_t kv_blocks) {
    for (int32_t block = 0; block < kv_blocks; ++block) {
      BatchArrays arrays;
      AppendRows({.ids = std::vector<int32_t>(kBlockTokens), .blocks = {block}}, 0, kBlockTokens,
                 &arrays);
      backend_->Execute({}, arrays.View(), [&] {
        Append(Call::kEmbed, 0);
        for (int layer = 0; layer < kLayers; ++layer) {
          AttentionInArgs args = attention_in_;
          args.layer = layer;
          args.k.bias = &poison_;
          args.v.bias = &poison_;
          backend_->AttentionIn(args);
        }
      });
      VERNIER_CHECK(backend_->Synchronize().ok());
    }
  }

  std::vector<float> Copy(Activation which, int64_t values) {
    std::vector<float> out(values);
    VERNIER_CHECK(backend_->CopyActivation(which, out).ok());
    return out;
  }

  void Append(Call call, int layer) {
    switch (call) {
      case Call::kEmbed:
        return backend_->Embed(embed_);
      case Call::kAttentionIn:
        attention_in_.layer = layer;
        return backend_->AttentionIn(attention_in_);
      case Call::kAttention:
        return backend_->Attention({layer, spec_.attention, spec_.kv_type});
      case Call::kAttentionOut:
        return backend_->AttentionOut(attention_out_);
      case Call::kMlpIn:
        return backend_->MlpIn(mlp_in_);
      case Call::kMlpOut:
        return backend_->MlpOut(mlp_out_);
      case Call::kLmHead:
        return backend_->LmHead(lm_head_);
    }
  }

  const LmHeadArgs& lm_head() const { return lm_head_; }

 private:
  const Vector* Keep(std::span<const float> values) {
    if (values.empty()) return nullptr;
    absl::StatusOr<Vector> vector = backend_->CreateVector(values);
    VERNIER_CHECK(vector.ok());
    vectors_.push_back(std::make_unique<Vector>(*std::move(vector)));
    return vectors_.back().get();
  }

  Linear Keep(const MatrixValues& matrix, FormatId format) {
    if (matrix.rows == 0) return {};
    absl::StatusOr<std::vector<Weight>> weights =
        backend_->CreateWeights(SourceOf(matrix.source, matrix.rows, matrix.cols), {{format}});
    VERNIER_CHECK(weights.ok());
    weights_.push_back(std::make_unique<Weight>(std::move((*weights)[0])));
    return {weights_.back().get(), Keep(matrix.bias)};
  }

  Norm Keep(const NormValues& norm) {
    return {norm.kind, Keep(norm.weight), Keep(norm.bias), norm.epsilon};
  }

  const Norm* KeepOptional(const NormValues& norm) {
    if (norm.weight.empty()) return nullptr;
    norms_.push_back(std::make_unique<Norm>(Keep(norm)));
    return norms_.back().get();
  }

  void MakeWeights(const LayerValues& values) {
    const FormatId format = values.format;
    embed_ = {Keep(values.embed, format).weight, Keep(values.positions, format).weight,
              spec_.embed_scale};
    rotary_.inverse_frequencies = Keep(values.inverse_frequencies);
    attention_in_ = {.shape = spec_.attention,
                     .kv_type = spec_.kv_type,
                     .norm = Keep(values.attention_norm),
                     .q = Keep(values.q, format),
                     .k = Keep(values.k, format),
                     .v = Keep(values.v, format),
                     .rotary = spec_.rotated > 0 ? &rotary_ : nullptr,
                     .q_norm = KeepOptional(values.q_norm),
                     .k_norm = KeepOptional(values.k_norm)};
    attention_out_ = {Keep(values.o, format), KeepOptional(values.attention_post_norm)};
    mlp_in_ = {.norm = Keep(values.mlp_norm),
               .gate = Keep(values.gate, format),
               .up = Keep(values.up, format),
               .activation = spec_.activation};
    mlp_out_ = {Keep(values.down, format), KeepOptional(values.mlp_post_norm)};
    lm_head_ = {.norm = Keep(values.final_norm),
                .linear = Keep(values.head, format),
                .soft_cap = spec_.soft_cap};
    const std::vector<float> nan(values.KvWidth(), std::numeric_limits<float>::quiet_NaN());
    poison_ = *Keep(nan);
  }

  std::vector<float> ResultOf(Call call, const Batch& batch) {
    switch (call) {
      case Call::kEmbed:
      case Call::kAttentionOut:
      case Call::kMlpOut:
        return Copy(Activation::kResidual, batch.num_rows * spec_.hidden);
      case Call::kAttentionIn:
        return Copy(Activation::kQuery, batch.num_rows * query_width_);
      case Call::kAttention:
        return Copy(Activation::kAttention, batch.num_rows * query_width_);
      case Call::kMlpIn:
        return Copy(Activation::kHidden, batch.num_rows * spec_.intermediate);
      case Call::kLmHead:
        return Copy(Activation::kLogits,
                    static_cast<int64_t>(batch.logit_rows.size()) * spec_.vocab);
    }
    return {};
  }

  std::unique_ptr<Backend> backend_;
  const LayerSpec spec_;
  const int64_t query_width_;
  std::vector<std::unique_ptr<Vector>> vectors_;
  std::vector<std::unique_ptr<Weight>> weights_;
  std::vector<std::unique_ptr<Norm>> norms_;
  Rotary rotary_;
  EmbedArgs embed_;
  AttentionInArgs attention_in_;
  ResidualArgs attention_out_, mlp_out_;
  MlpInArgs mlp_in_;
  LmHeadArgs lm_head_;
  Vector poison_;
};

}  // namespace vernier::testing
