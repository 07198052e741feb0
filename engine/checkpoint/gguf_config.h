// What the metadata of a GGUF file says of the model. Its tokenizer is gguf_text.h's.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/checkpoint/architectures.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/model_config.h"
#include "engine/checkpoint/random_access_file.h"

namespace vernier {

struct GgufConfig {
  const Architecture* architecture = nullptr;
  ModelConfig config;
};

// The keys that the architecture's row names; the vocabulary is the embedding's rows where no key
// says it, and rotary frequencies are divided by the tensor rope_freqs.weight (Llama 3) where there
// is one. Errors as Checkpoint::Open's.
absl::StatusOr<GgufConfig> ReadGgufConfig(const std::shared_ptr<const RandomAccessFile>& file,
                                          const GgufHeader& header);

}  // namespace vernier
