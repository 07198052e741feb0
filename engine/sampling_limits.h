// Range checks of sampling parameters: one table, used by every front end before any allocation.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "engine/request.h"

namespace vernier {

inline constexpr float kMaxTemperature = 100.0f;
inline constexpr float kMaxPenalty = 2.0f;             // |frequency|, |presence|
inline constexpr float kMaxRepetitionPenalty = 10.0f;  // and > 0
inline constexpr float kMaxLogitBias = 100.0f;
inline constexpr int kMaxLogitBiases = 1024;
inline constexpr int kMaxStopTokenIds = 128;
inline constexpr int kMaxStopStrings = 16;
inline constexpr int kMaxStopStringBytes = 256;
inline constexpr int kMaxSamples = 64;  // n

// InvalidField naming the first parameter out of range; every float must be finite. `prompt_tokens`
// + max_tokens must be within `max_context`. -0.0 is 0.
absl::Status CheckSampling(const SamplingParams& params, int64_t prompt_tokens, int64_t max_context,
                           int64_t vocab);

}  // namespace vernier
