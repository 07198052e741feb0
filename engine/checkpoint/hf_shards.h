// Which weight files a Hugging Face folder has.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/random_access_file.h"
#include "engine/checkpoint/safetensors.h"

namespace vernier {

struct HfShard {
  std::shared_ptr<const RandomAccessFile> file;
  std::vector<std::string> tensors;  // that the index says are in it; empty without an index
};

// model.safetensors, or the shards that model.safetensors.index.json names, by name. NOT_FOUND when
// there is neither or a shard is missing; INVALID_ARGUMENT for an index that is malformed or names
// a file outside of the folder.
absl::StatusOr<std::vector<HfShard>> OpenHfShards(const std::string& folder);

// INVALID_ARGUMENT naming the first tensor that the index says is in `shard` and that is not among
// `entries`, which the file has.
absl::Status CheckShard(const HfShard& shard, const std::vector<SafetensorsEntry>& entries);

}  // namespace vernier
