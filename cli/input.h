// Reads what the user wants sent: arguments, files, standard input.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "cli/options.h"
#include "cli/terminal.h"

namespace vernier::cli {

// A file's bytes; "-" is standard input. NOT_FOUND and the like say why; RESOURCE_EXHAUSTED over
// 256 MiB.
absl::StatusOr<std::string> ReadText(const std::string& path, const Terminal& terminal);

// `text`, else the file, else standard input.
absl::StatusOr<std::string> TextOrFile(const std::optional<std::string>& text,
                                       const std::optional<std::string>& file,
                                       const Terminal& terminal);

// Fills `tools` and `template_args`. INVALID_ARGUMENT for an argument that is no name=value or
// whose value is a JSON list, object or null; else as ReadText.
absl::Status FillTemplateInputs(const TemplateInputOptions& options, const Terminal& terminal,
                                v1::Chat* chat);

// Fills the request's input. `model_can_chat` decides where the options leave it open.
// INVALID_ARGUMENT: there is no prompt.
absl::Status FillInput(const PromptOptions& prompt, bool model_can_chat, const Terminal& terminal,
                       v1::GenerateRequest* request);

}  // namespace vernier::cli
