// Reads config.json and generation_config.json of a Hugging Face folder.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/architectures.h"
#include "engine/checkpoint/model_config.h"
#include "engine/checkpoint/quant_config.h"

namespace vernier {

// A key of ours: folders whose weights are not learned ones say so, and reports with them.
inline constexpr char kWeightsKey[] = "vernier_weights";
inline constexpr char kRandomWeights[] = "random";

struct HfConfig {
  const Architecture* architecture = nullptr;
  ModelConfig config;
  QuantSettings quantization;
  bool random_weights = false;
};

// NOT_FOUND without config.json; INVALID_ARGUMENT and UNIMPLEMENTED naming the file, the key, the
// value and what was expected. End tokens are generation_config.json's, else config.json's, as in
// transformers' generate().
absl::StatusOr<HfConfig> ReadHfConfig(const std::string& folder);

}  // namespace vernier
