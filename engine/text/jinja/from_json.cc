#include "engine/text/jinja/from_json.h"

#include <limits>

#include "absl/strings/str_cat.h"

namespace vernier::jinja {

namespace {

absl::StatusOr<Value> Convert(const nlohmann::ordered_json& json, Origin origin, int level);

absl::StatusOr<Value> ConvertArray(const nlohmann::ordered_json& json, Origin origin, int level) {
  List list;
  for (const auto& item : json) {
    absl::StatusOr<Value> value = Convert(item, origin, level + 1);
    if (!value.ok()) return value;
    list.depth = std::max(list.depth, 1 + DepthOf(*value));
    list.items.push_back(*std::move(value));
  }
  return Value(std::make_shared<const List>(std::move(list)));
}

absl::StatusOr<Value> ConvertObject(const nlohmann::ordered_json& json, Origin origin, int level) {
  Dict dict;
  for (auto entry = json.begin(); entry != json.end(); ++entry) {
    absl::StatusOr<Value> value = Convert(entry.value(), origin, level + 1);
    if (!value.ok()) return value;
    dict.depth = std::max(dict.depth, 1 + DepthOf(*value));
    dict.entries.emplace_back(Value::Text(MarkedText(entry.key(), origin)), *std::move(value));
  }
  return Value(std::make_shared<const Dict>(std::move(dict)));
}

absl::StatusOr<Value> Convert(const nlohmann::ordered_json& json, Origin origin, int level) {
  if (level > kMaxValueDepth) {
    return absl::ResourceExhaustedError(
        absl::StrCat("JSON lies more than ", kMaxValueDepth, " levels deep"));
  }
  if (json.is_boolean()) return Value(json.get<bool>());
  if (json.is_number_unsigned()) {
    const auto number = json.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return absl::InvalidArgumentError(absl::StrCat("JSON has ", number, ", beyond 64 bits"));
    }
    return Value(static_cast<int64_t>(number));
  }
  if (json.is_number_integer()) return Value(json.get<int64_t>());
  if (json.is_number_float()) return Value(json.get<double>());
  if (json.is_string()) {
    return Value::Text(MarkedText(json.get_ref<const std::string&>(), origin));
  }
  if (json.is_array()) return ConvertArray(json, origin, level);
  if (json.is_object()) return ConvertObject(json, origin, level);
  return Value(None{});
}

}  // namespace

absl::StatusOr<Value> FromJson(const nlohmann::ordered_json& json, Origin origin) {
  return Convert(json, origin, 1);
}

absl::StatusOr<Variables> VariablesFromJson(const nlohmann::ordered_json& json, Origin origin) {
  if (!json.is_object()) return absl::InvalidArgumentError("the data must be a JSON object");
  Variables variables;
  for (auto entry = json.begin(); entry != json.end(); ++entry) {
    absl::StatusOr<Value> value = FromJson(entry.value(), origin);
    if (!value.ok()) return value.status();
    variables.emplace_back(entry.key(), *std::move(value));
  }
  return variables;
}

}  // namespace vernier::jinja
