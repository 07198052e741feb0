// Cuts a template's source into tokens, with Jinja's rules for white space around tags: trim_blocks
// and lstrip_blocks are on, as transformers sets them.
//
// Source: Jinja2's documented template syntax ("Whitespace Control", "Expressions").
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier::jinja {

struct Token {
  enum class Kind : uint8_t {
    kData,  // text between tags, as it is written out
    kVariableBegin,
    kVariableEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,  // its value, escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 1;
};

// Ends with a kEnd. INVALID_ARGUMENT with the line for what is no template.
absl::StatusOr<std::vector<Token>> Tokens(absl::string_view source);

}  // namespace vernier::jinja
