// Renders chat messages into a prompt, as the checkpoint's template would, with user text marked as
// content.
//
// Templates are recognised by their text, a row of a table each (ChatML and its variants).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/tokenizer.h"

namespace vernier {

struct ChatMessage {
  std::string role;  // system | user | assistant
  std::string content;
};

class ChatTemplate {
 public:
  // UNIMPLEMENTED when `jinja` is none of the templates in the table.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Create(absl::string_view jinja);
  virtual ~ChatTemplate() = default;
  // InvalidField for no message or an unknown role.
  virtual absl::StatusOr<std::vector<PromptSpan>> Render(std::span<const ChatMessage> messages,
                                                         bool add_generation_prompt) const = 0;
};

}  // namespace vernier
