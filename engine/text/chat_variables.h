// A chat's messages, tools and arguments as variables of its template.
#pragma once

#include <span>

#include "absl/status/statusor.h"
#include "engine/text/chat_template.h"
#include "engine/text/jinja/template.h"

namespace vernier {

// `messages`, `tools` (none where there are none) and one variable an argument. A role is the
// template's text, all else is content: names and keys of tools, arguments and results too.
// InvalidField naming the field, the value and the limit. REQUIRES: roles were checked.
absl::StatusOr<jinja::Variables> ChatVariables(std::span<const ChatMessage> messages,
                                               const TemplateInputs& inputs);

}  // namespace vernier
