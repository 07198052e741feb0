// Writes a model of random weights as a Hugging Face folder, for measuring how long models take to
// load.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/random_checkpoint.h"

namespace vernier {

struct RandomFolderOptions {
  RandomModelPart part;
  // Bytes of tensors in a file; one tensor that has more has a file of its own.
  int64_t shard_bytes = int64_t{4} << 30;
  std::function<bool()> stopping = [] { return false; };  // asked every few milliseconds
};

struct RandomFolder {
  int64_t bytes = 0;  // of all tensors
  int64_t files = 0;  // that hold them
};

// config.json (with "vernier_weights": "random", so that whoever opens the folder is told), bf16
// tensors in safetensors files and, where there are several, their index; no tokenizer, as such
// models have none. What is opened from it equals OpenRandomCheckpoint's in every value. A few MB
// are held at a time. All is written to `folder`.part beside it, which takes its name at the end:
// `folder` is whole or not there. INVALID_ARGUMENT for an unknown `name` or an empty `folder`;
// ALREADY_EXISTS when there is a `folder` or its .part; RESOURCE_EXHAUSTED, with both sizes, when
// the disk has not the room; CANCELLED when `stopping` returned true; else the system's error with
// the path. Whatever fails, nothing is left.
absl::StatusOr<RandomFolder> WriteRandomFolder(absl::string_view name, const std::string& folder,
                                               const RandomFolderOptions& options);

}  // namespace vernier
