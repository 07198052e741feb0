// vernier template: a chat template rendered over data, from two files.
#include "engine/text/jinja/template.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/call_error.h"
#include "cli/display_text.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/offline.h"
#include "engine/text/jinja/from_json.h"

namespace vernier::cli {
namespace {

absl::StatusOr<std::string> Render(const TemplateOptions& options, const Terminal& terminal) {
  const auto source = ReadText(options.file, terminal);
  if (!source.ok()) return source.status();
  const auto parsed = jinja::Template::Parse(*source);
  if (!parsed.ok()) return parsed.status();
  const auto data = ReadText(options.data, terminal);
  if (!data.ok()) return data.status();
  const auto json = nlohmann::ordered_json::parse(*data, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(options.data, " is not JSON"));
  }
  auto variables = jinja::VariablesFromJson(json, jinja::Origin::kContent);
  if (!variables.ok()) return variables.status();
  const auto text = (*parsed)->Render(*std::move(variables), absl::Now());
  if (!text.ok()) return text.status();
  return text->bytes();
}

}  // namespace

CommandResult RenderTemplate(const CommandLine& command, const Terminal& terminal) {
  const auto text = Render(command.chat_template, terminal);
  if (!text.ok()) return ExplainInput(text.status());
  if (command.json) {
    *terminal.out << JsonLine({{"text", *text}});
  } else {
    *terminal.out << (terminal.out_is_terminal ? Neutralize(*text) : *text);
  }
  return {};
}

}  // namespace vernier::cli
