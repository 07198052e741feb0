// Decode and prefill speed of a model by format, batch and threads, and its memory by set of
// variants.
//
// Validates first: one step of the CPU backend must give the logits of the reference backend. Then
// times: each figure is a median with its spread, as GB/s (weights and KV read by a step) and as
// percent of the read bandwidth measured with as many threads just before; prefill also as
// multiply-adds a second and percent of the arithmetic peak measured just before. Memory and time
// to ready are those of a process of its own for each set of variants.
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/random_checkpoint.h"
#include "engine/model/model.h"
#include "kernels/cpu_isas.h"
#include "kernels/make_backend.h"
#include "tests/bench/arithmetic_peak.h"
#include "tests/bench/machine.h"
#include "tests/testing/single_sequence.h"

namespace vernier::bench {
namespace {

using testing::SequenceDriver;

constexpr int kStepRows = 512;       // of a prefill step, at most: longer prompts come in chunks
constexpr int kDecodeContext = 128;  // tokens a sequence holds when decoding is timed
constexpr int kDecodeSteps = 24;
constexpr int kDecodeBlocks = (kDecodeContext + kDecodeSteps + kBlockTokens - 1) / kBlockTokens;
constexpr int kPrefillRepeats = 3;
constexpr int kValidationTokens = 8;
constexpr double kMiB = 1 << 20;

// Some layers of an 8B model with random weights, more than caches hold, and a small vocabulary:
// the layers are what is measured.
constexpr char kRandomStack[] = "random-8b";
constexpr char kRandomStackOf[] = "llama-3.1-8b";
constexpr int64_t kRandomStackVocab = 1024;

struct Options {
  std::string model;
  std::string isa = "auto";
  std::vector<std::string> formats{"fp16", "int8", "nf4"};
  std::string lm_head;  // a format; empty: the variant's own
  std::vector<int> threads;
  std::vector<int> batches{1, 4, 8, 16, 32};
  std::vector<int> prompts{128, 512, 2048};
  int64_t layers = 4;  // of the random model
  bool fast_prefill = false;
  bool pin_threads = false;
  bool skip_validation = false;
  bool csv = false;
  bool skip_memory = false;
  std::string memory_of;  // set in the processes that measure memory: a set of variants
};

// 0 threads: all.
BackendOptions BackendOf(const Options& options, int threads = 0) {
  return {.kind = "cpu",
          .isa = options.isa,
          .fast_prefill = options.fast_prefill,
          .pin_threads = options.pin_threads,
          .threads = threads};
}

// One line of the result; what does not apply is 0 and printed empty.
struct Row {
  std::string kind;  // decode | prefill | memory
  std::string variants;
  int threads = 0;
  int batch = 0;
  int tokens = 0;  // of the prompt, or of the context
  double tokens_per_second = 0;
  double spread_percent = 0;
  double gigabytes_per_second = 0;
  double percent_of_bandwidth = 0;
  double products_per_second = 0;  // 10^9 multiply-adds with weights
  double percent_of_peak = 0;
  double ready_seconds = 0;
  double idle_mib = 0, peak_mib = 0, tracked_mib = 0;
};

struct Running {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<SequenceDriver> driver;
};

absl::StatusOr<Running> Start(const Options& options, const std::vector<std::string>& formats,
                              const BackendOptions& backend_options,
                              const SequenceDriver::Limits& limits) {
  std::vector<VariantSpec> variants;
  for (const std::string& name : formats) {
    absl::StatusOr<VariantSpec> variant = ParseVariant(name);
    if (!variant.ok()) return variant.status();
    variants.push_back(*std::move(variant));
    if (options.lm_head.empty()) continue;
    const absl::StatusOr<FormatId> lm_head = ParseFormat(options.lm_head);
    if (!lm_head.ok()) return lm_head.status();
    std::vector<FormatRule>& rules = variants.back().formats;
    rules.insert(rules.begin(), {"lm_head", *lm_head});
  }
  Running running;
  absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend(backend_options);
  if (!backend.ok()) return backend.status();
  running.backend = *std::move(backend);
  const absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint =
      options.model == kRandomStack
          ? OpenRandomCheckpoint(kRandomStackOf,
                                 {.num_layers = options.layers, .vocab = kRandomStackVocab})
          : Checkpoint::Open(options.model);
  if (!checkpoint.ok()) return checkpoint.status();
  absl::StatusOr<std::unique_ptr<Model>> model =
      LoadModelFrom(**checkpoint, "bench", variants, running.backend.get(), nullptr);
  if (!model.ok()) return model.status();
  running.model = *std::move(model);
  absl::StatusOr<std::unique_ptr<SequenceDriver>> driver =
      SequenceDriver::Create(running.model.get(), running.backend.get(), limits);
  if (!driver.ok()) return driver.status();
  running.driver = *std::move(driver);
  return running;
}

// Ids spread over the vocabulary: speed does not depend on them.
std::vector<int32_t> SomeIds(const Model& model, int count) {
  std::vector<int32_t> ids(count);
  for (int i = 0; i < count; ++i) {
    ids[i] = static_cast<int32_t>((int64_t{i} * 7919 + 11) % model.config.vocab);
  }
  return ids;
}

// The sum of of(weight) over the layers' weights.
template <class Of>
int64_t SumOverLayers(const Variant& variant, const Of& of) {
  int64_t sum = 0;
  for (const LayerWeights& layer : variant.layers) {
    for (const Linear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      if (linear->weight != nullptr) sum += of(*linear->weight);
    }
  }
  return sum;
}

// Bytes that one step reads: the layers' weights and lm_head once, and every sequence's keys and
// values.
double StepBytes(const Model& model, int batch, int64_t context) {
  const Variant& variant = model.variants[0];
  const int64_t bytes = variant.lm_head.weight->bytes +
                        SumOverLayers(variant, [](const Weight& w) { return w.bytes; });
  const int64_t kv_of_token =
      KvBlockBytes(model.config.num_layers, model.config.attention, variant.kv) / kBlockTokens;
  return static_cast<double>(bytes + batch * context * kv_of_token);
}

// One step's logits on this backend against the reference's. The bound is loose on purpose: the
// conformance test is where tolerances are derived. NF4 on a matrix unit is rounded to bf16.
absl::Status Validate(const Options& options, const std::string& format) {
  std::vector<float> logits[2];
  // So few that fast_prefill's own kernels take them.
  const int tokens = options.fast_prefill ? 4 : kValidationTokens;
  for (int k = 0; k < 2; ++k) {
    // The reference multiplies x in full.
    const BackendOptions backend =
        k == 0 ? BackendOptions{.kind = "reference"} : BackendOf(options);
    absl::StatusOr<Running> running = Start(
        options, {k == 0 ? absl::StrReplaceAll(format, {{"+a8", ""}, {"+abf16", ""}}) : format},
        backend, {.context = 32, .rows = tokens, .logit_rows = tokens});
    if (!running.ok()) return running.status();
    const std::vector<int32_t> ids = SomeIds(*running->model, tokens);
    const SequenceDriver::Input input{0, ids};
    if (absl::Status status =
            running->driver->Step(0, {&input, 1}, SequenceDriver::Logits::kAll, [] {});
        !status.ok()) {
      return status;
    }
    absl::StatusOr<std::vector<float>> result = running->driver->LastLogits();
    if (!result.ok()) return result.status();
    logits[k] = *std::move(result);
  }
  double squares = 0, errors = 0;
  for (size_t i = 0; i < logits[0].size(); ++i) {
    squares += static_cast<double>(logits[0][i]) * logits[0][i];
    errors += std::pow(static_cast<double>(logits[0][i]) - logits[1][i], 2);
  }
  // Tokens at random make activations that int8 holds badly.
  const double limit = format.find("+a8") == std::string::npos ? 0.02 : 0.2;
  const double error = std::sqrt(errors / squares);
  if (!(error <= limit)) {
    return absl::InternalError(absl::StrCat(format, ": logits differ from the reference's by ",
                                            error, " of their size, limit ", limit));
  }
  return absl::OkStatus();
}

absl::StatusOr<Row> TimeDecode(Running* running, int batch) {
  SequenceDriver& driver = *running->driver;
  driver.Reset();
  const std::vector<int32_t> ids = SomeIds(*running->model, kDecodeContext);
  std::vector<SequenceDriver::Input> inputs;
  std::vector<SampleRow> rows;
  for (int i = 0; i < batch; ++i) {
    const SequenceDriver::Input whole{i, ids};
    if (absl::Status status = driver.Step(0, {&whole, 1}, SequenceDriver::Logits::kNone, [] {});
        !status.ok()) {
      return status;
    }
    inputs.push_back({i, std::span(ids).first(1)});
    rows.push_back({.logit_index = i});
  }
  std::vector<SampleResult> results(batch);
  std::vector<double> seconds;
  for (int step = 0; step < kDecodeSteps; ++step) {
    const double start = SecondsNow();
    if (absl::Status status =
            driver.Step(0, inputs, SequenceDriver::Logits::kLast,
                        [&] { running->backend->Sample(rows, std::span(results)); });
        !status.ok()) {
      return status;
    }
    if (step >= 2) seconds.push_back(SecondsNow() - start);  // the first two warm the caches
  }
  const Timing timing = Summarize(std::move(seconds));
  const double bytes = StepBytes(*running->model, batch, kDecodeContext + kDecodeSteps / 2);
  return Row{.kind = "decode",
             .batch = batch,
             .tokens = kDecodeContext,
             .tokens_per_second = batch / timing.median_seconds,
             .spread_percent = timing.spread_percent,
             .gigabytes_per_second = bytes / timing.median_seconds / 1e9};
}

absl::StatusOr<Row> TimePrefill(Running* running, int tokens) {
  const std::vector<int32_t> ids = SomeIds(*running->model, tokens);
  std::vector<double> seconds;
  for (int repeat = 0; repeat < kPrefillRepeats; ++repeat) {
    running->driver->Reset();
    const double start = SecondsNow();
    for (int first = 0; first < tokens; first += kStepRows) {
      const int count = std::min(kStepRows, tokens - first);
      const bool last = first + count == tokens;
      const SequenceDriver::Input input{0, std::span(ids).subspan(first, count)};
      if (absl::Status status = running->driver->Step(
              0, {&input, 1}, last ? SequenceDriver::Logits::kLast : SequenceDriver::Logits::kNone,
              [] {});
          !status.ok()) {
        return status;
      }
    }
    seconds.push_back(SecondsNow() - start);
  }
  const Timing timing = Summarize(std::move(seconds));
  const int steps = (tokens + kStepRows - 1) / kStepRows;
  const double bytes = steps * StepBytes(*running->model, 1, tokens / 2);
  const auto weights = static_cast<double>(
      SumOverLayers(running->model->variants[0], [](const Weight& w) { return w.rows * w.cols; }));
  return Row{.kind = "prefill",
             .batch = 1,
             .tokens = tokens,
             .tokens_per_second = tokens / timing.median_seconds,
             .spread_percent = timing.spread_percent,
             .gigabytes_per_second = bytes / timing.median_seconds / 1e9,
             .products_per_second = tokens * weights / timing.median_seconds / 1e9};
}

// A line of CSV, or of a table for people.
void PrintCells(const Options& options, std::vector<std::string> cells) {
  if (!options.csv) {
    for (std::string& text : cells) text = absl::StrFormat("%-21s", text);
  }
  std::cout << absl::StrJoin(cells, options.csv ? "," : "") << std::endl;
}

void Print(const Options& options, const Row& row) {
  auto cell = [](double value, int digits) {
    return value == 0 ? std::string() : absl::StrFormat("%.*f", digits, value);
  };
  PrintCells(options,
             {row.kind, row.variants, absl::StrCat(row.threads),
              row.batch == 0 ? "" : absl::StrCat(row.batch),
              row.tokens == 0 ? "" : absl::StrCat(row.tokens), cell(row.tokens_per_second, 1),
              cell(row.spread_percent, 1), cell(row.gigabytes_per_second, 2),
              cell(row.percent_of_bandwidth, 1), cell(row.products_per_second, 1),
              cell(row.percent_of_peak, 1), cell(row.ready_seconds, 2), cell(row.idle_mib, 1),
              cell(row.peak_mib, 1), cell(row.tracked_mib, 1)});
}

// Of as many threads, measured just before what is compared with them.
struct Limits {
  double bytes_per_second;
  double products_per_second;
};

// A variant's name in the result.
std::string LabelOf(const Options& options, const std::string& format) {
  return options.lm_head.empty() ? format : absl::StrCat(format, " (", options.lm_head, " head)");
}

absl::Status TimeFormat(const Options& options, const std::string& format, int threads) {
  const int most = *std::max_element(options.batches.begin(), options.batches.end());
  const int longest = *std::max_element(options.prompts.begin(), options.prompts.end());
  absl::StatusOr<Running> running =
      Start(options, {format}, BackendOf(options, threads),
            {.sequences = most,
             .context = std::max(longest, kDecodeContext + kDecodeSteps),
             .rows = kStepRows,
             .logit_rows = most,
             .kv_blocks = most * kDecodeBlocks + longest / kBlockTokens + 1});
  if (!running.ok()) return running.status();
  const Limits limits = {ReadBandwidth(threads), ArithmeticPeak(options.isa, threads)};
  std::cout << absl::StrFormat(
      "# limits, %d threads, %s: reads %.1f GB/s, multiply-adds %.1f G/s\n", threads,
      LabelOf(options, format), limits.bytes_per_second / 1e9, limits.products_per_second / 1e9);
  const auto print = [&](absl::StatusOr<Row> row) {
    if (!row.ok()) return row.status();
    row->variants = LabelOf(options, format);
    row->threads = threads;
    row->percent_of_bandwidth = 100 * row->gigabytes_per_second * 1e9 / limits.bytes_per_second;
    if (limits.products_per_second > 0) {
      row->percent_of_peak = 100 * row->products_per_second * 1e9 / limits.products_per_second;
    }
    Print(options, *row);
    return absl::OkStatus();
  };
  for (const int batch : options.batches) {
    if (absl::Status status = print(TimeDecode(&*running, batch)); !status.ok()) return status;
  }
  for (const int tokens : options.prompts) {
    if (absl::Status status = print(TimePrefill(&*running, tokens)); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// In a process of its own: loads the variants, runs a step of each, prints one memory row.
absl::Status MeasureMemory(const Options& options) {
  const int64_t anonymous_before = ProcessBytes("RssAnon");
  const int64_t peak_before = ProcessBytes("VmHWM");
  const double start = SecondsNow();
  absl::StatusOr<Running> running =
      Start(options, absl::StrSplit(options.memory_of, ','), BackendOf(options),
            {.context = kStepRows, .rows = 256, .logit_rows = 32});
  if (!running.ok()) return running.status();
  const double ready = SecondsNow() - start;
  const int64_t peak = ProcessBytes("VmHWM") - peak_before;
  for (size_t v = 0; v < running->model->variants.size(); ++v) {
    running->driver->Reset();
    const std::vector<int32_t> ids = SomeIds(*running->model, kValidationTokens);
    const SequenceDriver::Input input{0, ids};
    if (absl::Status status = running->driver->Step(static_cast<int>(v), {&input, 1},
                                                    SequenceDriver::Logits::kLast, [] {});
        !status.ok()) {
      return status;
    }
  }
  const BackendMemory memory = running->backend->Memory();
  const int64_t tracked = running->model->memory.weight_bytes +
                          running->model->memory.tokenizer_bytes + memory.kv_bytes +
                          memory.workspace_bytes;
  Print(options, {.kind = "memory",
                  .variants = absl::StrReplaceAll(options.memory_of, {{",", " + "}}),
                  .threads = running->backend->Threads(),
                  .ready_seconds = ready,
                  .idle_mib = (ProcessBytes("RssAnon") - anonymous_before) / kMiB,
                  .peak_mib = peak / kMiB,
                  .tracked_mib = tracked / kMiB});
  return absl::OkStatus();
}

// Runs this program again for one set of variants; its row goes to our standard output.
absl::Status MeasureMemoryInChild(const Options& options, const std::string& variants) {
  std::vector<std::string> words{"model_bench", "--model",     options.model, "--isa",
                                 options.isa,   "--memory-of", variants};
  if (options.csv) words.push_back("--csv");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    execv("/proc/self/exe", arguments.data());
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
    return absl::InternalError(absl::StrCat("measuring the memory of ", variants, " failed"));
  }
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  if (!options.memory_of.empty()) return MeasureMemory(options);
  for (const std::string& format : options.formats) {
    if (options.skip_validation) break;
    Options validated = options;
    validated.layers = 1;
    if (absl::Status status = Validate(validated, format); !status.ok()) return status;
  }
  const absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend(BackendOf(options));
  if (!backend.ok()) return backend.status();
  std::cout << "# date: " << Today() << "\n# processor: " << ProcessorName() << ", "
            << std::thread::hardware_concurrency()
            << " logical cores\n# backend: " << (*backend)->Describe()
            << "\n# model: " << options.model.substr(options.model.find_last_of('/') + 1)
            << "\n# decode context: " << kDecodeContext << " tokens, prefill steps: " << kStepRows
            << " rows at most\n# validated: "
            << (options.skip_validation ? "not by this call"
                                        : "logits equal the reference backend's")
            << "\n";
  PrintCells(options, {"kind", "variants", "threads", "batch", "tokens", "tokens_per_second",
                       "spread_percent", "gigabytes_per_second", "percent_of_bandwidth",
                       "products_per_second", "percent_of_peak", "ready_seconds", "idle_mib",
                       "peak_mib", "tracked_mib"});
  for (const std::string& format : options.formats) {
    for (const int threads : options.threads) {
      if (absl::Status status = TimeFormat(options, format, threads); !status.ok()) return status;
    }
  }
  if (options.skip_memory) return absl::OkStatus();
  std::vector<std::string> sets = options.formats;
  if (sets.size() > 1) sets.push_back(absl::StrJoin(options.formats, ","));
  for (const std::string& variants : sets) {
    if (absl::Status status = MeasureMemoryInChild(options, variants); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace vernier::bench

int main(int argc, char** argv) {
  vernier::bench::Options options;
  CLI::App app("Validates, then times a model by format, batch and threads; measures its memory.");
  app.add_option("--model", options.model,
                 "A GGUF file, a Hugging Face folder, or random-8b: four layers of an 8B model")
      ->required();
  app.add_option("--formats", options.formats, "One variant each, as --variants has them")
      ->delimiter(',');
  app.add_option("--threads", options.threads, "Compute threads (default: 1 and all)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  app.add_option("--batches", options.batches, "Sequences decoded together")
      ->delimiter(',')
      ->check(CLI::Range(1, 512));
  app.add_option("--isa", options.isa, vernier::ListCpuIsaChoices());
  app.add_flag("--fast-prefill", options.fast_prefill, "As vernierd's");
  app.add_flag("--pin-threads", options.pin_threads, "As vernierd's");
  app.add_option("--lm-head", options.lm_head, "Format of lm_head in every variant");
  app.add_option("--prompts", options.prompts, "Lengths of prompts that are prefilled")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536));
  app.add_flag("--skip-validation", options.skip_validation,
               "For calls that repeat one which validated; the header says so");
  app.add_flag("--csv", options.csv, "Print CSV");
  app.add_flag("--skip-memory", options.skip_memory, "Do not measure memory");
  app.add_option("--memory-of", options.memory_of, "Only the memory of a,b")->group("");
  CLI11_PARSE(app, argc, argv);
  if (options.threads.empty()) {
    options.threads = {1};
    const int all = static_cast<int>(std::thread::hardware_concurrency());
    if (all > 1) options.threads.push_back(all);
  }
  const absl::Status status = vernier::bench::Run(options);
  if (!status.ok()) std::cerr << "model_bench: " << status << "\n";
  return status.ok() ? 0 : 1;
}
