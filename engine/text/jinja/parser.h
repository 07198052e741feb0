// Reads a template into a tree.
//
// Source: Jinja2's documented syntax and the precedence that its parser gives operators.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/limits.h"

namespace vernier::jinja {

// INVALID_ARGUMENT with the line for what is no template or exceeds a limit; UNIMPLEMENTED with the
// line and the name of what Jinja has and this does not.
absl::StatusOr<Body> Parse(absl::string_view source, const Limits& limits);

}  // namespace vernier::jinja
