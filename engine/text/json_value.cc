#include "engine/text/json_value.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

constexpr size_t kMaxJsonBytes = 128 << 20;
constexpr int kMaxDepth = 64;

// Brackets outside strings, so that a parser never sees a deep file.
int Depth(absl::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

absl::StatusOr<Json> ParseObject(absl::string_view name, absl::string_view text) {
  if (text.size() > kMaxJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has ", text.size(), " bytes, limit ", kMaxJsonBytes));
  }
  if (const int depth = Depth(text); depth > kMaxDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is nested ", depth, " deep, limit ", kMaxDepth));
  }
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not a JSON object"));
  }
  return json;
}

// Null where the member is absent or null.
const Json* Member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::Status WrongType(absl::string_view path, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(path, " must be ", expected));
}

absl::StatusOr<bool> BoolMember(const Json& object, const char* key, absl::string_view path,
                                bool absent) {
  const Json* value = Member(object, key);
  if (value == nullptr) return absent;
  const bool* flag = value->get_ptr<const Json::boolean_t*>();
  if (flag == nullptr) return WrongType(absl::StrCat(path, ".", key), "true or false");
  return *flag;
}

absl::StatusOr<std::string> StringMember(const Json& object, const char* key,
                                         absl::string_view path) {
  const Json* value = Member(object, key);
  const std::string* text = value == nullptr ? nullptr : value->get_ptr<const Json::string_t*>();
  if (text == nullptr) return WrongType(absl::StrCat(path, ".", key), "a string");
  return *text;
}

absl::StatusOr<int64_t> Integer(const Json& value, absl::string_view path) {
  if (!value.is_number_integer()) return WrongType(path, "an integer");
  if (const auto* id = value.get_ptr<const Json::number_unsigned_t*>(); id != nullptr) {
    return static_cast<int64_t>(std::min<uint64_t>(*id, kMaxId));
  }
  return *value.get_ptr<const Json::number_integer_t*>();
}

absl::Status Unsupported(absl::string_view path, absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat(path, " ", what, " is not supported"));
}

absl::StatusOr<const Json*> ArrayMember(const Json& object, const char* key,
                                        absl::string_view path) {
  const Json* list = Member(object, key);
  if (list == nullptr || !list->is_array()) {
    return WrongType(absl::StrCat(path, ".", key), "an array");
  }
  return list;
}

}  // namespace vernier
