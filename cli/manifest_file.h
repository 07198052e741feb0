// What `vernier inspect --write-manifest` does: describes a model and writes that beside it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"

namespace vernier::cli {

enum class Golden : uint8_t { kNone, kRecord };

// Reads all of `checkpoint`, which was opened from `model` and without its manifest; with kRecord
// also loads it in fp32 and records what greedy decoding draws (engine/golden.h). The file is
// replaced as a whole: a reader sees the old one or the new. Its path. Errors of the checkpoint, of
// the load, and those of writing, naming the path.
absl::StatusOr<std::string> WriteManifest(const std::string& model, const Checkpoint& checkpoint,
                                          Golden golden);

}  // namespace vernier::cli
