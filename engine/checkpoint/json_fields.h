// Reads the fields of a JSON object that somebody else wrote: each with its kind and range checked,
// each error naming the file, the key, the value and what was expected.
//
// GGUF metadata is read through it too, as one flat object of its scalar keys.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier {

// Parses without exceptions. INVALID_ARGUMENT naming `file` for malformed text, for anything but an
// object at the top and for nesting deeper than 32.
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text, const std::string& file);

// A view: `object` must outlive it. A key that is absent or null is not there.
class JsonFields {
 public:
  // REQUIRES: `object` is a JSON object. `file` is for messages. Every key is the one that is asked
  // for, behind `prefix`.
  JsonFields(const nlohmann::json& object, std::string file, std::string prefix = "");

  const std::string& file() const { return file_; }
  // Null when it is not there.
  const nlohmann::json* Find(absl::string_view key) const;
  // Whether it says null, where that means something else than a key that is absent.
  bool SaysNull(absl::string_view key) const;

  // The value of `key`. Required: INVALID_ARGUMENT when it is not there. All: INVALID_ARGUMENT when
  // it is of another kind or outside of [min, max].
  absl::StatusOr<int64_t> Integer(absl::string_view key, int64_t min, int64_t max) const;
  absl::StatusOr<int64_t> IntegerOr(absl::string_view key, int64_t fallback, int64_t min,
                                    int64_t max) const;
  absl::StatusOr<double> Number(absl::string_view key, double min, double max) const;
  absl::StatusOr<double> NumberOr(absl::string_view key, double fallback, double min,
                                  double max) const;
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool fallback) const;
  absl::StatusOr<std::string> StringOr(absl::string_view key, absl::string_view fallback) const;

  // "config.json: hidden_size is "x", expected <expected>"; the value is cut at 60 bytes.
  absl::Status Wrong(absl::string_view key, absl::string_view expected) const;
  // UNIMPLEMENTED: "config.json: hidden_act is "relu", which is not supported (<supported>)".
  absl::Status Unsupported(absl::string_view key, absl::string_view supported) const;

 private:
  std::string ValueText(absl::string_view key) const;

  const nlohmann::json& object_;
  const std::string file_;
  const std::string prefix_;
};

}  // namespace vernier
