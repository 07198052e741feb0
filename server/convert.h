// Turns proto messages into what the engine takes, and refuses everything out of range.
//
// The validation of every front end: pure functions of message and model, before any allocation
// that grows with a value. Errors are InvalidField with the proto path, NOT_FOUND, or
// FAILED_PRECONDITION, in texts without request content. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/model.h"
#include "engine/request.h"
#include "engine/text/chat_template.h"
#include "vernier/v1/evaluation.pb.h"
#include "vernier/v1/inference.pb.h"

namespace vernier {

inline constexpr int kMaxChatMessages = 1024;
inline constexpr int kMaxRequestIdBytes = 128;
inline constexpr int64_t kDefaultMaxTokens = 256;

// A prompt as the client gave it.
struct PromptInput {
  enum class Kind { kText, kIds, kChat };
  Kind kind = Kind::kText;
  std::string text;
  std::vector<int32_t> ids;
  std::vector<ChatMessage> messages;
  bool add_generation_prompt = true;
  TemplateInputs template_inputs;  // of kChat

  // No tokenizer makes more tokens of it: a token has at least one byte.
  int64_t TokensBound() const;
};

struct GenerateSpec {
  int variant = 0;
  bool variant_named = false;  // by the request; else `variant` is the default
  PromptInput input;
  SamplingParams sampling;  // max_tokens 0: not given
  bool seed_given = false;  // else `seed` is drawn here
  int samples = 1;          // n; sample i uses seed + i
  std::vector<std::string> stops;
  bool include_stop = false;
  bool special_as_text = false;
  Priority priority = Priority::kNormal;
  absl::Duration time_limit = absl::InfiniteDuration();
  int64_t truncate_prompt_tokens = 0;  // 0: not given
  std::string request_id;              // printable
  std::string cache_salt;
};

struct ScoreSpec {
  int variant = 0;
  PromptInput input;  // text or ids
  int top_logprobs = 0;
  int64_t window = 0;  // 0: none
  Priority priority = Priority::kNormal;
};

enum class CompareMode { kFree, kForced, kBoth };

struct CompareSpec {
  GenerateSpec base;
  std::vector<int> variants;  // in the order of the answer
  int reference = 0;          // index into the model's variants
  CompareMode mode = CompareMode::kBoth;
  bool forced_given = false;
  PromptInput forced;  // text or ids, when given
  bool aa_control = false;
  int overlap_k = 10;
  bool serial = false;
};

absl::StatusOr<GenerateSpec> ConvertGenerate(const v1::GenerateRequest& request, const Model& model,
                                             int64_t max_context);
absl::StatusOr<ScoreSpec> ConvertScore(const v1::ScoreRequest& request, const Model& model,
                                       int64_t max_context);
absl::StatusOr<CompareSpec> ConvertCompare(const v1::CompareRequest& request, const Model& model,
                                           int64_t max_context);
absl::StatusOr<PromptInput> ConvertTokenize(const v1::TokenizeRequest& request, const Model& model);

// The variant that `model` ("", name, or name:variant) and `variant` address; the first when
// neither says.
absl::StatusOr<int> ResolveVariant(absl::string_view model_name, absl::string_view variant_name,
                                   const Model& model);

// The token ids of a prompt: tokenizing, chat template, truncation. May take long for long texts.
// `begin`: whether a plain text gets the tokenizer's BOS.
absl::StatusOr<std::vector<int32_t>> PromptTokens(const PromptInput& input, const Model& model,
                                                  Tokenizer::Begin begin);

// What a spec lacks until its prompt's tokens are known: truncation, the default of max_tokens, and
// the checks that need both. `prompt` is cut in place.
absl::Status CompleteSpec(GenerateSpec* spec, std::vector<int32_t>* prompt, const Model& model,
                          int64_t max_context);

// Most prompt tokens that can pass CompleteSpec: what admission reserves before tokenizing.
int64_t PromptBound(const GenerateSpec& spec, int64_t max_context);
// max_tokens as given, else the most that the default can become.
int64_t MaxTokensBound(const GenerateSpec& spec, int64_t max_context);

// At most 128 bytes of `label`, printable ASCII alone.
std::string PrintableLabel(absl::string_view label);

// INVALID_ARGUMENT unless `name` is [A-Za-z0-9._-]{0,64}, as a tenant's and a cache_salt are.
absl::Status CheckName(const std::string& field, absl::string_view name);

// A new random seed.
uint64_t DrawSeed();

}  // namespace vernier
