#include "engine/text/chat_template.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "engine/text/chat_variables.h"
#include "engine/text/jinja/template.h"

namespace vernier {
namespace {

using jinja::MarkedText;
using jinja::None;
using jinja::Value;

absl::Status CheckMessages(std::span<const ChatMessage> messages) {
  if (messages.empty()) return InvalidField({"chat.messages", "0 messages", "at least 1"});
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (IsChatRole(role)) continue;
    return InvalidField({absl::StrCat("chat.messages[", i, "].role"),
                         absl::StrCat("\"", role.substr(0, 40), "\""), kChatRoles});
  }
  return absl::OkStatus();
}

std::vector<PromptSpan> ToSpans(const MarkedText& text) {
  std::vector<PromptSpan> spans;
  size_t at = 0;
  const auto add = [&](PromptSpan::Kind kind, size_t end) {
    if (end > at) spans.push_back({kind, text.bytes().substr(at, end - at)});
    at = end;
  };
  for (const MarkedText::Run& run : text.content()) {
    add(PromptSpan::Kind::kTemplate, run.begin);
    add(PromptSpan::Kind::kContent, run.end);
  }
  add(PromptSpan::Kind::kTemplate, text.size());
  return spans;
}

class JinjaChatTemplate final : public ChatTemplate {
 public:
  JinjaChatTemplate(std::unique_ptr<jinja::Template> jinja, ChatTemplateOptions options)
      : jinja_(std::move(jinja)), options_(std::move(options)) {}

  absl::StatusOr<std::vector<PromptSpan>> Render(std::span<const ChatMessage> messages,
                                                 bool add_generation_prompt,
                                                 const TemplateInputs& inputs) const override;

 private:
  const std::unique_ptr<jinja::Template> jinja_;
  const ChatTemplateOptions options_;
};

absl::StatusOr<std::vector<PromptSpan>> JinjaChatTemplate::Render(
    std::span<const ChatMessage> messages, bool add_generation_prompt,
    const TemplateInputs& inputs) const {
  if (absl::Status status = CheckMessages(messages); !status.ok()) return status;
  absl::StatusOr<jinja::Variables> given = ChatVariables(messages, inputs);
  if (!given.ok()) return given.status();
  jinja::Variables variables = *std::move(given);
  variables.emplace_back("add_generation_prompt", Value(add_generation_prompt));
  variables.emplace_back("documents", Value(None{}));  // as transformers does: there, and none
  if (!options_.begin_token.empty()) {
    variables.emplace_back("bos_token", Value::Text(options_.begin_token));
  }
  if (!options_.end_token.empty()) {
    variables.emplace_back("eos_token", Value::Text(options_.end_token));
  }
  absl::StatusOr<MarkedText> text = jinja_->Render(std::move(variables), options_.now());
  if (!text.ok()) {
    return absl::Status(text.status().code(),
                        absl::StrCat("chat.messages: the model's chat ", text.status().message()));
  }
  return ToSpans(*text);
}

}  // namespace

bool IsChatRole(absl::string_view role) {
  return role == "system" || role == "user" || role == "assistant" || role == "tool";
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Create(absl::string_view jinja,
                                                                   ChatTemplateOptions options) {
  absl::StatusOr<std::unique_ptr<jinja::Template>> parsed = jinja::Template::Parse(jinja);
  if (!parsed.ok()) return parsed.status();
  return std::make_unique<JinjaChatTemplate>(*std::move(parsed), std::move(options));
}

}  // namespace vernier
