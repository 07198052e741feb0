// Panels of PanelOrder::kPairs as vectors of AVX-512: a lane is a weight row. For the file that is
// compiled for AMX; after row-inl.h, whose elements it reads.
//
// Internal linkage throughout; includes nothing but the table and what that file has.
#pragma once

#include "kernels/cpu/avx512-inl.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/row-inl.h"

namespace vernier {
namespace {

// The upper halves of 16 words each, as pairs: what a product takes as one word is input k of a
// step and input k + 16.
inline __m512i UpperPairs(__m512 low, __m512 high) {
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(_mm512_castps_si512(low), 16),
                                 _mm512_castps_si512(high));
}

// The bf16 that is the upper half of an fp32.
inline __m512 UpperHalf(__m512 x) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}

// The nearest bf16, ties away from 0: half of its last place is added before the rest is cut off.
inline __m512 RoundToBF16(__m512 x) {
  return UpperHalf(
      _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000))));
}

// The same as products of bf16 take x that was rounded: ties to even, a NaN kept.
inline __m512 RoundToEven(__m512 x) {
  const __m256i halves = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// ---- Weights ----
//
// A panel as vectors of its 16 rows' weights of one input. Begin(step) goes to the inputs from
// kTileCols * step on; Get(pair, half) is input pair + 16 * half of them.

constexpr int kPairs = kTileCols / 2;

// Bytes ahead of the step that begins that are asked for.
constexpr int64_t kPrefetch = 2048;
constexpr int kToSecondCache = 2;  // the first is full of tiles
template <int64_t kBytes>
inline void PrefetchStep(const uint8_t* codes) {
  for (int64_t i = 0; i < kBytes; i += 64) {
    __builtin_prefetch(codes + kPrefetch + i, 0, kToSecondCache);
  }
}

template <class Element, int kWeightParts>
struct ElementColumns {
  static constexpr int kParts = kWeightParts;
  static constexpr int64_t kColumnBytes = int64_t{kTileRows} * Element::kBytes;
  static constexpr int64_t kStepBytes = kTileCols * kColumnBytes;

  explicit ElementColumns(const Panel& panel) : codes(panel.codes), step_codes(panel.codes) {}
  inline void Begin(int64_t step) {
    step_codes = codes + step * kStepBytes;
    PrefetchStep<kStepBytes>(step_codes);
  }
  inline __m512 Get(int pair, int half) const {
    return Element::Get(step_codes + (2 * pair + half) * kColumnBytes).v;
  }

  const uint8_t* codes;
  const uint8_t* step_codes;
};

}  // namespace
}  // namespace vernier
