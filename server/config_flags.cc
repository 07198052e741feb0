#include "server/config_flags.h"

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

struct Flags {
  std::string config, model, name, variants, listen, http, health, admin, isa, backend;
  std::string metrics_compat, healthcheck, random_weights, save, cuda_module;
  int threads = -1;
  int64_t kv_bytes = -1, max_context = -1;
  bool check = false, behind_proxy = false, fast_prefill = false, pin_threads = false;
};

void Declare(CLI::App* app, Flags* flags) {
  app->add_option("--config", flags->config, "Configuration, YAML; flags override its keys");
  app->add_option("--model", flags->model, "GGUF file or Hugging Face folder (model.path)");
  app->add_option("--random-weights", flags->random_weights,
                  "No weights but seeded ones, of the shapes of llama-3.1-8b, llama-3.2-1b,\n"
                  "llama-3.1-70b or smollm2-135m: for measuring (model.path: random-weights:NAME)")
      ->excludes("--model");
  app->add_option(
         "--save", flags->save,
         "Write that model as a new Hugging Face folder in bf16 and end: for measuring how\n"
         "long models take to load")
      ->needs("--random-weights")
      ->excludes("--config");
  app->add_option("--name", flags->name, "Name that clients use (model.name)");
  app->add_option("--variants", flags->variants, "Formats to serve: fp16,int8,nf4 (variants)");
  app->add_option("--listen", flags->listen, "gRPC on HOST:PORT, port 0 picks one (listen)");
  app->add_option("--http", flags->http, "Metrics on HOST:PORT (http)");
  app->add_option("--health", flags->health, "Health alone on HOST:PORT (health)");
  app->add_option("--admin", flags->admin, "Admin services on HOST:PORT (admin)");
  app->add_option("--metrics-compat", flags->metrics_compat,
                  "Also under the names of: none or vllm (metrics_compat)")
      ->check(CLI::IsMember({"none", "vllm"}));
  app->add_option("--healthcheck", flags->healthcheck,
                  "Ask the daemon whose health is at HOST:PORT: end with 0 when it is ready");
  app->add_option("--threads", flags->threads, "Compute threads, 0: all processors (threads)")
      ->check(CLI::Range(0, 1024));
  app->add_option("--isa", flags->isa, "auto, portable, avx2, avx512, avx512_bf16 or amx (isa)")
      ->check(CLI::IsMember({"auto", "portable", "avx2", "avx512", "avx512_bf16", "amx"}));
  app->add_flag("--fast-prefill", flags->fast_prefill,
                "CPU with AMX: few rows of fp16, bf16 and fp32 weights by vectors, whatever bits\n"
                "more rows would get (fast_prefill)");
  app->add_flag("--pin-threads", flags->pin_threads,
                "Compute threads stay on a processor each (pin_threads)");
  app->add_option("--backend", flags->backend, "auto, cpu, cuda or reference (backend)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "reference"}));
  app->add_option("--cuda-module", flags->cuda_module, "Path of libvernier_cuda.so (cuda_module)");
  app->add_option("--kv-bytes", flags->kv_bytes, "Size of the KV pool (engine.kv_bytes)")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--max-context", flags->max_context, "Tokens (engine.max_context)")
      ->check(CLI::NonNegativeNumber);
  app->add_flag("--behind-proxy", flags->behind_proxy,
                "A proxy shields the port: no warning about gRPC's age (behind_proxy)");
  app->add_flag("--check-config", flags->check, "Report every error and end");
  app->set_version_flag("--version", absl::StrCat("vernierd ", kVersion));
}

void Address(const std::string& flag, const std::string& value, std::string* out,
             ParsedConfig* parsed) {
  if (value.empty()) return;
  if (!IsAddress(value)) {
    parsed->errors.push_back({0, absl::StrCat(flag, " must be HOST:PORT")});
    return;
  }
  *out = value;
}

void Override(const Flags& flags, ParsedConfig* parsed) {
  ServerConfig& config = parsed->config;
  if (!flags.model.empty()) config.model_path = flags.model;
  if (!flags.random_weights.empty()) {
    config.model_path = absl::StrCat("random-weights:", flags.random_weights);
  }
  if (!flags.name.empty()) config.model_name = flags.name;
  if (!flags.variants.empty()) SetVariants(flags.variants, parsed);
  Address("--listen", flags.listen, &config.listen, parsed);
  Address("--http", flags.http, &config.http, parsed);
  Address("--health", flags.health, &config.health, parsed);
  Address("--admin", flags.admin, &config.admin, parsed);
  if (flags.metrics_compat == "vllm") config.metrics_compat = MetricsCompat::kVllm;
  if (flags.metrics_compat == "none") config.metrics_compat = MetricsCompat::kNone;
  if (flags.threads >= 0) config.threads = flags.threads;
  if (!flags.isa.empty()) config.isa = flags.isa;
  if (!flags.backend.empty()) config.backend = flags.backend;
  if (!flags.cuda_module.empty()) config.cuda_module = flags.cuda_module;
  if (flags.kv_bytes >= 0) {
    config.engine.kv_bytes = flags.kv_bytes;
    config.engine.kv_blocks = 0;
  }
  if (flags.max_context >= 0) config.engine.max_context = flags.max_context;
  config.behind_proxy = config.behind_proxy || flags.behind_proxy;
  config.fast_prefill = config.fast_prefill || flags.fast_prefill;
  config.pin_threads = config.pin_threads || flags.pin_threads;
}

}  // namespace

CommandLine ParseCommandLine(int argc, const char* const* argv) {
  CommandLine out;
  Flags flags;
  CLI::App app(
      "Serves one language model in several precisions. Exit codes: 0 stopped, 64 usage or\n"
      "configuration, 65 weights, 69 port in use, 70 engine lost, 71 system resource.",
      "vernierd");
  Declare(&app, &flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream text, errors;
    out.exit_code = app.exit(error, text, errors) == 0 ? 0 : 64;
    out.message = text.str() + errors.str();
    return out;
  }
  out.healthcheck = flags.healthcheck;
  if (!out.healthcheck.empty()) return out;  // of another process: no configuration is needed
  if (!flags.save.empty()) {
    out.save_folder = flags.save;
    out.random_weights = flags.random_weights;
    return out;
  }
  out.check_config = flags.check;
  out.config_file = flags.config;
  std::string text;
  if (!flags.config.empty()) {
    auto read = ReadConfigFile(flags.config);
    if (!read.ok()) {
      out.message = absl::StrCat("vernierd: ", read.status().message(), "\n");
      out.exit_code = 64;
      return out;
    }
    text = *std::move(read);
  }
  out.parsed = ParseConfig(text);
  Override(flags, &out.parsed);
  CheckConfig(&out.parsed);
  return out;
}

}  // namespace vernier
