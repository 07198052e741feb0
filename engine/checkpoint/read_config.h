// Makes a ModelConfig from the hyperparameters of config.json or of GGUF metadata.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint/architectures.h"
#include "engine/checkpoint/json_fields.h"
#include "engine/checkpoint/model_config.h"

namespace vernier {

// Everything but Hugging Face's rope scaling, end_tokens and begin_token; vocab is 0 when `keys`
// has none in the file. INVALID_ARGUMENT for missing or impossible values, UNIMPLEMENTED for
// FixedKeys and activations that are not supported.
absl::StatusOr<ModelConfig> ReadConfig(const Architecture& architecture, const ConfigKeys& keys,
                                       const JsonFields& fields);

// INVALID_ARGUMENT when a begin or end token is outside of the vocabulary. Call it when the config
// is complete; `file` is for the message.
absl::Status CheckTokens(const ModelConfig& config, const std::string& file);

// theta^(-2 i / dims) for i < dims / 2 (Su et al. 2021), computed in double.
std::vector<float> InverseFrequencies(double theta, int64_t dims);

// Linear scaling: a position counts as one divided by `factor`. REQUIRES: factor > 0.
void DivideFrequencies(double factor, std::vector<float>* frequencies);

// Llama 3.1's change of the frequencies for longer contexts, as transformers' rope type "llama3"
// computes it: long wavelengths are divided by `factor`, short ones stay, between them is a ramp.
struct Llama3Scaling {
  double factor = 1;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  double original_context = 8192;
};
void ScaleFrequencies(const Llama3Scaling& scaling, std::vector<float>* frequencies);

}  // namespace vernier
