// The verbs that need no server: they read model files themselves.
#pragma once

#include "cli/exit_code.h"
#include "cli/options.h"
#include "cli/terminal.h"

namespace vernier::cli {

CommandResult Tokenize(const CommandLine& command, const Terminal& terminal);
CommandResult RenderTemplate(const CommandLine& command, const Terminal& terminal);
CommandResult Inspect(const CommandLine& command, const Terminal& terminal);

}  // namespace vernier::cli
