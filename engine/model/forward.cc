#include "engine/model/forward.h"

#include "kernels/base/check.h"

namespace vernier {

void ForwardPass(const Model& model, int variant, int logits_buffer, Backend* backend) {
  VERNIER_CHECK(variant >= 0 && variant < static_cast<int>(model.variants.size()));
  const ModelConfig& config = model.config;
  const Variant& weights = model.variants[variant];
  const Rotary* rotary = config.learned_positions ? nullptr : &model.rotary;

  backend->Embed(weights.embed);
  for (int i = 0; i < config.num_layers; ++i) {
    const LayerWeights& layer = weights.layers[i];
    backend->AttentionIn({.layer = i,
                          .shape = config.attention,
                          .kv_type = weights.kv,
                          .norm = layer.attention_norm,
                          .q = layer.q,
                          .k = layer.k,
                          .v = layer.v,
                          .rotary = rotary});
    backend->Attention({.layer = i, .shape = config.attention, .kv_type = weights.kv});
    backend->AttentionOut({.linear = layer.o});
    backend->MlpIn({.norm = layer.mlp_norm,
                    .gate = layer.gate,
                    .up = layer.up,
                    .activation = config.activation});
    backend->MlpOut({.linear = layer.down});
  }
  backend->LmHead({.norm = weights.final_norm, .linear = weights.lm_head, .buffer = logits_buffer});
}

WorkspacePlan PlanWorkspace(const Model& model, int64_t max_rows, int64_t max_logit_rows,
                            int64_t max_context, int64_t kv_blocks) {
  const ModelConfig& config = model.config;
  ScalarType widest_kv = ScalarType::kF16;
  for (const Variant& variant : model.variants) {
    if (ScalarBytes(variant.kv) > ScalarBytes(widest_kv)) widest_kv = variant.kv;
  }
  return {.max_rows = max_rows,
          .max_logit_rows = max_logit_rows,
          .max_context = max_context,
          .hidden = config.hidden,
          .intermediate = config.intermediate,
          .vocab = config.vocab,
          .num_layers = config.num_layers,
          .attention = config.attention,
          .kv_blocks = kv_blocks,
          .widest_kv = widest_kv};
}

}  // namespace vernier
