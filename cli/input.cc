#include "cli/input.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/text/utf8.h"

namespace vernier::cli {
namespace {

constexpr size_t kMaxTextBytes = size_t{256} << 20;

absl::StatusOr<std::string> ReadAll(std::istream& in, const std::string& name) {
  std::string text;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof(buffer)) || in.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxTextBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(name, " has more than ", kMaxTextBytes >> 20, " MiB"));
    }
  }
  if (in.bad()) return absl::DataLossError(absl::StrCat("cannot read ", name));
  const int64_t bad = FirstIllFormedByte(text);
  if (bad >= 0) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not UTF-8: see byte ", bad));
  }
  return text;
}

absl::StatusOr<std::string> ReadStandardInput(const Terminal& terminal) {
  if (terminal.in_is_terminal && terminal.err_is_terminal) {
    *terminal.err << "(reading from the terminal; Ctrl-D ends the text)" << std::endl;
  }
  return ReadAll(*terminal.in, "standard input");
}

absl::StatusOr<std::string> PromptText(const PromptOptions& prompt, const Terminal& terminal) {
  if (prompt.text && *prompt.text != "-") return *prompt.text;
  auto text = ReadStandardInput(terminal);
  if (text.ok() && !text->empty() && text->back() == '\n') text->pop_back();
  return text;
}

absl::Status NeedsChat() {
  return absl::InvalidArgumentError("--tools and --template-arg need a prompt that is a chat");
}

bool InRange(const nlohmann::json& integer) {
  return !integer.is_number_unsigned() ||
         integer.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
}

}  // namespace

absl::StatusOr<std::string> ReadText(const std::string& path, const Terminal& terminal) {
  if (path == "-") return ReadStandardInput(terminal);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path, ": ", strerror(errno)));
  return ReadAll(file, path);
}

absl::StatusOr<std::string> TextOrFile(const std::optional<std::string>& text,
                                       const std::optional<std::string>& file,
                                       const Terminal& terminal) {
  if (text && *text != "-") return *text;
  return ReadText(file.value_or("-"), terminal);
}

absl::Status FillTemplateInputs(const TemplateInputOptions& options, const Terminal& terminal,
                                v1::Chat* chat) {
  if (!options.tools.empty()) {
    auto tools = ReadText(options.tools, terminal);
    if (!tools.ok()) return tools.status();
    chat->set_tools(*std::move(tools));
  }
  for (const std::string& argument : options.arguments) {
    const size_t equals = argument.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--template-arg ", argument, " is not NAME=VALUE"));
    }
    const std::string text = argument.substr(equals + 1);
    const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    v1::TemplateValue value;
    if (json.is_boolean()) {
      value.set_bool_value(json.get<bool>());
    } else if (json.is_number_integer() && InRange(json)) {
      value.set_int_value(json.get<int64_t>());
    } else if (json.is_number_float()) {
      value.set_double_value(json.get<double>());
    } else if (json.is_string()) {
      value.set_string_value(json.get<std::string>());
    } else if (json.is_discarded()) {
      value.set_string_value(text);
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          "--template-arg ", argument, ": a value is true, false, a 64-bit number or text"));
    }
    (*chat->mutable_template_args())[argument.substr(0, equals)] = std::move(value);
  }
  return absl::OkStatus();
}

absl::Status FillInput(const PromptOptions& prompt, bool model_can_chat, const Terminal& terminal,
                       v1::GenerateRequest* request) {
  if (!prompt.ids.empty()) {
    if (!prompt.template_inputs.empty()) return NeedsChat();
    request->mutable_token_ids()->mutable_ids()->Assign(prompt.ids.begin(), prompt.ids.end());
    return absl::OkStatus();
  }
  auto text = PromptText(prompt, terminal);
  if (!text.ok()) return text.status();
  if (text->empty()) return absl::InvalidArgumentError("the prompt is empty");
  const bool as_chat = prompt.as == PromptOptions::As::kChat || !prompt.system.empty() ||
                       (prompt.as == PromptOptions::As::kWhatTheModelHas && model_can_chat);
  if (!as_chat) {
    if (!prompt.template_inputs.empty()) return NeedsChat();
    request->set_prompt(*std::move(text));
    return absl::OkStatus();
  }
  v1::Chat* chat = request->mutable_chat();
  if (!prompt.system.empty()) {
    v1::ChatMessage* message = chat->add_messages();
    message->set_role("system");
    message->set_content(prompt.system);
  }
  v1::ChatMessage* message = chat->add_messages();
  message->set_role("user");
  message->set_content(*std::move(text));
  return FillTemplateInputs(prompt.template_inputs, terminal, chat);
}

}  // namespace vernier::cli
