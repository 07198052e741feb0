// Reductions over one row of logits that sampling and scoring share; private to kernels/sample_row.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/sample_row.h"

namespace vernier {

// e^x of x <= 0 to within two units in the last place; 0 below -708. Branch-free, so that
// compilers vectorize loops over it, and without a library's rounding.
inline double ExpNonPositive(double x) {
  constexpr double kRoundToInteger = 0x1.8p52;
  const double bounded = x < -708.0 ? -708.0 : x;
  const double shifted = bounded * 0x1.71547652b82fep+0 + kRoundToInteger;  // x / ln 2
  const double n = shifted - kRoundToInteger;
  const double r = (bounded - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
  // Taylor to r^13 / 13!: |r| <= ln 2 / 2, so what is left out is below 5e-18.
  double p = 1.0 / 6227020800;
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  // The low bits of `shifted` are n in two's complement: moved up they are the exponent of 2^n.
  const uint64_t exponent = (std::bit_cast<uint64_t>(shifted) << 52) + (uint64_t{1023} << 52);
  const double result = p * std::bit_cast<double>(exponent);
  return x < -708.0 ? 0.0 : result;
}

inline constexpr double kLn2 = 0.69314718055994530942;

// ln x of a positive normal double in plain arithmetic: x = m 2^e with m in [sqrt(1/2), sqrt(2)),
// and ln m = 2 atanh((m - 1) / (m + 1)) by its series.
double PortableLog(double x);

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
