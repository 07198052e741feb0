// Members of a tokenizer's JSON files, with what is wrong where they are not what they must be.
//
// Pure functions, any thread. Errors are INVALID_ARGUMENT and name the path.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier {

using Json = nlohmann::json;

// The object that `text` is, of at most 128 MiB and 64 levels. `name` is the file's.
absl::StatusOr<Json> ParseObject(absl::string_view name, absl::string_view text);

// Null where the member is absent or null, or `object` is none.
const Json* Member(const Json& object, const char* key);
absl::StatusOr<bool> BoolMember(const Json& object, const char* key, absl::string_view path,
                                bool absent);
absl::StatusOr<std::string> StringMember(const Json& object, const char* key,
                                         absl::string_view path);
absl::StatusOr<const Json*> ArrayMember(const Json& object, const char* key,
                                        absl::string_view path);

// Larger ids are given as this one.
inline constexpr int64_t kMaxId = int64_t{1} << 30;
absl::StatusOr<int64_t> Integer(const Json& value, absl::string_view path);

absl::Status WrongType(absl::string_view path, absl::string_view expected);
// UNIMPLEMENTED.
absl::Status Unsupported(absl::string_view path, absl::string_view what);

}  // namespace vernier
