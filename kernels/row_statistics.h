// Reductions over one row of logits that sampling and scoring share; private to kernels/sample_row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/portable_math.h"
#include "kernels/sample_row.h"

namespace vernier {

struct RowScan {
  RowStatus status = RowStatus::kOk;
  float largest = 0;
};

RowScan ScanRow(std::span<const float> values);

// The sum of e^(value - largest) over values >= lowest.
double SumExp(std::span<const float> values, float largest, float lowest);

// ln of the sum of e^value.
double LogSumExp(std::span<const float> values, float largest);

// Fills `out` with the at most k largest values that are >= lowest and above -infinity, descending,
// ties by lower id. Allocates nothing when out's capacity is values.size().
void SelectTop(std::span<const float> values, int64_t k, float lowest, std::vector<Candidate>* out);

// The `count` first of `sorted` as log-probabilities.
TopLogprobs TopOf(std::span<const Candidate> sorted, int count, double log_sum_exp);

}  // namespace vernier
