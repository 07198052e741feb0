// A GGUF file as a Checkpoint.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"

namespace vernier {

// Errors as Checkpoint::Open's. The manifest of model.gguf is model.gguf.manifest.json. The result
// is immutable: any thread may call it.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(const std::string& path,
                                                               ManifestUse use);

}  // namespace vernier
