// Panels of PanelOrder::kInputs as vectors of AVX-512: a lane is a weight row. For the file that is
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

// absmax of the 16 rows for the inputs of one chunk: stored as fp32 behind the codes.
struct PlainColumnScales {
  explicit PlainColumnScales(const Panel& panel)
      : scales(reinterpret_cast<const float*>(panel.codes + panel.padded_cols * kTileRows / 2)) {}
  inline void Begin(int64_t chunk) { absmax = _mm512_loadu_ps(scales + chunk * kTileRows); }
  inline __m512 Get(int) const { return absmax; }
  const float* scales;
  __m512 absmax;
};

// The same as 8-bit indices into a map, times a second-level scale a 256 blocks, plus an offset.
struct NestedColumnScales {
  explicit NestedColumnScales(const Panel& p)
      : panel(&p),
        codes(p.codes + p.padded_cols * kTileRows / 2),
        row_blocks(p.padded_cols / kNf4Chunk) {}
  inline void Begin(int64_t chunk) {
    const uint8_t* code = codes + chunk * kTileRows;
    alignas(64) float values[kTileRows];
    for (int r = 0; r < kTileRows; ++r) {
      const int64_t block = (panel->first_row + r) * row_blocks + chunk;
      values[r] = panel->map[code[r]] * panel->scales[block >> 8] + panel->offset;
    }
    absmax = _mm512_load_ps(values);
  }
  inline __m512 Get(int) const { return absmax; }
  const Panel* panel;
  const uint8_t* codes;
  int64_t row_blocks;
  __m512 absmax;
};

// Rows whose length is no multiple of 64: two blocks of the flattened weight can meet in a chunk of
// a row, at another input in each.
struct StraddledColumnScales {
  explicit StraddledColumnScales(const Panel& p) : panel(&p) {}
  inline void Begin(int64_t chunk) {
    alignas(64) float first[kTileRows], second[kTileRows];
    alignas(64) int32_t boundaries[kTileRows];
    for (int r = 0; r < kTileRows; ++r) {
      const int64_t place = (panel->first_row + r) * panel->cols + chunk * kNf4Chunk;
      first[r] = panel->scales[place / kNf4Chunk];
      second[r] = panel->scales[place / kNf4Chunk + 1];
      boundaries[r] = kNf4Chunk - static_cast<int32_t>(place % kNf4Chunk);
    }
    before = _mm512_load_ps(first);
    after = _mm512_load_ps(second);
    boundary = _mm512_load_si512(boundaries);
  }
  inline __m512 Get(int input) const {
    return _mm512_mask_blend_ps(_mm512_cmple_epi32_mask(boundary, _mm512_set1_epi32(input)), before,
                                after);
  }
  const Panel* panel;
  __m512 before, after;
  __m512i boundary;
};

enum class Nf4Rounding : uint8_t { kNone, kToBF16 };

// Nibble i of a row's word g is input 4 g + i of a step, nibble 4 + i input 16 + 4 g + i.
template <class Scales, Nf4Rounding kRounding>
struct Nf4Columns {
  static constexpr int kParts = 1;
  static constexpr int kWords = 4;
  static constexpr int64_t kStepBytes = int64_t{kTileRows} * kTileCols / 2;

  explicit Nf4Columns(const Panel& panel)
      : codes(panel.codes), scales(panel), values(_mm512_loadu_ps(kNf4Values)) {}
  inline void Begin(int64_t step) {
    const uint8_t* step_codes = codes + step * kStepBytes;
    PrefetchStep<kStepBytes>(step_codes);
    VERNIER_UNROLL for (int g = 0; g < kWords; ++g) {
      words[g] = _mm512_loadu_si512(step_codes + g * 64);
    }
    scales.Begin(step / 2);
    first_input = static_cast<int>(step % 2) * kTileCols;
  }
  inline __m512 Get(int pair, int half) const {
    using U32x16 = uint32_t __attribute__((vector_size(64), may_alias));
    const U32x16 index = reinterpret_cast<const U32x16&>(words[pair / kWords]) >>
                         static_cast<uint32_t>(4 * (pair % kWords) + 16 * half);
    const __m512 scaled =
        _mm512_mul_ps(_mm512_permutexvar_ps(reinterpret_cast<__m512i>(index), values),
                      scales.Get(first_input + half * kPairs + pair));
    return kRounding == Nf4Rounding::kNone ? scaled : RoundToBF16(scaled);
  }

  const uint8_t* codes;
  Scales scales;
  __m512 values;
  __m512i words[kWords];
  int first_input = 0;
};

}  // namespace
}  // namespace vernier
