#include "engine/sampling_limits.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"

namespace vernier {
namespace {

struct FloatRange {
  const char* field;
  float value;
  float low;
  float high;
  bool low_excluded;
};

absl::Status CheckRange(const FloatRange& range) {
  const bool inside = std::isfinite(range.value) && range.value <= range.high &&
                      (range.low_excluded ? range.value > range.low : range.value >= range.low);
  if (inside) return absl::OkStatus();
  return InvalidField(
      {range.field, absl::StrCat(range.value),
       absl::StrCat("in ", range.low_excluded ? "(" : "[", range.low, ", ", range.high, "]")});
}

struct IntegerRange {
  const char* field;
  int64_t value;
  int64_t low;
  int64_t high;
};

absl::Status CheckRange(const IntegerRange& range) {
  if (range.value >= range.low && range.value <= range.high) return absl::OkStatus();
  return InvalidField({range.field, absl::StrCat(range.value),
                       absl::StrCat("in [", range.low, ", ", range.high, "]")});
}

absl::Status CheckTokenLists(const SamplingParams& params, int64_t vocab) {
  if (params.stop_token_ids.size() > kMaxStopTokenIds) {
    return InvalidField({"sampling.stop_token_ids",
                         absl::StrCat(params.stop_token_ids.size(), " ids"),
                         absl::StrCat("at most ", kMaxStopTokenIds)});
  }
  for (const int32_t id : params.stop_token_ids) {
    if (absl::Status s = CheckRange(IntegerRange{"sampling.stop_token_ids", id, 0, vocab - 1});
        !s.ok())
      return s;
  }
  if (params.logit_bias.size() > kMaxLogitBiases) {
    return InvalidField({"sampling.logit_bias", absl::StrCat(params.logit_bias.size(), " ids"),
                         absl::StrCat("at most ", kMaxLogitBiases)});
  }
  for (const LogitBias& bias : params.logit_bias) {
    if (absl::Status s = CheckRange(IntegerRange{"sampling.logit_bias", bias.id, 0, vocab - 1});
        !s.ok())
      return s;
    const FloatRange range{"sampling.logit_bias", bias.bias, -kMaxLogitBias, kMaxLogitBias, false};
    if (absl::Status s = CheckRange(range); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSampling(const SamplingParams& params, int64_t prompt_tokens, int64_t max_context,
                           int64_t vocab) {
  const FloatRange floats[] = {
      {"sampling.temperature", params.temperature, 0, kMaxTemperature, false},
      {"sampling.top_p", params.top_p, 0, 1, true},
      {"sampling.min_p", params.min_p, 0, 1, false},
      {"sampling.frequency_penalty", params.frequency_penalty, -kMaxPenalty, kMaxPenalty, false},
      {"sampling.presence_penalty", params.presence_penalty, -kMaxPenalty, kMaxPenalty, false},
      {"sampling.repetition_penalty", params.repetition_penalty, 0, kMaxRepetitionPenalty, true},
  };
  for (const FloatRange& range : floats) {
    if (absl::Status s = CheckRange(range); !s.ok()) return s;
  }
  const IntegerRange integers[] = {
      {"sampling.top_k", params.top_k, 0, 0x7fffffff},
      {"sampling.logprobs", params.logprobs, -1, kMaxTopLogprobs},
      {"sampling.prompt_logprobs", params.prompt_logprobs, -1, kMaxTopLogprobs},
      {"sampling.max_tokens", params.max_tokens, 1, max_context},
      {"sampling.min_tokens", params.min_tokens, 0, params.max_tokens},
  };
  for (const IntegerRange& range : integers) {
    if (absl::Status s = CheckRange(range); !s.ok()) return s;
  }
  if (prompt_tokens < 1) return InvalidField({"prompt", "empty", "at least one token"});
  if (prompt_tokens > max_context - params.max_tokens) {
    return InvalidField({"prompt",
                         absl::StrCat(prompt_tokens, " tokens with max_tokens ", params.max_tokens),
                         absl::StrCat("at most ", max_context, " tokens together")});
  }
  return CheckTokenLists(params, vocab);
}

}  // namespace vernier
