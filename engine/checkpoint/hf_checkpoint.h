// A Hugging Face folder as a Checkpoint: config.json, safetensors files and a tokenizer.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"

namespace vernier {

// Errors as Checkpoint::Open's. The manifest is manifest.json in the folder. The result is
// immutable: any thread may call it.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHfCheckpoint(const std::string& folder,
                                                             ManifestUse use);

}  // namespace vernier
