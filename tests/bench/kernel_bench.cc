// Speed of one product y = x W^T of the CPU backend by format, shape and rows of x.
//
// Goes through the backend's door (LmHead, whose norm is counted: up to a twelfth, where inputs are
// many and outputs few). Each shape and format is first held to the reference backend, with the
// bound of tests/kernels/error_model.h, on few rows and on many. Then a step of calls runs over
// copies of the weight that together exceed the second-level caches; a figure is the median over
// steps, with its spread, as microseconds a call, GB/s of weight and scale bytes, percent of the
// read bandwidth that the same run measured, and 10^9 multiply-adds a second.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/model/model.h"
#include "kernels/cpu_isas.h"
#include "kernels/make_backend.h"
#include "tests/bench/machine.h"
#include "tests/kernels/error_model.h"
#include "tests/kernels/layer_values.h"

namespace vernier::bench {
namespace {

using testing::MatrixValues;
using testing::NormValues;

constexpr int64_t kVocab = 64;  // of the table that x comes from
constexpr int kMinSteps = 5;
constexpr double kMinSeconds = 0.25;  // of one figure
constexpr int64_t kManyRows = 64;     // from here a step has at most kFewCopies calls
constexpr int64_t kFewCopies = 2;

struct Options {
  std::string isa = "auto";
  int threads = 0;
  std::vector<std::string> formats{"fp16", "int8", "nf4"};
  // SmolLM2-135M: attention, up, down, head; then a layer of a larger model.
  std::vector<std::string> shapes{"576x576", "1536x576", "576x1536", "49152x576", "4096x4096"};
  std::vector<int64_t> rows{1, 4, 16, 32, 128, 512};
  int64_t rotate_mib = 64;
  bool csv = false;
};

struct Shape {
  int64_t outputs = 0;
  int64_t inputs = 0;
};

// "OUTPUTSxINPUTS".
absl::StatusOr<Shape> ParseShape(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, 'x');
  Shape shape;
  constexpr int64_t kMost = 1 << 20;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &shape.outputs) ||
      !absl::SimpleAtoi(parts[1], &shape.inputs) || std::min(shape.outputs, shape.inputs) < 1 ||
      std::max(shape.outputs, shape.inputs) > kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat("shape '", text, "' must be OUTPUTSxINPUTS, each 1 to ", kMost));
  }
  return shape;
}

// x comes from `table` by a norm; the matrix is what is timed. The same for every backend.
struct Problem {
  Shape shape;
  std::string name;  // as --formats has it
  FormatId format = FormatId::kF32;
  Activations activations = Activations::kFull;
  MatrixValues table;  // [kVocab, inputs] fp32
  NormValues norm;
  MatrixValues matrix;  // [outputs, inputs]
};

Problem MakeProblem(const Shape& shape, const VariantSpec& variant) {
  const FormatId format = variant.formats.back().format;
  const float magnitude = 1 / std::sqrt(static_cast<float>(shape.inputs));
  return {.shape = shape,
          .name = variant.name,
          .format = format,
          .activations = variant.activations,
          .table = testing::MakeMatrix(kVocab, shape.inputs, 1, false, 1, FormatId::kF32),
          .norm = testing::MakeNorm(NormKind::kRms, shape.inputs, 2),
          .matrix = testing::MakeMatrix(shape.outputs, shape.inputs, magnitude, false, 3, format)};
}

// A problem on a backend: `copies` of the weight, and steps that multiply with each.
class Runner {
 public:
  static absl::StatusOr<std::unique_ptr<Runner>> Create(const BackendOptions& options,
                                                        const Problem& problem, int64_t max_rows,
                                                        int64_t copies) {
    absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend(options);
    if (!backend.ok()) return backend.status();
    auto runner = std::unique_ptr<Runner>(
        new Runner(*std::move(backend), problem.shape, problem.activations));
    if (absl::Status status = runner->Load(problem, copies); !status.ok()) return status;
    const absl::Status status = runner->backend_->CreateWorkspace(
        {.max_rows = max_rows,
         .max_logit_rows = max_rows,
         .max_context = max_rows,
         .hidden = problem.shape.inputs,
         .vocab = problem.shape.outputs,
         .attention = {.num_heads = 1, .num_kv_heads = 1, .head_dim = 1}});
    if (!status.ok()) return status;
    return runner;
  }

  int64_t weight_bytes() const { return weights_[0].bytes; }
  std::string Describe() const { return backend_->Describe(); }

  // One step of a call for each of the first `copies` weights; its seconds.
  absl::StatusOr<double> Step(int64_t rows, int64_t copies) {
    std::vector<int32_t> ids(rows), positions(rows), slots(rows);
    for (int32_t row = 0; row < rows; ++row) {
      ids[row] = row % kVocab;
      positions[row] = row;
    }
    const SequenceRows sequence{.num_rows = static_cast<int32_t>(rows)};
    const Batch batch{.num_rows = static_cast<int>(rows),
                      .ids = ids,
                      .positions = positions,
                      .slots = slots,
                      .sequences = {&sequence, 1},
                      .logit_rows = positions};
    const double start = SecondsNow();
    backend_->Execute({}, batch, [&] {
      backend_->Embed({.table = &table_});
      for (int64_t i = 0; i < copies; ++i) {
        backend_->LmHead({.norm = {.weight = &norm_, .epsilon = epsilon_},
                          .linear = {.weight = &weights_[i], .activations = activations_}});
      }
    });
    if (absl::Status status = backend_->Synchronize(); !status.ok()) return status;
    return SecondsNow() - start;
  }

  absl::StatusOr<std::vector<float>> Logits(int64_t rows) {
    std::vector<float> logits(rows * shape_.outputs);
    if (absl::Status status = backend_->CopyActivation(Activation::kLogits, logits); !status.ok()) {
      return status;
    }
    return logits;
  }

 private:
  Runner(std::unique_ptr<Backend> backend, const Shape& shape, Activations activations)
      : backend_(std::move(backend)), shape_(shape), activations_(activations) {}

  absl::Status Load(const Problem& problem, int64_t copies) {
    const auto create = [&](const MatrixValues& matrix, FormatId format, Weight* out) {
      absl::StatusOr<std::vector<Weight>> weights =
          backend_->CreateWeights(SourceOf(matrix.source, matrix.rows, matrix.cols), {{format}});
      if (weights.ok()) *out = std::move((*weights)[0]);
      return weights.status();
    };
    absl::Status status = create(problem.table, FormatId::kF32, &table_);
    weights_.resize(copies);
    for (Weight& weight : weights_) status.Update(create(problem.matrix, problem.format, &weight));
    absl::StatusOr<Vector> norm = backend_->CreateVector(problem.norm.weight);
    status.Update(norm.status());
    if (norm.ok()) norm_ = *std::move(norm);
    epsilon_ = problem.norm.epsilon;
    return status;
  }

  const std::unique_ptr<Backend> backend_;
  const Shape shape_;
  const Activations activations_;
  Weight table_;
  Vector norm_;
  float epsilon_ = 0;
  std::vector<Weight> weights_;  // [copies]
};

// The backend's product within the derived bound of the reference's.
absl::Status Validate(const Problem& problem, testing::Precision precision, Runner* runner) {
  Problem multiplied = problem;
  multiplied.activations = Activations::kFull;
  // A row of whole numbers up to 127: half a step.
  if (problem.activations == Activations::kInt8) precision.digit = 0.5 / 127 + precision.digit;
  if (problem.activations == Activations::kBF16) precision.product = 0x1p-8;
  if (precision.digit > 0 && testing::Precision::IsNf4(problem.format)) {
    multiplied.format = FormatId::kF32;
    multiplied.matrix = testing::Nf4AsWholeNumbers(std::move(multiplied.matrix));
  }
  absl::StatusOr<std::unique_ptr<Runner>> reference =
      Runner::Create({.kind = "reference"}, multiplied, 7, 1);
  if (!reference.ok()) return reference.status();
  for (const int64_t rows : {1, 7}) {
    absl::Status status = runner->Step(rows, 1).status();
    status.Update((*reference)->Step(rows, 1).status());
    if (!status.ok()) return status;
    const absl::StatusOr<std::vector<float>> actual = runner->Logits(rows);
    const absl::StatusOr<std::vector<float>> expected = (*reference)->Logits(rows);
    if (!actual.ok()) return actual.status();
    if (!expected.ok()) return expected.status();
    const testing::ErrorModel errors(precision, problem.format);
    std::vector<float> residual(problem.table.source.begin(),
                                problem.table.source.begin() + rows * problem.shape.inputs);
    const double bound =
        errors
            .Product(multiplied.matrix,
                     errors.Norm(problem.norm, testing::Track(residual, problem.shape.inputs, 0)))
            .Bound();
    for (size_t i = 0; i < actual->size(); ++i) {
      const double difference = std::fabs(static_cast<double>((*actual)[i]) - (*expected)[i]);
      if (difference <= bound) continue;
      return absl::InternalError(absl::StrCat(problem.name, " ", problem.shape.outputs, "x",
                                              problem.shape.inputs, ", ", rows, " rows: value ", i,
                                              " is ", (*actual)[i], ", the reference has ",
                                              (*expected)[i], ", bound ", bound));
    }
  }
  return absl::OkStatus();
}

// Of the chosen instruction set; the last of them is what auto takes.
testing::Precision PrecisionOf(const std::string& isa) {
  const std::vector<testing::BackendUnderTest> backends = testing::BackendsUnderTest();
  for (const testing::BackendUnderTest& backend : backends) {
    if (backend.options.isa == isa) return backend.precision;
  }
  return backends.back().precision;
}

// A line of CSV, or of a table for people.
void PrintCells(const Options& options, std::vector<std::string> cells) {
  if (!options.csv) {
    for (std::string& text : cells) text = absl::StrFormat("%-13s", text);
  }
  std::cout << absl::StrJoin(cells, options.csv ? "," : "") << std::endl;
}

absl::Status TimeRows(const Options& options, const Problem& problem, int64_t rows, int64_t copies,
                      double bandwidth, Runner* runner) {
  if (rows >= kManyRows) copies = std::min(copies, kFewCopies);
  std::vector<double> seconds;
  double total = 0;
  // The first step is a warm-up.
  for (int step = 0; step <= kMinSteps || total < kMinSeconds; ++step) {
    const absl::StatusOr<double> taken = runner->Step(rows, copies);
    if (!taken.ok()) return taken.status();
    if (step == 0) continue;
    seconds.push_back(*taken / static_cast<double>(copies));
    total += *taken;
  }
  const Timing timing = Summarize(std::move(seconds));
  const double bytes_a_second = static_cast<double>(runner->weight_bytes()) / timing.median_seconds;
  const double products = static_cast<double>(problem.shape.outputs * problem.shape.inputs * rows);
  PrintCells(options,
             {problem.name, absl::StrCat(problem.shape.outputs), absl::StrCat(problem.shape.inputs),
              absl::StrCat(rows), absl::StrFormat("%.1f", timing.median_seconds * 1e6),
              absl::StrFormat("%.1f", timing.spread_percent),
              absl::StrFormat("%.1f", timing.best_seconds * 1e6),
              absl::StrFormat("%.2f", bytes_a_second / 1e9),
              absl::StrFormat("%.1f", 100 * bytes_a_second / bandwidth),
              absl::StrFormat("%.2f", products / timing.median_seconds / 1e9)});
  return absl::OkStatus();
}

absl::Status TimeShape(const Options& options, const Shape& shape, const VariantSpec& variant,
                       double bandwidth) {
  const Problem problem = MakeProblem(shape, variant);
  const int64_t bytes = FormatBytes(problem.format, shape.outputs, shape.inputs);
  const int64_t copies = std::max<int64_t>(1, (options.rotate_mib << 20) / bytes);
  const int64_t most = *std::max_element(options.rows.begin(), options.rows.end());
  absl::StatusOr<std::unique_ptr<Runner>> runner =
      Runner::Create({.kind = "cpu", .isa = options.isa, .threads = options.threads}, problem,
                     std::max<int64_t>(most, 7), copies);
  if (!runner.ok()) return runner.status();
  if (absl::Status status = Validate(problem, PrecisionOf(options.isa), runner->get());
      !status.ok())
    return status;
  for (const int64_t rows : options.rows) {
    if (absl::Status status = TimeRows(options, problem, rows, copies, bandwidth, runner->get());
        !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  const absl::StatusOr<std::unique_ptr<Backend>> backend =
      MakeBackend({.kind = "cpu", .isa = options.isa, .threads = options.threads});
  if (!backend.ok()) return backend.status();
  const double bandwidth = ReadBandwidth((*backend)->Threads());
  std::cout << "# date: " << Today() << "\n# processor: " << ProcessorName() << ", "
            << std::thread::hardware_concurrency()
            << " logical cores\n# backend: " << (*backend)->Describe()
            << "\n# each shape and format is held to the reference before it is timed\n"
            << absl::StrFormat("# read bandwidth, %d threads: %.1f GB/s\n", (*backend)->Threads(),
                               bandwidth / 1e9);
  PrintCells(options, {"format", "outputs", "inputs", "rows", "us", "spread_pct", "best_us", "GB/s",
                       "pct_of_read", "GMAC/s"});
  for (const std::string& name : options.formats) {
    const absl::StatusOr<VariantSpec> variant = ParseVariant(name);
    if (!variant.ok()) return variant.status();
    if (!(*backend)->HasActivations(variant->activations, variant->formats.back().format)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": ", (*backend)->Describe(), " lacks it"));
    }
    for (const std::string& text : options.shapes) {
      const absl::StatusOr<Shape> shape = ParseShape(text);
      if (!shape.ok()) return shape.status();
      if (absl::Status status = TimeShape(options, *shape, *variant, bandwidth); !status.ok()) {
        return status;
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace vernier::bench

int main(int argc, char** argv) {
  vernier::bench::Options options;
  CLI::App app("Holds products to the reference, then times them by format, shape and rows.");
  app.add_option("--formats", options.formats,
                 "Formats, with +a8 for int8 activations, +abf16 for bf16")
      ->delimiter(',');
  app.add_option("--shapes", options.shapes, "OUTPUTSxINPUTS")->delimiter(',');
  app.add_option("--rows", options.rows, "Rows of x in one call")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  app.add_option("--isa", options.isa, vernier::ListCpuIsaChoices());
  app.add_option("--threads", options.threads, "Compute threads; 0: all")
      ->check(CLI::Range(0, 1024));
  app.add_option("--rotate-mib", options.rotate_mib, "Weights that a step reads, at least")
      ->check(CLI::Range(0, 65536));
  app.add_flag("--csv", options.csv, "Print CSV");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = vernier::bench::Run(options);
  if (!status.ok()) std::cerr << "kernel_bench: " << status << "\n";
  return status.ok() ? 0 : 1;
}
