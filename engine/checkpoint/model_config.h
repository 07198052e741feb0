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
  int64_t context = 0;  // positions
  AttentionShape attention;
  NormKind norm = NormKind::kRms;
  float norm_epsilon = 0;
  ActivationKind activation = ActivationKind::kSilu;
  bool gated_mlp = true;
  bool learned_positions = false;
  bool tied_lm_head = false;               // lm_head is the embedding
  std::vector<float> inverse_frequencies;  // of the rotary pairs, Llama 3 scaling applied; empty
                                           // with learned positions
  std::vector<int32_t> end_tokens;         // any of them ends a sequence
  int32_t begin_token = -1;                // -1: none

  int64_t Parameters() const;  // embeddings counted once when tied
};

}  // namespace vernier
