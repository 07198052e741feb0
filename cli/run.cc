#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/offline.h"

namespace vernier::cli {
namespace {

CommandResult Dispatch(const CommandLine& command, const Terminal& terminal) {
  if (command.verb == Verb::kTokenize) return Tokenize(command, terminal);
  if (command.verb == Verb::kTemplate) return RenderTemplate(command, terminal);
  if (command.verb == Verb::kInspect) return Inspect(command, terminal);
  Connection connection(command);
  switch (command.verb) {
    case Verb::kGenerate:
      return Generate(command, &connection, terminal);
    case Verb::kCompare:
      return Compare(command, &connection, terminal);
    case Verb::kScore:
      return Score(command, &connection, terminal);
    case Verb::kLoad:
      return LoadVariant(command, &connection, terminal);
    case Verb::kUnload:
      return UnloadVariant(command, &connection, terminal);
    case Verb::kPlan:
      return PlanMemory(command, &connection, terminal);
    case Verb::kExperiment:
      return Experiment(command, &connection, terminal);
    case Verb::kFeedback:
      return Feedback(command, &connection, terminal);
    case Verb::kChat:
      return Chat(command, &connection, terminal);
    default:
      return ListModels(command, &connection, terminal);
  }
}

}  // namespace

int Run(int argc, const char* const* argv, const Terminal& terminal) {
  const ParsedCommandLine parsed = ParseCommandLine(argc, argv);
  if (parsed.exit_code >= 0) {
    (parsed.exit_code == kExitGood ? *terminal.out : *terminal.err) << parsed.message << std::flush;
    return parsed.exit_code;
  }
  const CommandResult result = Dispatch(parsed.command, terminal);
  terminal.out->flush();
  if (!result.error.empty()) *terminal.err << "vernier: " << result.error << std::endl;
  return result.exit_code;
}

}  // namespace vernier::cli
