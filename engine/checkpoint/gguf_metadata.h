// GGUF metadata as the flat JSON object that JsonFields reads.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "engine/checkpoint/gguf.h"

namespace vernier {

// Scalars as they are; strings and arrays are cut: the strings that matter here are short names,
// and an array is there to be refused where a number is expected.
nlohmann::json MetadataJson(const GgufHeader& header);

}  // namespace vernier
