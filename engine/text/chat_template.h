// Renders chat messages into a prompt by the checkpoint's template, with user text marked as
// content.
//
// The template is Jinja, run by the bounded interpreter of jinja/. What it makes of a message's
// content stays content, whatever it did to the text; all else, roles included, is the template's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/text/tokenizer.h"

namespace vernier {

// A call of a tool in an earlier turn of the assistant.
struct ToolCall {
  std::string id;         // may be empty
  std::string name;       // of the function
  std::string arguments;  // JSON object as text; empty: {}
};

// The template sees what is not empty, role and content always.
struct ChatMessage {
  std::string role;  // system | user | assistant | tool
  std::string content;
  std::string name = {};
  std::vector<ToolCall> tool_calls = {};
  std::string tool_call_id = {};
  std::string reasoning_content = {};
};

using TemplateArgument = std::variant<bool, int64_t, double, std::string>;

// The roles, and how messages say them.
bool IsChatRole(absl::string_view role);
inline constexpr char kChatRoles[] = "system, user, assistant or tool";

// What a request gives the template beside its messages; all text in it is content.
struct TemplateInputs {
  std::string tools;  // JSON array of functions as text; empty: none
  std::vector<std::pair<std::string, TemplateArgument>> arguments;  // by name
};

// Of tools, and of the arguments of one call: bytes of JSON text.
inline constexpr size_t kMaxToolBytes = size_t{1} << 18;
inline constexpr size_t kMaxTemplateArguments = 64;

// InvalidField where Render would refuse tools, calls or arguments for what they are. Text of
// messages is not looked at.
absl::Status CheckTemplateInputs(std::span<const ChatMessage> messages,
                                 const TemplateInputs& inputs);

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
  // InvalidField for no message, an unknown role, or what CheckTemplateInputs refuses;
  // INVALID_ARGUMENT with the template's line for messages that it refuses; RESOURCE_EXHAUSTED with
  // the line and the limit (jinja/limits.h). A template that does not use tools or an argument
  // leaves it out.
  virtual absl::StatusOr<std::vector<PromptSpan>> Render(std::span<const ChatMessage> messages,
                                                         bool add_generation_prompt,
                                                         const TemplateInputs& inputs) const = 0;
  absl::StatusOr<std::vector<PromptSpan>> Render(std::span<const ChatMessage> messages,
                                                 bool add_generation_prompt) const {
    return Render(messages, add_generation_prompt, {});
  }
};

}  // namespace vernier
