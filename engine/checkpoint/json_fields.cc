#include "engine/checkpoint/json_fields.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kShownBytes = 60;

using Json = nlohmann::json;

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text, const std::string& file) {
  bool too_deep = false;
  // What is too deep is left out while parsing, so that it costs no memory.
  auto within_depth = [&](int depth, Json::parse_event_t, Json&) {
    too_deep |= depth > kMaxDepth;
    return depth <= kMaxDepth;
  };
  Json value = Json::parse(text.begin(), text.end(), within_depth, /*allow_exceptions=*/false);
  if (too_deep) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " nests deeper than ", kMaxDepth, " levels"));
  }
  if (value.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(file, " is not JSON"));
  if (!value.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " is a JSON ", value.type_name(), ", expected an object"));
  }
  return value;
}

JsonFields::JsonFields(const nlohmann::json& object, std::string file, std::string prefix)
    : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {}

const nlohmann::json* JsonFields::Find(absl::string_view key) const {
  const auto it = object_.find(absl::StrCat(prefix_, key));
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::string JsonFields::ValueText(absl::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return "not there";
  // Bytes that are not UTF-8 are replaced; the default would throw.
  std::string text = value->dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kShownBytes) {
    text.resize(kShownBytes);
    text += "...";
  }
  return text;
}

absl::Status JsonFields::Wrong(absl::string_view key, absl::string_view expected) const {
  return absl::InvalidArgumentError(
      absl::StrCat(file_, ": ", prefix_, key, " is ", ValueText(key), ", expected ", expected));
}

absl::Status JsonFields::Unsupported(absl::string_view key, absl::string_view supported) const {
  return absl::UnimplementedError(absl::StrCat(file_, ": ", prefix_, key, " is ", ValueText(key),
                                               ", which is not supported (", supported, ")"));
}

bool JsonFields::SaysNull(absl::string_view key) const {
  const auto it = object_.find(absl::StrCat(prefix_, key));
  return it != object_.end() && it->is_null();
}

absl::StatusOr<int64_t> JsonFields::Integer(absl::string_view key, int64_t min, int64_t max) const {
  const Json* value = Find(key);
  const bool whole = value != nullptr && value->is_number_integer();
  const bool huge =
      whole && value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{INT64_MAX};
  const int64_t number = whole && !huge ? value->get<int64_t>() : 0;
  if (!whole || huge || number < min || number > max) {
    return Wrong(key, absl::StrCat("a whole number from ", min, " to ", max));
  }
  return number;
}

absl::StatusOr<int64_t> JsonFields::IntegerOr(absl::string_view key, int64_t fallback, int64_t min,
                                              int64_t max) const {
  if (Find(key) == nullptr) return fallback;
  return Integer(key, min, max);
}

absl::StatusOr<double> JsonFields::Number(absl::string_view key, double min, double max) const {
  const Json* value = Find(key);
  const bool number = value != nullptr && value->is_number();
  const double result = number ? value->get<double>() : 0;
  if (!number || !(result >= min && result <= max)) {
    return Wrong(key, absl::StrCat("a number from ", min, " to ", max));
  }
  return result;
}

absl::StatusOr<double> JsonFields::NumberOr(absl::string_view key, double fallback, double min,
                                            double max) const {
  if (Find(key) == nullptr) return fallback;
  return Number(key, min, max);
}

absl::StatusOr<bool> JsonFields::BoolOr(absl::string_view key, bool fallback) const {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return Wrong(key, "true or false");
  return value->get<bool>();
}

absl::StatusOr<std::string> JsonFields::StringOr(absl::string_view key,
                                                 absl::string_view fallback) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) return Wrong(key, "a string");
  return value->get<std::string>();
}

}  // namespace vernier
