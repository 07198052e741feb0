// What a format costs in quality on each instruction set of the CPU backend, and on a GPU:
// perplexity of a text, and how far the next-token distributions are from the reference's.
//
// Teacher-forced, in windows of equal length that begin anew; the first token of a window is not
// scored. The reference is fp16 on avx512, whose products are exact in what they multiply, or
// another row. Logits are compared on the host, in double.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "engine/model/model.h"
#include "kernels/make_backend.h"
#include "tests/bench/machine.h"
#include "tests/testing/single_sequence.h"

namespace vernier::bench {
namespace {

using testing::SequenceDriver;

struct Options {
  std::string model, text;
  std::string reference = "avx512:fp16";  // as a row
  // ISA:VARIANT[:FORMAT of lm_head], the variant as --variants has it; of a GPU the ISA is cuda
  std::vector<std::string> rows{"avx512:int8",   "avx512:nf4", "amx:fp16",    "amx:int8",
                                "amx:int8:int8", "amx:nf4",    "amx:nf4:int8"};
  int tokens = 4096;
  int window = 256;
};

// One variant on one instruction set.
struct Running {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<SequenceDriver> driver;
};

absl::StatusOr<Running> Start(const Options& options, const std::string& row) {
  const std::vector<std::string> parts = absl::StrSplit(row, ':');
  if (parts.size() < 2 || parts.size() > 3) {
    return absl::InvalidArgumentError(absl::StrCat(row, " is not ISA:VARIANT[:FORMAT of lm_head]"));
  }
  absl::StatusOr<VariantSpec> variant = ParseVariant(parts[1]);
  if (!variant.ok()) return variant.status();
  if (parts.size() == 3) {
    const absl::StatusOr<FormatId> lm_head = ParseFormat(parts[2]);
    if (!lm_head.ok()) return lm_head.status();
    variant->formats.insert(variant->formats.begin(), {"lm_head", *lm_head});
  }
  Running running;
  const BackendOptions cuda{.kind = "cuda"}, cpu{.kind = "cpu", .isa = parts[0]};
  absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend(parts[0] == "cuda" ? cuda : cpu);
  if (!backend.ok()) return backend.status();
  running.backend = *std::move(backend);
  absl::StatusOr<std::unique_ptr<Model>> model =
      LoadModel(options.model, "bench", {*variant}, running.backend.get(), nullptr);
  if (!model.ok()) return model.status();
  running.model = *std::move(model);
  absl::StatusOr<std::unique_ptr<SequenceDriver>> driver = SequenceDriver::Create(
      running.model.get(), running.backend.get(),
      {.context = options.window, .rows = options.window, .logit_rows = options.window});
  if (!driver.ok()) return driver.status();
  running.driver = *std::move(driver);
  return running;
}

// Log-probabilities [window, vocab] of one window.
absl::StatusOr<std::vector<float>> LogProbabilities(Running* running,
                                                    std::span<const int32_t> ids) {
  running->driver->Reset();
  const SequenceDriver::Input input{0, ids};
  if (absl::Status status =
          running->driver->Step(0, {&input, 1}, SequenceDriver::Logits::kAll, [] {});
      !status.ok()) {
    return status;
  }
  absl::StatusOr<std::vector<float>> logits = running->driver->LastLogits();
  if (!logits.ok()) return logits;
  const auto vocab = static_cast<size_t>(running->model->config.vocab);
  for (size_t row = 0; row < ids.size(); ++row) {
    const std::span<float> values = std::span(*logits).subspan(row * vocab, vocab);
    const float max = *std::max_element(values.begin(), values.end());
    double sum = 0;
    for (const float value : values) sum += std::exp(double{value} - max);
    const auto log_sum = static_cast<float>(max + std::log(sum));
    for (float& value : values) value -= log_sum;
  }
  return logits;
}

struct Figures {
  double negative_log_likelihood = 0, divergence = 0;
  int64_t scored = 0, same_top = 0;

  void Add(std::span<const float> reference, std::span<const float> actual, int32_t target) {
    negative_log_likelihood -= actual[target];
    size_t top[2] = {};
    for (size_t i = 0; i < actual.size(); ++i) {
      divergence += std::exp(double{reference[i]}) * (double{reference[i]} - actual[i]);
      if (reference[i] > reference[top[0]]) top[0] = i;
      if (actual[i] > actual[top[1]]) top[1] = i;
    }
    ++scored;
    same_top += top[0] == top[1];
  }
};

absl::Status Run(const Options& options) {
  std::ifstream file(options.text, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (text.empty()) return absl::NotFoundError(absl::StrCat("no text in ", options.text));
  absl::StatusOr<Running> reference = Start(options, options.reference);
  if (!reference.ok()) return reference.status();
  if (reference->model->tokenizer == nullptr) {
    return absl::FailedPreconditionError(reference->model->no_tokenizer_reason);
  }
  absl::StatusOr<std::vector<int32_t>> ids = reference->model->tokenizer->Encode(
      text, Tokenizer::Special::kAsText, Tokenizer::Begin::kNever);
  if (!ids.ok()) return ids.status();
  const size_t windows = std::min<size_t>(ids->size(), options.tokens) / options.window;
  std::vector<Running> rows;
  for (const std::string& row : options.rows) {
    absl::StatusOr<Running> running = Start(options, row);
    if (!running.ok()) return running.status();
    rows.push_back(*std::move(running));
  }
  std::vector<Figures> figures(rows.size() + 1);  // the reference's first
  const auto vocab = static_cast<size_t>(reference->model->config.vocab);
  for (size_t w = 0; w < windows; ++w) {
    const std::span<const int32_t> window =
        std::span(*ids).subspan(w * options.window, options.window);
    const absl::StatusOr<std::vector<float>> expected = LogProbabilities(&*reference, window);
    if (!expected.ok()) return expected.status();
    for (size_t i = 0; i < figures.size(); ++i) {
      const absl::StatusOr<std::vector<float>> actual =
          i == 0 ? expected : LogProbabilities(&rows[i - 1], window);
      if (!actual.ok()) return actual.status();
      for (size_t t = 0; t + 1 < window.size(); ++t) {
        figures[i].Add(std::span(*expected).subspan(t * vocab, vocab),
                       std::span(*actual).subspan(t * vocab, vocab), window[t + 1]);
      }
    }
  }
  std::cout << "# " << Today() << ", " << ProcessorName() << ", "
            << options.model.substr(options.model.find_last_of('/') + 1) << ", "
            << options.text.substr(options.text.find_last_of('/') + 1) << ", " << windows
            << " windows of " << options.window << " tokens; reference: " << options.reference
            << "\nisa:format[:lm_head],perplexity,kl_mean,top1_percent\n";
  for (size_t i = 0; i < figures.size(); ++i) {
    const Figures& f = figures[i];
    const auto scored = static_cast<double>(f.scored);
    std::cout << (i == 0 ? options.reference : options.rows[i - 1])
              << absl::StrFormat(",%.4f,%.6f,%.2f\n", std::exp(f.negative_log_likelihood / scored),
                                 f.divergence / scored,
                                 100 * static_cast<double>(f.same_top) / scored);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace vernier::bench

int main(int argc, char** argv) {
  vernier::bench::Options options;
  CLI::App app("Perplexity, KL and top-1 of formats by instruction set, against one of them.");
  app.add_option("--model", options.model, "A GGUF file or a Hugging Face folder")->required();
  app.add_option("--text", options.text, "A text file")->required();
  app.add_option("--rows", options.rows, "ISA:VARIANT[:FORMAT of lm_head], or cuda:VARIANT")
      ->delimiter(',');
  app.add_option("--reference", options.reference, "The row that the others are compared with");
  app.add_option("--tokens", options.tokens, "Of the text, at most")
      ->check(CLI::Range(512, 1 << 20));
  app.add_option("--window", options.window, "Tokens")->check(CLI::Range(2, 2048));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = vernier::bench::Run(options);
  if (!status.ok()) std::cerr << "quality_bench: " << status << "\n";
  return status.ok() ? 0 : 1;
}
