#include "engine/checkpoint/model_config.h"

namespace vernier {

int64_t ModelConfig::Parameters() const {
  const int64_t q_rows = int64_t{attention.num_heads} * attention.head_dim;
  const int64_t kv_rows = int64_t{attention.num_kv_heads} * attention.head_dim;
  // LayerNorm has a bias beside its weight, and the architectures that use it have one on every
  // linear.
  const bool biases = norm == NormKind::kLayer;
  const int64_t norm_values = biases ? 2 * hidden : hidden;
  int64_t layer = 2 * norm_values;
  layer += 2 * hidden * (q_rows + kv_rows);
  layer += (gated_mlp ? 3 : 2) * hidden * intermediate;
  if (biases) layer += q_rows + 2 * kv_rows + hidden + intermediate + hidden;
  if (qkv_biases) layer += q_rows + 2 * kv_rows;
  if (head_norms) layer += 2 * attention.head_dim;
  if (post_norms) layer += 2 * hidden;
  int64_t tables = vocab * hidden;
  if (!tied_lm_head) tables += vocab * hidden;
  if (learned_positions) tables += context * hidden;
  return tables + num_layers * layer + norm_values;
}

}  // namespace vernier
