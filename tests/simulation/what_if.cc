// What would a cluster give? The load of `load.h` over a number of replicas, as the load test's
// report.
//
//   vernier_what_if --replicas 1,2,4 --routing prefix --rate 40 --prefix-tokens 960 --prefixes 40
//
// The cost of a step comes from a measurement: `model_bench` or `vernier_step_duration_seconds`.
#include <CLI/CLI.hpp>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>

#include "absl/strings/str_format.h"
#include "loadtest/report/report.h"
#include "tests/simulation/load.h"

namespace {

using vernier::simulation::LoadOptions;
using vernier::simulation::LoadResult;
using vernier::simulation::Routing;

struct Flags {
  LoadOptions options;
  vernier::simulation::LoadSource source;
  std::vector<int> replicas = {1};
  double step_ms = 10, row_us = 200, seconds = 120, warmup = 20;
  vernier::loadtest::Slo slo;
  std::string html;
};

void Declare(CLI::App* app, Flags* flags) {
  const auto add = [&](const char* name, auto* value, const char* text) {
    app->add_option(name, *value, text)->check(CLI::PositiveNumber)->capture_default_str();
  };
  app->add_option("--replicas", flags->replicas, "Numbers of them, each a run")
      ->delimiter(',')
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app->add_option("--routing", flags->options.routing, "round-robin, least-requests or prefix")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, Routing>{{"round-robin", Routing::kRoundRobin},
                                         {"least-requests", Routing::kLeastRequests},
                                         {"prefix", Routing::kPrefix}}));
  add("--rate", &flags->source.requests_per_second, "Requests a second, Poisson");
  add("--prompt-tokens", &flags->source.prompt_tokens, "In the mean; half to three halves");
  add("--output-tokens", &flags->source.output_tokens, "Likewise");
  app->add_option("--prefix-tokens", flags->source.prefix_tokens, "Before each prompt's own")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add("--prefixes", &flags->source.prefixes, "Different texts those are");
  add("--step-ms", &flags->step_ms, "Of every step");
  add("--row-us", &flags->row_us, "Of every row in it");
  add("--kv-blocks", &flags->options.limits.kv_blocks, "Of 32 tokens, of a replica");
  add("--max-context", &flags->options.limits.max_context, "Tokens");
  add("--max-sequences", &flags->options.limits.max_sequences, "That run at once");
  add("--max-requests", &flags->options.admission.max_requests, "Admitted at once");
  add("--seconds", &flags->seconds, "Of arrivals, of the virtual clock");
  add("--warmup", &flags->warmup, "Not counted");
  add("--slo-ttft", &flags->slo.first_token_seconds, "Seconds to the first token");
  add("--slo-tpot", &flags->slo.per_token_seconds, "Seconds a later token");
  add("--seed", &flags->options.seed, "Of the traffic");
  app->add_option("--html", flags->html, "Write the report as a page");
}

int Run(Flags* flags) {
  LoadOptions& options = flags->options;
  options.step = absl::Milliseconds(flags->step_ms);
  options.row = absl::Microseconds(flags->row_us);
  options.duration = absl::Seconds(flags->seconds);
  options.admission.served_at_once = options.limits.max_sequences;
  options.sources = {flags->source};
  vernier::loadtest::Report report{.server = "simulation of the scheduler"};
  report.slo = flags->slo;
  report.workload =
      absl::StrFormat("%g ms a step and %g us a row; %d + %d prompt, %d output tokens",
                      flags->step_ms, flags->row_us, flags->source.prefix_tokens,
                      flags->source.prompt_tokens, flags->source.output_tokens);
  const std::clock_t began = std::clock();
  int64_t requests = 0;
  for (const int replicas : flags->replicas) {
    options.replicas = replicas;
    const LoadResult result = vernier::simulation::RunLoad(options);
    report.runs.push_back(ReportOf(options, result, absl::Seconds(flags->warmup), flags->slo));
    requests += static_cast<int64_t>(result.requests.size());
  }
  const double seconds = static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
  std::cout << ToText(report)
            << absl::StrFormat("%d requests in %.2f s of a processor: %.0f a minute\n", requests,
                               seconds, static_cast<double>(requests) / seconds * 60);
  if (flags->html.empty()) return 0;
  std::ofstream file(flags->html);
  file << ToHtml(report);
  return file.good() ? 0 : 73;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  flags.options.limits = {.kv_blocks = 2000, .max_context = 4096, .max_sequences = 64};
  CLI::App app("Simulates replicas of vernierd under load");
  Declare(&app, &flags);
  CLI11_PARSE(app, argc, argv);
  return Run(&flags);
}
