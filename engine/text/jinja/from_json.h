// JSON as a template's value.
#pragma once

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "engine/text/jinja/template.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

// Keeps the order of keys. All strings, keys too, are of `origin`. RESOURCE_EXHAUSTED when lists
// and objects lie more than kMaxValueDepth deep, INVALID_ARGUMENT for integers beyond 64 bits.
absl::StatusOr<Value> FromJson(const nlohmann::ordered_json& json, Origin origin);

// The members of an object as variables. INVALID_ARGUMENT when `json` is none.
absl::StatusOr<Variables> VariablesFromJson(const nlohmann::ordered_json& json, Origin origin);

}  // namespace vernier::jinja
