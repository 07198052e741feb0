// Decode and prefill speed of one backend by format, batch and context: whole steps, from the
// batch's arrays to the drawn ids on the host.
//
// Validates first: a prompt prefilled at once and fed token by token, and a whole context and its
// last token behind the others, must give the same logits but for rounding, and --against compares
// greedy tokens with another backend's. With --deterministic the logits must be the same bits, and
// each format is timed without and with it. Then times: medians, the spread, and beside each decode
// figure what reading its weights and KV once would allow at --read-gbps (of the device; gemm_bench
// measures it).
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/model.h"
#include "kernels/make_backend.h"
#include "tests/bench/bit_equality.h"
#include "tests/bench/machine.h"
#include "tests/testing/single_sequence.h"

namespace vernier::bench {
namespace {

using testing::SequenceDriver;

constexpr int kValidationTokens = 33;
constexpr int kWarmSteps = 4;

struct Options {
  std::string model;
  BackendOptions backend;
  bool deterministic = false;
  bool bit_equality = false;
  std::vector<std::string> formats{"fp16", "int8", "nf4"};
  std::string lm_head;  // its format; empty: the variant's
  std::vector<int> batches{1, 8, 32, 128, 256};
  int context = 1024;
  int steps = 32;
  int rounds = 1;
  int prefill_sequences = 8, prefill_tokens = 1024;
  int prefill_rows = 8192;
  double read_gbps = 0;
  std::string against;
  int greedy_prompts = 16, greedy_tokens = 64;
};

struct Running {
  std::string name;  // of the format, whether it is deterministic, and a head that was asked for
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<SequenceDriver> driver;
  double load_seconds = 0;
};

absl::StatusOr<Running> Start(const Options& options, const BackendOptions& backend_options,
                              const std::string& format, const SequenceDriver::Limits& limits) {
  absl::StatusOr<VariantSpec> variant = ParseVariant(format);
  if (!variant.ok()) return variant.status();
  if (!options.lm_head.empty()) {
    const absl::StatusOr<FormatId> head = ParseFormat(options.lm_head);
    if (!head.ok()) return head.status();
    // Of the rules that fit a tensor the first decides.
    variant->formats.insert(variant->formats.begin(), {"lm_head", *head});
  }
  Running running;
  absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend(backend_options);
  if (!backend.ok()) return backend.status();
  running.name = absl::StrCat(format, backend_options.deterministic ? "+deterministic" : "");
  if (!options.lm_head.empty()) absl::StrAppend(&running.name, " (", options.lm_head, " lm_head)");
  running.backend = *std::move(backend);
  const double start = SecondsNow();
  absl::StatusOr<std::unique_ptr<Model>> model =
      LoadModel(options.model, "bench", {*variant}, running.backend.get(), nullptr);
  if (!model.ok()) return model.status();
  running.load_seconds = SecondsNow() - start;
  running.model = *std::move(model);
  absl::StatusOr<std::unique_ptr<SequenceDriver>> driver =
      SequenceDriver::Create(running.model.get(), running.backend.get(), limits);
  if (!driver.ok()) return driver.status();
  running.driver = *std::move(driver);
  return running;
}

// Ids spread over the vocabulary: speed does not depend on them.
std::vector<int32_t> SomeIds(const Model& model, int count, int salt) {
  std::vector<int32_t> ids(count);
  for (int i = 0; i < count; ++i) {
    ids[i] = static_cast<int32_t>((int64_t{i} * 7919 + salt * 104729 + 11) % model.config.vocab);
  }
  return ids;
}

double StepBytes(const Model& model, int batch, int64_t context) {
  const Variant& variant = model.variants[0];
  int64_t bytes = variant.lm_head.weight->bytes;
  for (const LayerWeights& layer : variant.layers) {
    for (const Linear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      if (linear->weight != nullptr) bytes += linear->weight->bytes;
    }
  }
  const int64_t kv_of_token =
      KvBlockBytes(model.config.num_layers, model.config.attention, variant.kv) / kBlockTokens;
  return static_cast<double>(bytes + batch * context * kv_of_token);
}

// The last position's logits: `first` tokens at once, then one by one.
absl::StatusOr<std::vector<float>> LastLogits(SequenceDriver* driver, std::span<const int32_t> ids,
                                              size_t first) {
  driver->Reset();
  const SequenceDriver::Input begin{0, ids.first(first)};
  absl::Status status = driver->Step(0, {&begin, 1}, SequenceDriver::Logits::kLast, [] {});
  for (size_t i = first; i < ids.size() && status.ok(); ++i) {
    const SequenceDriver::Input one{0, ids.subspan(i, 1)};
    status = driver->Step(0, {&one, 1}, SequenceDriver::Logits::kLast, [] {});
  }
  if (!status.ok()) return status;
  return driver->LastLogits();
}

// A few tokens at once and one by one, then a whole context at once and its last token behind the
// others: decode's keys are cut into runs there.
absl::Status Validate(Running* running, const BackendOptions& backend, int context) {
  struct Run {
    int tokens;
    int first;
  };
  for (const auto& [tokens, first] : {Run{kValidationTokens, 1}, Run{context, context - 1}}) {
    if (first < 1) continue;
    const std::vector<int32_t> ids = SomeIds(*running->model, tokens, 0);
    const auto at_once = LastLogits(running->driver.get(), ids, ids.size());
    if (!at_once.ok()) return at_once.status();
    const auto by_steps = LastLogits(running->driver.get(), ids, first);
    if (!by_steps.ok()) return by_steps.status();
    double squares = 0, error = 0;
    for (size_t i = 0; i < at_once->size(); ++i) {
      squares += std::pow((*at_once)[i], 2);
      error += std::pow((*at_once)[i] - (*by_steps)[i], 2);
    }
    const double relative = std::sqrt(error / squares);
    std::cout << absl::StrFormat(
        "# validated: %d tokens at once, and %d and one by one, differ by %.2e\n", tokens, first,
        relative);
    // Where a row's bits depend on its step, int8 activations fall to other whole numbers: the two
    // differ by the whole of their rounding, and of that of an int8 cache. What is wrong differs by
    // about 1.4. Negated, so that what is no number fails.
    const Activations activations = running->model->variants[0].activations;
    const bool int8 = activations != Activations::kFull && activations != Activations::kBF16;
    const double most = backend.deterministic ? 0 : int8 ? 0.35 : 0.05;
    if (!(relative <= most)) {
      return absl::InternalError(absl::StrCat("logits differ by ", relative, " of their size"));
    }
  }
  return absl::OkStatus();
}

absl::Status CompareGreedy(const Options& options, const std::string& format) {
  const SequenceDriver::Limits limits{.sequences = options.greedy_prompts,
                                      .context = 128 + options.greedy_tokens,
                                      .rows = options.greedy_prompts * 64,
                                      .logit_rows = std::max(options.greedy_prompts, 64)};
  std::vector<std::vector<int32_t>> outputs[2];
  const BackendOptions backends[] = {{.kind = options.against}, options.backend};
  for (int side = 0; side < 2; ++side) {
    absl::StatusOr<Running> running = Start(options, backends[side], format, limits);
    if (!running.ok()) return running.status();
    std::vector<std::vector<int32_t>> prompts;
    for (int i = 0; i < options.greedy_prompts; ++i) {
      prompts.push_back(SomeIds(*running->model, 1 + i * 3 % 48, i));
    }
    absl::StatusOr<std::vector<std::vector<int32_t>>> greedy =
        running->driver->Greedy(0, prompts, options.greedy_tokens);
    if (!greedy.ok()) return greedy.status();
    outputs[side] = *std::move(greedy);
  }
  int same = 0, first_same = 0;
  for (int i = 0; i < options.greedy_prompts; ++i) {
    same += outputs[0][i] == outputs[1][i];
    first_same += outputs[0][i][0] == outputs[1][i][0];
  }
  std::cout << absl::StrFormat(
      "# %s: greedy tokens equal %s's for %d of %d prompts (%d tokens each), the first of each for "
      "%d\n",
      format, options.against, same, options.greedy_prompts, options.greedy_tokens, first_same);
  return absl::OkStatus();
}

absl::Status Prefill(Running* running, const Options& options, int sequences, int tokens) {
  SequenceDriver& driver = *running->driver;
  driver.Reset();
  const int at_once = std::max(options.prefill_rows / tokens, 1);
  for (int first = 0; first < sequences; first += at_once) {
    std::vector<std::vector<int32_t>> ids;
    std::vector<SequenceDriver::Input> inputs;
    const int count = std::min(at_once, sequences - first);
    for (int i = 0; i < count; ++i) ids.push_back(SomeIds(*running->model, tokens, first + i));
    for (int i = 0; i < count; ++i) inputs.push_back({first + i, ids[i]});
    if (absl::Status status = driver.Step(0, inputs, SequenceDriver::Logits::kLast, [] {});
        !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

// Decodes one token of each sequence, `steps` times.
absl::Status Decode(Running* running, int batch, int steps, std::vector<double>* seconds) {
  const std::vector<int32_t> ids = SomeIds(*running->model, batch, 1);
  std::vector<SequenceDriver::Input> inputs;
  std::vector<SampleRow> rows;
  for (int i = 0; i < batch; ++i) {
    inputs.push_back({i, std::span(ids).subspan(i, 1)});
    rows.push_back({.logit_index = i});
  }
  std::vector<SampleResult> results(batch);
  for (int step = 0; step < kWarmSteps + steps; ++step) {
    const double start = SecondsNow();
    absl::Status status = running->driver->Step(0, inputs, SequenceDriver::Logits::kLast, [&] {
      running->backend->Sample(rows, std::span(results));
    });
    if (!status.ok()) return status;
    if (step >= kWarmSteps) seconds->push_back(SecondsNow() - start);
  }
  return absl::OkStatus();
}

// Of each pair, one format without and with --deterministic.
void PrintCost(const std::string& what, std::span<const double> seconds,
               std::span<const Running> formats) {
  for (size_t i = 1; i < seconds.size(); i += 2) {
    std::cout << absl::StrFormat("# %s, %s: %.1f %% more time\n", formats[i].name, what,
                                 100 * (seconds[i] / seconds[i - 1] - 1))
              << std::flush;
  }
}

// Each format is prefilled, then all decode in turns, so that what else the machine does falls on
// all of them.
absl::Status TimeDecode(std::span<Running> formats, const Options& options, int batch) {
  for (Running& running : formats) {
    absl::Status status = Prefill(&running, options, batch, options.context);
    if (!status.ok()) return status;
  }
  std::vector<std::vector<double>> seconds(formats.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < formats.size(); ++i) {
      absl::Status status = Decode(&formats[i], batch, options.steps, &seconds[i]);
      if (!status.ok()) return status;
    }
  }
  std::vector<double> medians;
  for (size_t i = 0; i < formats.size(); ++i) {
    const Timing timing = Summarize(std::move(seconds[i]));
    medians.push_back(timing.median_seconds);
    const double bytes =
        StepBytes(*formats[i].model, batch,
                  options.context + options.rounds * (kWarmSteps + options.steps) / 2);
    const double limit = options.read_gbps > 0 ? batch * options.read_gbps * 1e9 / bytes : 0;
    std::cout << absl::StrFormat("decode,%s,%d,%d,%.1f,%.1f,%.3f,%.1f,%.1f\n", formats[i].name,
                                 batch, options.context, batch / timing.median_seconds,
                                 timing.spread_percent, timing.median_seconds * 1e3, limit,
                                 limit > 0 ? 100 * batch / timing.median_seconds / limit : 0)
              << std::flush;
  }
  if (options.deterministic) PrintCost(absl::StrCat("decode, batch ", batch), medians, formats);
  return absl::OkStatus();
}

// Median seconds.
absl::StatusOr<double> TimePrefill(Running* running, const Options& options) {
  std::vector<double> seconds;
  for (int repeat = 0; repeat < 4; ++repeat) {
    const double start = SecondsNow();
    if (absl::Status status =
            Prefill(running, options, options.prefill_sequences, options.prefill_tokens);
        !status.ok()) {
      return status;
    }
    if (repeat > 0) seconds.push_back(SecondsNow() - start);
  }
  const Timing timing = Summarize(std::move(seconds));
  const int tokens = options.prefill_sequences * options.prefill_tokens;
  std::cout << absl::StrFormat("prefill,%s,%d,%d,%.1f,%.1f,%.3f,,\n", running->name,
                               options.prefill_sequences, options.prefill_tokens,
                               tokens / timing.median_seconds, timing.spread_percent,
                               timing.median_seconds * 1e3)
            << std::flush;
  return timing.median_seconds;
}

// One prompt alone, its first token drawn. Median seconds.
absl::StatusOr<double> TimeFirstToken(Running* running, const Options& options) {
  constexpr int kRepeats = 12, kWarm = 2;
  const std::vector<int32_t> ids = SomeIds(*running->model, options.prefill_tokens, 0);
  const SequenceDriver::Input whole{0, ids};
  const SampleRow row{.logit_index = 0};
  SampleResult result;
  std::vector<double> seconds;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    running->driver->Reset();
    const double start = SecondsNow();
    absl::Status status = running->driver->Step(0, {&whole, 1}, SequenceDriver::Logits::kLast, [&] {
      running->backend->Sample({&row, 1}, {&result, 1});
    });
    if (!status.ok()) return status;
    if (repeat >= kWarm) seconds.push_back(SecondsNow() - start);
  }
  const Timing timing = Summarize(std::move(seconds));
  std::cout << absl::StrFormat("ttft,%s,1,%d,%.1f,%.1f,%.3f,,\n", running->name,
                               options.prefill_tokens,
                               options.prefill_tokens / timing.median_seconds,
                               timing.spread_percent, timing.median_seconds * 1e3)
            << std::flush;
  return timing.median_seconds;
}

absl::StatusOr<Running> StartAndValidate(const Options& options, const BackendOptions& backend,
                                         const std::string& format) {
  const int most = *std::max_element(options.batches.begin(), options.batches.end());
  const int tokens =
      std::max(options.context + options.rounds * (kWarmSteps + options.steps), kValidationTokens);
  absl::StatusOr<Running> running =
      Start(options, backend, format,
            {.sequences = std::max({most, options.prefill_sequences, kEqualitySequences}),
             .context = std::max({tokens, options.prefill_tokens, kEqualityPrompt + 1}),
             .rows = std::max({options.prefill_rows, options.context, options.prefill_tokens,
                               kEqualitySequences * kEqualityPrompt}),
             .logit_rows = std::max(most, 64)});
  if (!running.ok()) return running;
  std::cout << "# backend: " << running->backend->Describe()
            << absl::StrFormat("; loaded in %.1f s, %.2f GB of weights, %.2f GB of workspace\n",
                               running->load_seconds, running->model->memory.weight_bytes / 1e9,
                               running->backend->Memory().workspace_bytes / 1e9);
  absl::Status status = Validate(&*running, backend, options.context);
  if (!status.ok()) return status;
  if (!options.bit_equality) return running;
  const auto equal = CountBitEqual(running->driver.get(), running->model->config.vocab);
  if (!equal.ok()) return equal.status();
  std::cout << absl::StrFormat(
      "# %s: %d of %d bit-equal, alone and beside others, whole prompts and "
      "pieces\n",
      running->name, *equal, kEqualityRuns);
  return running;
}

// Prefill and the first token of one format.
absl::Status TimePrompts(std::span<Running> formats, const Options& options) {
  std::vector<double> prefill, first;
  for (Running& running : formats) {
    const absl::StatusOr<double> seconds = TimePrefill(&running, options);
    if (!seconds.ok()) return seconds.status();
    prefill.push_back(*seconds);
    const absl::StatusOr<double> token = TimeFirstToken(&running, options);
    if (!token.ok()) return token.status();
    first.push_back(*token);
  }
  if (!options.deterministic) return absl::OkStatus();
  PrintCost("prefill", prefill, formats);
  PrintCost("the first token", first, formats);
  return absl::OkStatus();
}

// Formats one after the other, or where there are rounds all at once and no prefill.
absl::Status Run(const Options& options) {
  std::cout << "# date: " << Today() << "\n# model: " << options.model << "\n";
  std::vector<Running> together;
  std::vector<BackendOptions> backends = {options.backend};
  if (options.deterministic) {
    backends.push_back(options.backend);
    backends.back().deterministic = true;
  }
  for (const std::string& format : options.formats) {
    if (!options.against.empty()) {
      if (absl::Status status = CompareGreedy(options, format); !status.ok()) return status;
      continue;
    }
    for (const BackendOptions& backend : backends) {
      absl::StatusOr<Running> running = StartAndValidate(options, backend, format);
      if (!running.ok()) return running.status();
      together.push_back(*std::move(running));
    }
    const size_t all = options.formats.size() * backends.size();
    if (options.rounds > 1 && together.size() < all) continue;
    std::cout << "kind,format,batch,tokens,tokens_per_second,spread_percent,milliseconds,limit,"
                 "percent_of_limit\n";
    for (const int batch : options.batches) {
      absl::Status status = TimeDecode(std::span(together), options, batch);
      if (!status.ok()) return status;
    }
    if (options.rounds > 1) break;
    if (absl::Status status = TimePrompts(std::span(together), options); !status.ok()) {
      return status;
    }
    together.clear();
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace vernier::bench

int main(int argc, char** argv) {
  vernier::bench::Options options;
  CLI::App app("Validates, then times whole steps of a backend by format and batch; prints CSV.");
  app.add_option("--model", options.model,
                 "A GGUF file, a Hugging Face folder or random-weights:NAME")
      ->required();
  app.add_option("--backend", options.backend.kind, "auto, cpu, cuda or reference");
  app.add_option("--formats", options.formats,
                 "Formats, one after the other; FORMAT+kv8: int8 KV, FORMAT+a8: int8 activations")
      ->delimiter(',');
  app.add_option("--lm-head", options.lm_head, "Its format in all of them; else that of each");
  app.add_option("--batches", options.batches, "Sequences decoded together")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  app.add_option("--context", options.context, "Tokens that each holds before")
      ->check(CLI::Range(1, 1 << 17));
  app.add_option("--steps", options.steps, "Timed steps")->check(CLI::Range(3, 10000));
  app.add_option("--rounds", options.rounds,
                 "Above 1: all formats in memory, decoding in turns as often; no prefill is timed")
      ->check(CLI::Range(1, 1000));
  app.add_option("--threads", options.backend.threads, "Of the CPU backend; 0: all")
      ->check(CLI::Range(0, 1024));
  app.add_option("--prefill-sequences", options.prefill_sequences)->check(CLI::Range(1, 1024));
  app.add_option("--prefill-tokens", options.prefill_tokens)->check(CLI::Range(1, 1 << 17));
  app.add_option("--prefill-rows", options.prefill_rows, "Rows of a step; one prompt is not cut")
      ->check(CLI::Range(1, 1 << 17));
  app.add_option("--read-gbps", options.read_gbps, "Read rate of the device, GB/s");
  app.add_option("--against", options.against, "Only compare greedy tokens with this backend");
  app.add_flag("--deterministic", options.deterministic,
               "Also with deterministic: true, in turns with the others, and what it costs");
  app.add_flag("--bit-equality", options.bit_equality,
               "Also count of 1,000 requests those whose logits do not depend on how they are run");
  app.add_flag("--portable-cuda", options.backend.portable_cuda,
               "The CUDA kernels of devices before Hopper");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = vernier::bench::Run(options);
  if (!status.ok()) std::cerr << "step_bench: " << status << "\n";
  return status.ok() ? 0 : 1;
}
