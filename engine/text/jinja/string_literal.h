// The value of a Jinja string literal: Python's escapes.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier::jinja {

// `inside`: what stands between the quotes. An unknown escape stays as it is written.
// INVALID_ARGUMENT for a broken one, without the line.
absl::StatusOr<std::string> StringLiteral(absl::string_view inside);

}  // namespace vernier::jinja
