// Rows of x as digits (DigitRows), by vectors of AVX-512. For the files that are compiled for at
// least that.
#pragma once

#include "kernels/cpu/avx512-inl.h"
#include "kernels/cpu/kernel_table.h"

namespace vernier {
namespace {

constexpr int kLargestDigits = 127 * 256 + 127;
constexpr int kLargestDigit = 127;
constexpr int kStepScales = 2 * kDigitLines;         // of a group, where a step has scales
constexpr int kHalfTile = kDigitLines * kDigitCols;  // bytes
constexpr int kWeightBias = 128;                     // what the products add to each weight
constexpr float kSmallestScaled = 1e-30f;            // rows that are smaller throughout count as 0

struct RowScale {
  float scale, inverse;
};

// The largest magnitude becomes `whole`.
inline RowScale ScaleOf(const float* x, int64_t cols, int whole) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
  for (int64_t k = 0; k < cols; k += kLanes) {
    largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_loadu_si512(x + k), magnitude));
  }
  const uint32_t bits = _mm512_reduce_max_epu32(largest);
  const float value = _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32(bits)));
  if (bits >= 0x7f800000) return {__builtin_nanf(""), 0};
  if (value < kSmallestScaled) return {0, 0};
  return {value / static_cast<float>(whole), static_cast<float>(whole) / value};
}

// Where the first digit, scale and start of a row go.
struct DigitRow {
  uint8_t* tiles;
  float* scales;
  int32_t* starts;
};

template <int kLineRows>
inline void SplitRow(const float* x, int64_t steps, DigitRow to) {
  RowScale row;
  if constexpr (kLineRows == 1) {
    row = ScaleOf(x, steps * kDigitCols, kLargestDigits);
    *to.scales = row.scale;
  }
  const __m512i half = _mm512_set1_epi32(128);
  const auto store = [](__m512i digits, uint8_t* at) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm512_cvtepi32_epi8(digits));
  };
  for (int64_t step = 0; step < steps; ++step, to.tiles += kDigitTile, to.starts += kStepStarts) {
    __m512i sums[2] = {};
    if constexpr (kLineRows == 2) {
      row = ScaleOf(x + step * kDigitCols, kDigitCols, kLargestDigit);
      to.scales[step * kStepScales] = row.scale;
    }
    const __m512 inverse = _mm512_set1_ps(row.inverse);
    VERNIER_UNROLL for (int i = 0; i < kDigitCols; i += kLanes) {
      const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + step * kDigitCols + i), inverse);
      const __m512i whole = _mm512_cvtps_epi32(scaled);
      if constexpr (kLineRows == 2) {
        store(whole, to.tiles + i);
        sums[0] = _mm512_add_epi32(sums[0], whole);
      } else {
        const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(whole, half), 8);
        const __m512i low = _mm512_sub_epi32(whole, _mm512_slli_epi32(high, 8));
        store(high, to.tiles + i);
        store(low, to.tiles + kHalfTile + i);
        sums[0] = _mm512_add_epi32(sums[0], high);
        sums[1] = _mm512_add_epi32(sums[1], low);
      }
    }
    VERNIER_UNROLL for (int h = 0; h < 2 / kLineRows; ++h) {
      // Unsigned: digits of a row that is not finite are any numbers, and their sum may not fit.
      const auto sum = static_cast<uint32_t>(_mm512_reduce_add_epi32(sums[h]));
      to.starts[h * kDigitLines] = static_cast<int32_t>(0u - uint32_t{kWeightBias} * sum);
    }
  }
}

void SplitDigits(const float* x, int64_t stride, const DigitRows& to) {
  for (int row = 0; row < to.rows; ++row) {
    const int line = row / to.line_rows, half = row % to.line_rows;
    const DigitRow at = {
        to.tiles + line * kDigitCols + half * kHalfTile,
        to.line_rows == 1 ? to.scales + row : to.scales + half * kDigitLines + line,
        to.starts + half * kDigitLines + line};
    if (to.line_rows == 1) {
      SplitRow<1>(x + row * stride, to.steps, at);
    } else {
      SplitRow<2>(x + row * stride, to.steps, at);
    }
  }
}

}  // namespace
}  // namespace vernier
