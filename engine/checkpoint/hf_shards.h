// Which weight files a Hugging Face folder has.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/random_access_file.h"

namespace vernier {

// model.safetensors, or the shards that model.safetensors.index.json names, by name. NOT_FOUND when
// there is neither or a shard is missing; INVALID_ARGUMENT for an index that is malformed or names
// a file outside of the folder.
absl::StatusOr<std::vector<std::shared_ptr<const RandomAccessFile>>> OpenHfShards(
    const std::string& folder);

}  // namespace vernier
