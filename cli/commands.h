// The verbs of `vernier`, a file each. They write to the terminal and return how they ended.
#pragma once

#include "cli/exit_code.h"
#include "cli/options.h"
#include "cli/terminal.h"

namespace vernier::cli {

class Connection;

CommandResult Generate(const CommandLine& command, Connection* connection,
                       const Terminal& terminal);
CommandResult Compare(const CommandLine& command, Connection* connection, const Terminal& terminal);
CommandResult Score(const CommandLine& command, Connection* connection, const Terminal& terminal);
CommandResult ListModels(const CommandLine& command, Connection* connection,
                         const Terminal& terminal);
CommandResult LoadVariant(const CommandLine& command, Connection* connection,
                          const Terminal& terminal);
CommandResult UnloadVariant(const CommandLine& command, Connection* connection,
                            const Terminal& terminal);
CommandResult PlanMemory(const CommandLine& command, Connection* connection,
                         const Terminal& terminal);
CommandResult Experiment(const CommandLine& command, Connection* connection,
                         const Terminal& terminal);
CommandResult Feedback(const CommandLine& command, Connection* connection,
                       const Terminal& terminal);
CommandResult Chat(const CommandLine& command, Connection* connection, const Terminal& terminal);

// Parses, runs, and says on stderr what went wrong; returns the exit code.
int Run(int argc, const char* const* argv, const Terminal& terminal);

}  // namespace vernier::cli
