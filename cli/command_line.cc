#include "cli/command_line.h"

#include <algorithm>
#include <sstream>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "cli/exit_code.h"
#include "cli/flags.h"
#include "proto/client_options.h"

namespace vernier::cli {
namespace {

constexpr char kAbout[] =
    "Talks to vernierd, which serves one language model in several precisions.";
constexpr char kExitCodes[] =
    "\nExit codes: 0 good, 64 usage, 65 bad input, 69 no server or it is too busy, 1 anything else."
    "\n`vernier COMMAND --help` tells more, with examples.";

void DeclareCommon(CLI::App* app, CommandLine* command) {
  AddServerOption(app, &command->server);
  app->add_option("--timeout", command->timeout_seconds,
                  "Give up after so many seconds (default: never)")
      ->check(CLI::PositiveNumber)
      ->type_name("SECONDS");
  app->add_option("--ca", command->ca, "Speak TLS, and trust these authorities (PEM)")
      ->check(CLI::ExistingFile);
  app->add_option("--cert", command->certificate, "Own certificate, for a server that asks (PEM)")
      ->check(CLI::ExistingFile)
      ->needs("--ca");
  app->add_option("--key", command->key, "Its key (PEM)")
      ->check(CLI::ExistingFile)
      ->needs("--cert");
  AddApiKeyOption(app, &command->api_key);
  app->add_flag("--json", command->json, "Print one JSON object instead of text");
}

CLI::App* AddVerb(CLI::App* app, CommandLine* command, Verb verb, const std::string& name,
                  const std::string& text) {
  CLI::App* sub = app->add_subcommand(name, text);
  sub->fallthrough();
  sub->callback([=] { command->verb = verb; });
  return sub;
}

void DeclareVerbs(CLI::App* app, CommandLine* command) {
  const auto add = [&](Verb verb, const char* name, const char* text) {
    return AddVerb(app, command, verb, name, text);
  };
  CLI::App* generate = add(Verb::kGenerate, "generate", "Answer a prompt in one precision");
  DeclareGenerate(generate, &command->generate);
  DeclareRoutingKey(generate, &command->routing_key);
  CLI::App* chat = add(Verb::kChat, "chat", "Talk to the model");
  DeclareChat(chat, &command->chat);
  DeclareRoutingKey(chat, &command->routing_key);
  DeclareCompare(add(Verb::kCompare, "compare", "One prompt, several precisions, side by side"),
                 &command->compare);
  DeclareScore(add(Verb::kScore, "score", "How probable a text is: log-probabilities, perplexity"),
               &command->score);
  add(Verb::kModels, "models", "What is served, and its memory")
      ->footer("\nExample:\n  vernier models --json | jq '.models[0].variants[].memory'");
  for (const auto& [verb, name, text] :
       {std::tuple(Verb::kLoad, "load",
                   "Load a configured variant; --server is the admin listener"),
        std::tuple(Verb::kUnload, "unload", "Free a variant's memory; --server likewise"),
        std::tuple(Verb::kPlan, "plan",
                   "Memory that loading a variant needs; --server likewise")}) {
    add(verb, name, text)
        ->add_option("VARIANT", command->control_variant, "Its name in the configuration")
        ->required()
        ->type_name("");
  }
  DeclareExperiment(add(Verb::kExperiment, "experiment",
                        "Precisions against each other on live traffic; --server is the admin "
                        "listener"),
                    &command->experiment);
  DeclareFeedback(add(Verb::kFeedback, "feedback", "What became of an answer, for its experiment"),
                  &command->feedback);
  DeclareTokenize(add(Verb::kTokenize, "tokenize", "Token ids and pieces of a text, offline"),
                  &command->tokenize);
  DeclareTemplate(add(Verb::kTemplate, "template", "A chat template rendered over data, offline"),
                  &command->chat_template);
  DeclareInspect(add(Verb::kInspect, "inspect", "What a model file holds, offline"),
                 &command->inspect);
}

}  // namespace

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine out;
  CLI::App app(kAbout, "vernier");
  app.require_subcommand(1);
  app.set_version_flag("--version", absl::StrCat("vernier ", VERNIER_VERSION));
  app.footer(kExitCodes);
  DeclareCommon(&app, &out.command);
  DeclareVerbs(&app, &out.command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream text;
    std::ostringstream errors;
    const int code = app.exit(error, text, errors);
    out.exit_code = code == 0 ? kExitGood : kExitUsage;
    out.message = code == 0 ? text.str() : absl::StrCat("vernier: ", errors.str());
    return out;
  }
  if (const std::string fault = ClientOptionsFault(app); !fault.empty()) {
    out.exit_code = kExitUsage;
    out.message = absl::StrCat("vernier: ", fault, "\n");
  }
  return out;
}

}  // namespace vernier::cli
