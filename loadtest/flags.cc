#include "loadtest/flags.h"

#include <CLI/CLI.hpp>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "loadtest/exit_code.h"
#include "loadtest/trace.h"
#include "proto/client_options.h"
#include "proto/metadata_value.h"

namespace vernier::loadtest {
namespace {

constexpr char kAbout[] =
    "Puts load on vernierd and measures what its clients get. Latencies count from the time a "
    "request "
    "was to be sent.";
constexpr char kExitCodes[] =
    "\nExit codes: 0 good, 64 usage, 65 a file that cannot be read, 69 no server, 73 a report that "
    "cannot be written, 1 anything else.\nExamples:\n"
    "  vernier-loadtest run --rate 20 --seconds 60 --metrics 127.0.0.1:9090 --html report.html\n"
    "  vernier-loadtest run --trace AzureLLMInferenceTrace_code.csv --speed 4 --length-scale 0.1\n"
    "  vernier-loadtest sweep --slo-ttft 2 --slo-tpot 0.1 --json before.json --html before.html\n"
    "  vernier-loadtest compare before.json after.json\n";

// Beside what one flag can say: files and what is read from them.
struct Pending {
  std::string variants, tenants, trace, lengths, retry_policy, ca, certificate, key;
  double speed = 1;
};

CLI::Validator Number(double low, double high, const char* text) {
  return CLI::Validator(
      [=](std::string& given) {
        double value = 0;
        const bool good = absl::SimpleAtod(given, &value) && value >= low && value <= high;
        return good ? std::string() : absl::StrCat("'", given, "' is not ", text);
      },
      "");
}

CLI::Validator Address() {
  return CLI::Validator([](std::string& text) { return AddressFault(text); }, "");
}

CLI::Validator Positive() { return Number(1e-6, 1e9, "a number above 0"); }
CLI::Validator NotNegative() { return Number(0, 1e9, "a number from 0 up"); }
CLI::Validator Count(double high) { return Number(1, high, "a whole number from 1 up"); }

void DeclareServer(CLI::App* app, CommandLine* command, Pending* pending) {
  AddServerOption(app, &command->server.address);
  app->add_option("--metrics", command->server.metrics, "Its metrics port, for the timeline")
      ->check(Address())
      ->type_name("HOST:PORT");
  app->add_option("--channels", command->server.channels, "Connections to it")
      ->check(Count(1024))
      ->capture_default_str()
      ->type_name("N");
  app->add_option("--retry-policy", pending->retry_policy,
                  "A gRPC service config that says when calls are tried again (default: never)")
      ->type_name("FILE");
  CLI::Option* ca =
      app->add_option("--ca", pending->ca, "Speak TLS, and trust these authorities (PEM)")
          ->type_name("FILE");
  CLI::Option* certificate = app->add_option("--cert", pending->certificate,
                                             "Own certificate, for a server that asks (PEM)")
                                 ->type_name("FILE")
                                 ->needs(ca);
  CLI::Option* key = app->add_option("--key", pending->key, "Its key (PEM)")
                         ->type_name("FILE")
                         ->needs(certificate);
  certificate->needs(key);
  AddApiKeyOption(app, &command->server.api_key)->type_name("KEY");
}

void DeclareWorkload(CLI::App* app, CommandLine* command, Pending* pending) {
  WorkloadOptions* workload = &command->workload;
  const char* group = "What is sent";
  CLI::Option* prompt =
      app->add_option("--prompt-tokens", workload->prompt_tokens, "Of every prompt")
          ->check(Count(1e8))
          ->group(group)
          ->type_name("N");
  app->add_option("--output-tokens", workload->output_tokens, "Of every answer")
      ->check(Count(1e8))
      ->group(group)
      ->type_name("N")
      ->needs(prompt);
  prompt->needs("--output-tokens");
  app->add_option("--lengths", pending->lengths,
                  "Lengths from a trace (Azure, Mooncake) or a file of lengths (Vidur), its times "
                  "ignored (default: ShareGPT-like)")
      ->group(group)
      ->type_name("FILE")
      ->excludes(prompt);
  app->add_option("--length-scale", workload->length_scale,
                  "Makes lengths so many times longer, all but fixed ones")
      ->check(Positive())
      ->group(group)
      ->capture_default_str()
      ->type_name("X");
  app->add_option("--variants", pending->variants, "A mix of them (default: the server's first)")
      ->group(group)
      ->type_name("NAME=WEIGHT,...");
  app->add_option("--tenants", pending->tenants, "A mix of them (default: none is named)")
      ->group(group)
      ->type_name("NAME=WEIGHT,...");
  app->add_option("--shared-prefix", workload->shared_prefix_tokens,
                  "Tokens with which all prompts of a tenant begin, before their own")
      ->check(Number(0, 1e8, "a whole number from 0 up"))
      ->group(group)
      ->type_name("N");
  app->add_option("--cancel", workload->cancelled_share,
                  "Share of the calls that are cancelled after some of their tokens")
      ->check(Number(0, 1, "in [0, 1]"))
      ->group(group)
      ->type_name("SHARE");
  app->add_option("--temperature", command->run.temperature, "0: greedy")
      ->check(Number(0, 100, "in [0, 100]"))
      ->group(group)
      ->capture_default_str()
      ->type_name("T");
  app->add_option("--seed", workload->seed, "Of everything random here")
      ->group(group)
      ->capture_default_str()
      ->type_name("N");
}

void DeclareTimes(CLI::App* app, CommandLine* command) {
  RunOptions* run = &command->run;
  const char* group = "When";
  app->add_option("--arrivals", run->arrivals.process, "poisson, gamma (bursts) or uniform")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, ArrivalProcess>{{"poisson", ArrivalProcess::kPoisson},
                                                {"gamma", ArrivalProcess::kGamma},
                                                {"uniform", ArrivalProcess::kUniform}}))
      ->group(group)
      ->type_name("KIND");
  app->add_option("--cv", run->arrivals.variation,
                  "Of gamma's gaps: standard deviation over mean; bursts above 1")
      ->check(Number(0.05, 50, "in [0.05, 50]"))
      ->group(group)
      ->type_name("X");
  app->add_option("--seconds", run->arrivals.seconds, "Of sending, warm-up included")
      ->check(Positive())
      ->group(group)
      ->capture_default_str()
      ->type_name("S");
  app->add_option("--warmup", run->warmup_seconds, "At first, sent but not counted")
      ->check(NotNegative())
      ->group(group)
      ->capture_default_str()
      ->type_name("S");
  app->add_option("--requests", run->arrivals.max_requests, "No more than so many")
      ->check(Count(1e9))
      ->group(group)
      ->type_name("N");
  app->add_option("--deadline", run->deadline_seconds, "Of each call (default: none)")
      ->check(Positive())
      ->group(group)
      ->type_name("S");
  app->add_option("--give-up", run->give_up_seconds,
                  "After the last arrival: cancel what still runs")
      ->check(NotNegative())
      ->group(group)
      ->capture_default_str()
      ->type_name("S");
}

void DeclareGoals(CLI::App* app, CommandLine* command) {
  const char* group = "Goals and reports";
  app->add_option("--slo-ttft", command->slo.first_token_seconds, "To the first token, at most")
      ->check(Positive())
      ->group(group)
      ->capture_default_str()
      ->type_name("S");
  app->add_option("--slo-tpot", command->slo.per_token_seconds, "Each later token, in the mean")
      ->check(Positive())
      ->group(group)
      ->capture_default_str()
      ->type_name("S");
  app->add_option("--attainment", command->sweep.attainment,
                  "Share of the requests that must hold both for a rate to be held")
      ->check(Number(0.01, 1, "in [0.01, 1]"))
      ->group(group)
      ->capture_default_str()
      ->type_name("X");
  app->add_option("--json", command->output.json, "Write the report as JSON")
      ->group(group)
      ->type_name("FILE");
  app->add_option("--csv", command->output.csv, "and as CSV")->group(group)->type_name("FILE");
  app->add_option("--html", command->output.html, "and as one page with plots")
      ->group(group)
      ->type_name("FILE");
  app->add_flag("--quiet", command->output.quiet, "No live progress")->group(group);
}

void DeclareRun(CLI::App* app, CommandLine* command, Pending* pending) {
  CLI::Option* rate = app->add_option("--rate", command->run.arrivals.rate,
                                      "Open loop: requests a second in the mean")
                          ->check(Positive())
                          ->type_name("R");
  CLI::Option* clients = app->add_option("--concurrency", command->run.concurrency,
                                         "Closed loop: so many clients, each sending when its last "
                                         "call has ended")
                             ->check(Count(100000))
                             ->type_name("N")
                             ->excludes(rate);
  CLI::Option* trace = app->add_option("--trace", pending->trace, "Open loop: as in this trace")
                           ->type_name("FILE")
                           ->excludes(rate)
                           ->excludes(clients);
  app->add_option("--speed", pending->speed, "Replays the trace so many times faster")
      ->check(Positive())
      ->type_name("X")
      ->needs(trace)
      ->capture_default_str();
}

void DeclareSweep(CLI::App* app, CommandLine* command) {
  SweepOptions* sweep = &command->sweep;
  CLI::Option* rates = app->add_option("--rates", command->rates, "These, instead of a search")
                           ->delimiter(',')
                           ->check(Positive())
                           ->type_name("R,...");
  app->add_option("--from", sweep->first_rate, "The first rate")
      ->check(Positive())
      ->capture_default_str()
      ->type_name("R")
      ->excludes(rates);
  app->add_option("--growth", sweep->growth, "From one rate to the next until one fails")
      ->check(Number(1.05, 100, "in [1.05, 100]"))
      ->capture_default_str()
      ->type_name("X");
  app->add_option("--precision", sweep->precision, "Ends when the knee is known by this factor")
      ->check(Number(1.01, 10, "in [1.01, 10]"))
      ->capture_default_str()
      ->type_name("X");
  app->add_option("--max-runs", sweep->max_runs, "At most so many rates")
      ->check(Count(1000))
      ->capture_default_str()
      ->type_name("N");
}

absl::Status ReadFiles(const Pending& pending, CommandLine* command) {
  for (const auto& [text, shares] : {std::pair(&pending.variants, &command->workload.variants),
                                     std::pair(&pending.tenants, &command->workload.tenants)}) {
    if (text->empty()) continue;
    auto parsed = ParseShares(*text);
    if (!parsed.ok()) return parsed.status();
    *shares = *std::move(parsed);
  }
  for (const auto& tenant : command->workload.tenants) {
    if (const char* fault = MetadataFault(tenant.name); *fault != '\0') {
      return absl::InvalidArgumentError(absl::StrCat("--tenants: ", fault));
    }
  }
  const std::string& path = pending.trace.empty() ? pending.lengths : pending.trace;
  if (!path.empty()) {
    auto trace = ReadTrace(path);
    if (!trace.ok()) return trace.status();
    if (!pending.trace.empty() && (!trace->has_times || trace->MeanRate() <= 0)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": has no times to replay"));
    }
    command->run.replay = !pending.trace.empty();
    if (command->run.replay) command->run.arrivals.rate = trace->MeanRate() * pending.speed;
    command->workload.lengths = std::make_shared<const Trace>(*std::move(trace));
  }
  ServerOptions* server = &command->server;
  for (const auto& [file_path, content] :
       {std::pair(&pending.retry_policy, &server->retry_policy),
        std::pair(&pending.ca, &server->ca), std::pair(&pending.certificate, &server->certificate),
        std::pair(&pending.key, &server->key)}) {
    if (file_path->empty()) continue;
    std::ifstream file(*file_path);
    content->assign(std::istreambuf_iterator<char>(file), {});
    if (!file || content->empty()) {
      return absl::NotFoundError(absl::StrCat(*file_path, ": cannot be read"));
    }
  }
  return absl::OkStatus();
}

// Of flags that are each good.
std::string WrongTogether(const CommandLine& command) {
  if (command.verb == Verb::kCompare) return "";
  if (command.run.warmup_seconds >= command.run.arrivals.seconds) {
    return "--warmup must be shorter than --seconds";
  }
  return "";
}

void DeclareAll(CLI::App* app, CommandLine* command, Pending* pending) {
  const auto add = [&](Verb verb, const char* name, const char* text) {
    CLI::App* sub = app->add_subcommand(name, text);
    sub->callback([=] { command->verb = verb; });
    return sub;
  };
  CLI::App* run = add(Verb::kRun, "run", "One load, and what its clients got");
  CLI::App* sweep = add(Verb::kSweep, "sweep", "Several rates: where the knee is");
  CLI::App* compare = add(Verb::kCompare, "compare", "What changed between two JSON reports");
  DeclareRun(run, command, pending);
  DeclareSweep(sweep, command);
  for (CLI::App* sub : {run, sweep}) {
    DeclareServer(sub, command, pending);
    DeclareWorkload(sub, command, pending);
    DeclareTimes(sub, command);
    DeclareGoals(sub, command);
  }
  compare->add_option("BEFORE", command->before, "A JSON report")->required();
  compare->add_option("AFTER", command->after, "Another")->required();
}

}  // namespace

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine out;
  Pending pending;
  CLI::App app(kAbout, "vernier-loadtest");
  app.require_subcommand(1);
  app.footer(kExitCodes);
  DeclareAll(&app, &out.command, &pending);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream text, errors;
    const int code = app.exit(error, text, errors);
    out.exit_code = code == 0 ? kExitGood : kExitUsage;
    out.message = code == 0 ? text.str() : absl::StrCat("vernier-loadtest: ", errors.str());
    return out;
  }
  // One subcommand is required.
  if (const std::string fault = ClientOptionsFault(*app.get_subcommands().front());
      !fault.empty()) {
    out.exit_code = kExitUsage;
    out.message = absl::StrCat("vernier-loadtest: ", fault, "\n");
  } else if (absl::Status status = ReadFiles(pending, &out.command); !status.ok()) {
    out.exit_code = kExitBadInput;
    out.message = absl::StrCat("vernier-loadtest: ", status.message(), "\n");
  } else if (const std::string wrong = WrongTogether(out.command); !wrong.empty()) {
    out.exit_code = kExitUsage;
    out.message = absl::StrCat("vernier-loadtest: ", wrong, "\n");
  }
  return out;
}

}  // namespace vernier::loadtest
