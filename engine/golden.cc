#include "engine/golden.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/mutex.h"
#include "kernels/quant_format.h"

namespace vernier {
namespace {

// Keeps the tokens and lets one thread wait for the end. Thread-safe.
class WaitingSink : public TokenSink {
 public:
  void OnToken(const TokenEvent& event) override {
    MutexLock lock(&mutex_);
    tokens_.push_back(event);
  }
  void OnScores(int64_t, std::span<const ScoreResult>) override {}
  void OnFinish(const FinishEvent& event) override {
    MutexLock lock(&mutex_);
    status_ = event.status;
    finished_ = true;
    changed_.NotifyAll();
  }
  absl::StatusOr<std::vector<TokenEvent>> Wait() {
    MutexLock lock(&mutex_);
    while (!finished_) changed_.Wait(&mutex_);
    if (!status_.ok()) return status_;
    return std::move(tokens_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::vector<TokenEvent> tokens_ ABSL_GUARDED_BY(mutex_);
};

absl::Status CheckPrompt(const Engine& engine, const Model& model,
                         const std::vector<int32_t>& prompt, int64_t max_tokens) {
  for (const int32_t id : prompt) {
    if (id >= 0 && id < model.config.vocab) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "golden prompt: token ", id, " is not in the vocabulary of ", model.config.vocab));
  }
  const int64_t wanted = static_cast<int64_t>(prompt.size()) + max_tokens;
  if (prompt.empty() || wanted > engine.max_context()) {
    return absl::InvalidArgumentError(absl::StrCat("golden prompt: ", prompt.size(), " and ",
                                                   max_tokens, " tokens, the context holds 1 to ",
                                                   engine.max_context()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenEvent>> DecodeGreedily(Engine* engine, int variant,
                                                       const std::vector<int32_t>& prompt,
                                                       int64_t max_tokens) {
  auto reserved = engine->Reserve(1, static_cast<int64_t>(prompt.size()), max_tokens, {});
  if (!reserved.ok()) return reserved.status();
  auto request = std::make_unique<Request>();
  request->variant = variant;
  request->prompt = prompt;
  request->sampling.max_tokens = max_tokens;
  request->sampling.temperature = 0;
  request->sampling.logprobs = 2;  // the best and the second: their margin
  request->reservation = std::move(reserved->front());
  request->control = std::make_shared<RequestControl>();
  auto sink = std::make_shared<WaitingSink>();
  request->sink = sink;
  engine->Submit(std::move(request));
  return sink->Wait();
}

}  // namespace

absl::StatusOr<GoldenTokens> RecordGolden(Engine* engine, const Model& model, int variant,
                                          std::vector<int32_t> prompt, int64_t max_tokens) {
  if (absl::Status status = CheckPrompt(*engine, model, prompt, max_tokens); !status.ok()) {
    return status;
  }
  const auto drawn = DecodeGreedily(engine, variant, prompt, max_tokens);
  if (!drawn.ok()) return drawn.status();
  GoldenTokens golden{.prompt = std::move(prompt)};
  for (const TokenEvent& token : *drawn) {
    const TopLogprobs& top = token.top;
    if (top.count < 2 || top.entries[0].id != token.id) break;
    const double margin = double{top.entries[0].logprob} - double{top.entries[1].logprob};
    if (!(margin >= kGoldenMargin)) break;
    golden.least_margin = golden.tokens.empty() ? margin : std::min(golden.least_margin, margin);
    golden.tokens.push_back(token.id);
  }
  if (golden.tokens.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("no golden tokens: of ", drawn->size(),
                                                      " greedy tokens behind the prompt the ",
                                                      "first does not lead by ", kGoldenMargin));
  }
  return golden;
}

const GoldenTokens* GoldenOf(const Model& model, const VariantSpec& spec) {
  if (TraitsOf(spec.kv).value_bytes < 2 || spec.activations != Activations::kFull) return nullptr;
  if (std::all_of(spec.formats.begin(), spec.formats.end(),
                  [](const FormatRule& rule) { return FormatOf(rule.format).bits >= 16; })) {
    return model.golden.has_value() ? &*model.golden : nullptr;
  }
  const FormatId format = spec.formats.back().format;
  const auto recorded = model.golden_formats.find(format);
  if (recorded == model.golden_formats.end()) return nullptr;
  return spec.formats == DefaultVariant(format).formats ? &recorded->second : nullptr;
}

absl::Status CheckGolden(Engine* engine, const Model& model, int variant,
                         const GoldenTokens& golden) {
  const int64_t wanted = static_cast<int64_t>(golden.tokens.size());
  if (absl::Status status = CheckPrompt(*engine, model, golden.prompt, wanted); !status.ok()) {
    return status;
  }
  const auto drawn = DecodeGreedily(engine, variant, golden.prompt, wanted);
  if (!drawn.ok()) return drawn.status();
  std::vector<int32_t> ids;
  for (const TokenEvent& token : *drawn) ids.push_back(token.id);
  if (ids == golden.tokens) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "golden tokens: variant ", model.variants[variant].name, " draws [", absl::StrJoin(ids, ", "),
      "] behind [", absl::StrJoin(golden.prompt, ", "), "], the manifest says [",
      absl::StrJoin(golden.tokens, ", "), "] with margins of at least ", golden.least_margin));
}

}  // namespace vernier
