// The secret that units are hashed with, in a file that its owner alone may read.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/experiments/unit_hash.h"

namespace vernier {

// Makes the file, of 16 random bytes, where it is not. Errors name the path.
absl::StatusOr<UnitHashKey> ReadUnitKey(const std::string& path);

}  // namespace vernier
