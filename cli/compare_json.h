// A Compare as JSON, with null where a number would claim a measurement.
//
// Pure, any thread.
#pragma once

#include <nlohmann/json.hpp>

#include "vernier/v1/evaluation.pb.h"

namespace vernier::cli {

// As ToJson; the reference was not scored against itself, and nothing was scored without positions.
nlohmann::ordered_json CompareJson(const v1::CompareResponse& reply);

}  // namespace vernier::cli
