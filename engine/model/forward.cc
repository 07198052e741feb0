#include "engine/model/forward.h"

#include "kernels/base/check.h"

namespace vernier {
namespace {

const Norm* OrNull(const Norm& norm) { return norm.weight == nullptr ? nullptr : &norm; }

}  // namespace

void ForwardPass(const Model& model, int variant, int logits_buffer, Backend* backend) {
  VERNIER_CHECK(variant >= 0 && variant < static_cast<int>(model.variants.size()));
  const ModelConfig& config = model.config;
  const Variant& weights = model.variants[variant];

  backend->Embed(weights.embed);
  for (int i = 0; i < config.num_layers; ++i) {
    const LayerWeights& layer = weights.layers[i];
    AttentionShape shape = config.attention;
    const Rotary* rotary = config.learned_positions ? nullptr : &model.rotary;
    if (config.HasWindow(i)) {
      shape.window = config.window;
      rotary = &model.window_rotary;
    }
    backend->AttentionIn({.layer = i,
                          .shape = shape,
                          .kv_type = weights.kv,
                          .norm = layer.attention_norm,
                          .q = layer.q,
                          .k = layer.k,
                          .v = layer.v,
                          .rotary = rotary,
                          .q_norm = OrNull(layer.q_norm),
                          .k_norm = OrNull(layer.k_norm)});
    backend->Attention({.layer = i, .shape = shape, .kv_type = weights.kv});
    backend->AttentionOut({.linear = layer.o, .post_norm = OrNull(layer.attention_post_norm)});
    backend->MlpIn({.norm = layer.mlp_norm,
                    .gate = layer.gate,
                    .up = layer.up,
                    .activation = config.activation});
    backend->MlpOut({.linear = layer.down, .post_norm = OrNull(layer.mlp_post_norm)});
  }
  backend->LmHead({.norm = weights.final_norm,
                   .linear = weights.lm_head,
                   .soft_cap = config.soft_cap,
                   .buffer = logits_buffer});
}

KvType WidestKv(const Model& model) {
  VERNIER_CHECK(!model.variants.empty());
  const AttentionShape& shape = model.config.attention;
  KvType widest = model.variants[0].kv;
  for (const Variant& variant : model.variants) {
    if (KvHeadBytes(shape, variant.kv) > KvHeadBytes(shape, widest)) widest = variant.kv;
  }
  return widest;
}

WorkspacePlan PlanWorkspace(const Model& model, int64_t max_rows, int64_t max_logit_rows,
                            int64_t max_context, int64_t kv_blocks) {
  const ModelConfig& config = model.config;
  return {.max_rows = max_rows,
          .max_logit_rows = max_logit_rows,
          .max_context = max_context,
          .hidden = config.hidden,
          .intermediate = config.intermediate,
          .vocab = config.vocab,
          .num_layers = config.num_layers,
          .attention = config.attention,
          .kv_blocks = kv_blocks,
          .widest_kv = WidestKv(model)};
}

}  // namespace vernier
