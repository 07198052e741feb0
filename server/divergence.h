// How two answers, or two sets of scores, differ.
//
// Pure functions; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/request.h"
#include "vernier/v1/evaluation.pb.h"

namespace vernier {

// Index of the first token that differs; the shorter length when one begins with the other.
int64_t FirstDifference(std::span<const int32_t> a, std::span<const int32_t> b);

// Insertions, deletions and replacements that turn one into the other (Levenshtein). Time a.size()
// * b.size() after the common ends are cut, memory the shorter one.
int64_t EditDistance(std::span<const int32_t> a, std::span<const int32_t> b);

// Mean, quantiles (nearest rank) and maximum; all 0 for none.
v1::Distribution Distribute(std::vector<double> values);

// A variant's answer against the reference's. `reference_margins`: of the reference where each of
// its tokens was drawn, may be shorter than its answer.
v1::Divergence Diverge(const std::string& variant, std::span<const int32_t> answer,
                       std::span<const int32_t> reference,
                       std::span<const float> reference_margins);

// Scores of a paired request: every position has its reference. Of a single one (`paired` is false)
// the perplexity alone.
v1::ForcedScores SummarizeForced(std::span<const ScoreResult> results, bool paired);

}  // namespace vernier
