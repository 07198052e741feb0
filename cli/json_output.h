// A message as one JSON object for scripts.
//
// As protobuf's JSON (enums by name, bytes in base64), except: the proto's own names, zero fields
// present, 64-bit integers as numbers, and null for what was not measured: an unset `optional` or
// message field, NaN. Of a oneof only the field that is set is there. Pure, any thread.
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>
#include <string>

namespace vernier::cli {

nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

// One line, ended by '\n'. Ill-formed UTF-8 becomes U+FFFD.
std::string JsonLine(const nlohmann::ordered_json& json);

}  // namespace vernier::cli
