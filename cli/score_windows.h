// Scoring a long text in overlapping windows: which there are, and what they add up to.
//
// Pure, any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "vernier/v1/inference.pb.h"

namespace vernier::cli {

struct ScoreWindow {
  uint32_t first = 0;         // token
  uint32_t count = 0;         // tokens
  uint32_t first_scored = 0;  // those before were scored by an earlier window
};

// Windows of `window` tokens that begin every `stride` tokens, up to the first that reaches the
// end. Each token but the very first is scored by exactly one. REQUIRES: 1 <= stride < window.
std::vector<ScoreWindow> PlanWindows(uint32_t tokens, uint32_t window, uint32_t stride);

// Adds what `window`'s reply scored to `sum`, whose sums and perplexity stay right throughout.
void AddWindow(const ScoreWindow& window, const v1::ScoreResponse& reply, v1::ScoreResponse* sum);

}  // namespace vernier::cli
