// The hyperparameters of a checkpoint, whatever the file calls them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace vernier {

struct ModelConfig {
  std::string architecture;  // the row in engine/checkpoint/architectures: "llama", "gpt2"
  int64_t num_layers = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t vocab = 0;
  int64_t context = 0;                // positions
  AttentionShape attention;           // without the window
  int window = 0;                     // of the layers that have one; 0: none has
  std::vector<bool> windowed_layers;  // [num_layers], or empty: none has a window
  NormKind norm = NormKind::kRms;
  float norm_epsilon = 0;
  ActivationKind activation = ActivationKind::kSilu;
  bool gated_mlp = true;
  bool learned_positions = false;
  bool tied_lm_head = false;               // lm_head is the embedding
  bool qkv_biases = false;                 // on q, k and v, where the norms have no biases
  bool head_norms = false;                 // of each head of q and of k
  bool post_norms = false;                 // of what attention and the MLP add to the residual
  float embed_scale = 1;                   // of rows of the embedding table
  float soft_cap = 0;                      // of the logits; 0: none
  std::vector<float> inverse_frequencies;  // of the rotary pairs, scaling applied; empty with
                                           // learned positions
  // Of layers with a window; empty: as the others.
  std::vector<float> window_inverse_frequencies;
  std::vector<int32_t> end_tokens;  // any of them ends a sequence
  int32_t begin_token = -1;         // -1: none

  bool HasWindow(int64_t layer) const { return !windowed_layers.empty() && windowed_layers[layer]; }
  int64_t Parameters() const;  // embeddings counted once when tied
};

}  // namespace vernier
