// Renders chat messages into a prompt by the checkpoint's template, with user text marked as
// content.
//
// The template is Jinja, run by the bounded interpreter of jinja/. What it makes of a message's
// content stays content, whatever it did to the text; all else, roles included, is the template's.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/text/tokenizer.h"

namespace vernier {

struct ChatMessage {
  std::string role;  // system | user | assistant
  std::string content;
};

// What a template may ask for besides the messages.
struct ChatTemplateOptions {
  std::string begin_token, end_token;           // bos_token and eos_token as text; empty: none
  std::function<absl::Time()> now = absl::Now;  // of strftime_now, which writes UTC
};

class ChatTemplate {
 public:
  // INVALID_ARGUMENT with the line for what is no template; UNIMPLEMENTED with the line for a tag
  // that the interpreter does not have.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Create(absl::string_view jinja,
                                                              ChatTemplateOptions options = {});
  virtual ~ChatTemplate() = default;
  // InvalidField for no message or an unknown role; INVALID_ARGUMENT with the template's line for
  // messages that it refuses; RESOURCE_EXHAUSTED with the line and the limit (jinja/limits.h).
  virtual absl::StatusOr<std::vector<PromptSpan>> Render(std::span<const ChatMessage> messages,
                                                         bool add_generation_prompt) const = 0;
};

}  // namespace vernier
