#include "engine/text/chat_template.h"

#include <array>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/status_payload.h"

namespace vernier {
namespace {

// What stands for more than itself in a row's text.
constexpr char kNewline = '\1';        // in a Jinja string: a line feed, or backslash and n
constexpr char kDefaultSystem = '\2';  // any text without quotes, braces and backslashes

// A template of the ChatML family: <|im_start|>role LF content <|im_end|> LF for each message.
struct ChatMlRow {
  absl::string_view jinja;
  // Qwen1.5 leaves a last message open without a generation prompt, and asks for no answer to an
  // assistant.
  bool closes_last = true;
};

constexpr ChatMlRow kRows[] = {
    // ChatML as transformers' base class had it.
    {"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\1' + message['content'] "
     "+ '<|im_end|>' + '\1'}}{% endfor %}{% if add_generation_prompt %}"
     "{{ '<|im_start|>assistant\1' }}{% endif %}"},
    // Dolphin, OpenHermes.
    {"{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}"
     "{% endif %}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\1' + "
     "message['content'] + '<|im_end|>' + '\1'}}{% endfor %}{% if add_generation_prompt %}"
     "{{ '<|im_start|>assistant\1' }}{% endif %}"},
    // SmolLM2, Qwen2: a system message where the conversation has none.
    {"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
     "{{ '<|im_start|>system\1\2<|im_end|>\1' }}{% endif %}{{'<|im_start|>' + message['role'] + "
     "'\1' + message['content'] + '<|im_end|>' + '\1'}}{% endfor %}{% if add_generation_prompt %}"
     "{{ '<|im_start|>assistant\1' }}{% endif %}"},
    // Qwen1.5.
    {"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
     "{{ '<|im_start|>system\1\2<|im_end|>\1' }}{% endif %}{{'<|im_start|>' + message['role'] + "
     "'\1' + message['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}"
     "{{ '<|im_end|>' + '\1'}}{% endif %}{% endfor %}{% if add_generation_prompt and "
     "messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\1' }}{% endif %}",
     false},
    // Qwen2.5; the branches for tools are never taken here.
    {R"({%- if tools %}
    {{- '<|im_start|>system)"
     "\1"
     R"(' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- ')"
     "\2"
     R"(' }}
    {%- endif %}
    {{- ")"
     "\1\1# Tools\1\1You may call one or more functions to assist with the user query.\1\1You are "
     "provided with function signatures within <tools></tools> XML tags:\1<tools>"
     R"(" }}
    {%- for tool in tools %}
        {{- ")"
     "\1"
     R"(" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- ")"
     "\1</tools>\1\1For each function call, return a json object with function name and arguments "
     "within <tool_call></tool_call> XML tags:\1<tool_call>\1"
     R"({\"name\": <function-name>, \"arguments\": <args-json-object>})"
     "\1</tool_call><|im_end|>\1"
     R"(" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system)"
     "\1"
     R"(' + messages[0]['content'] + '<|im_end|>)"
     "\1"
     R"(' }}
    {%- else %}
        {{- '<|im_start|>system)"
     "\1\2<|im_end|>\1"
     R"(' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) )"
     R"(or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + ')"
     "\1"
     R"(' + message.content + '<|im_end|>' + ')"
     "\1"
     R"(' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- ')"
     "\1"
     R"(' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- ')"
     "\1<tool_call>\1"
     R"({"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '})"
     "\1</tool_call>"
     R"(' }}
        {%- endfor %}
        {{- '<|im_end|>)"
     "\1"
     R"(' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- ')"
     "\1<tool_response>\1"
     R"(' }}
        {{- message.content }}
        {{- ')"
     "\1</tool_response>"
     R"(' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>)"
     "\1"
     R"(' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant)"
     "\1"
     R"(' }}
{%- endif %})"},
};

bool IsPlain(char c) { return absl::string_view("'\"\\{}\1\2").find(c) == absl::string_view::npos; }

// Compares `jinja` with a row's text and reads the default system message: none where they differ;
// "" where the row has no such message.
std::optional<std::string> MatchRow(absl::string_view row, absl::string_view jinja) {
  std::optional<std::string> system;
  while (!row.empty()) {
    const char c = row[0];
    row.remove_prefix(1);
    if (c == kNewline) {
      const absl::string_view spelled = jinja.substr(0, 2) == "\\n" ? "\\n" : "\n";
      if (jinja.substr(0, spelled.size()) != spelled) return std::nullopt;
      jinja.remove_prefix(spelled.size());
    } else if (c == kDefaultSystem) {
      // It ends at the '<' of <|im_end|> or at the quote.
      size_t length = 0;
      while (length < jinja.size() && IsPlain(jinja[length]) && jinja.substr(length, 2) != "<|") {
        ++length;
      }
      const std::string found(jinja.substr(0, length));
      if (found.empty() || (system && *system != found)) return std::nullopt;
      system = found;
      jinja.remove_prefix(length);
    } else {
      if (jinja.empty() || jinja[0] != c) return std::nullopt;
      jinja.remove_prefix(1);
    }
  }
  if (!jinja.empty()) return std::nullopt;
  return system.value_or("");
}

class ChatMlTemplate final : public ChatTemplate {
 public:
  ChatMlTemplate(std::string default_system, bool closes_last)
      : default_system_(std::move(default_system)), closes_last_(closes_last) {}

  absl::StatusOr<std::vector<PromptSpan>> Render(std::span<const ChatMessage> messages,
                                                 bool add_generation_prompt) const override;

 private:
  const std::string default_system_;  // empty: none is added
  const bool closes_last_;
};

absl::Status CheckMessages(std::span<const ChatMessage> messages) {
  if (messages.empty()) return InvalidField({"chat.messages", "0 messages", "at least 1"});
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role == "system" || role == "user" || role == "assistant") continue;
    return InvalidField({absl::StrCat("chat.messages[", i, "].role"),
                         absl::StrCat("\"", role.substr(0, 40), "\""),
                         "system, user or assistant"});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PromptSpan>> ChatMlTemplate::Render(
    std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  if (absl::Status status = CheckMessages(messages); !status.ok()) return status;
  using Kind = PromptSpan::Kind;
  std::vector<PromptSpan> spans;
  std::string open;  // template text up to the next content
  if (!default_system_.empty() && messages[0].role != "system") {
    open = absl::StrCat("<|im_start|>system\n", default_system_, "<|im_end|>\n");
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    absl::StrAppend(&open, "<|im_start|>", messages[i].role, "\n");
    spans.push_back({Kind::kTemplate, std::move(open)});
    spans.push_back({Kind::kContent, messages[i].content});
    const bool last = i + 1 == messages.size();
    open = !last || closes_last_ || add_generation_prompt ? "<|im_end|>\n" : "";
  }
  if (add_generation_prompt && (closes_last_ || messages.back().role != "assistant")) {
    open += "<|im_start|>assistant\n";
  }
  if (!open.empty()) spans.push_back({Kind::kTemplate, std::move(open)});
  return spans;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Create(absl::string_view jinja) {
  if (!jinja.empty() && jinja.back() == '\n') jinja.remove_suffix(1);  // as Jinja itself does
  for (const ChatMlRow& row : kRows) {
    std::optional<std::string> system = MatchRow(row.jinja, jinja);
    if (!system) continue;
    return std::make_unique<ChatMlTemplate>(*std::move(system), row.closes_last);
  }
  return absl::UnimplementedError(absl::StrCat("the model's chat template (", jinja.size(),
                                               " bytes) is none of the ChatML templates known"));
}

}  // namespace vernier
