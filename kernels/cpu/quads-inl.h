// Weights of 8 bits and NF4 as the byte products of AVX-512 take them, and scales of their steps.
// For the files that are compiled for at least VNNI; after avx512-inl.h and the file's
// kWideInt8Ahead.
#pragma once

#include "kernels/cpu/avx512-inl.h"
#include "kernels/cpu/kernel_table.h"

namespace vernier {
namespace {

// NF4's values as whole numbers over kNf4CodeScale, of all such scales the one that moves them
// least: by 0.0018 of absmax (root mean square over normal weights), a twentieth of what NF4 itself
// does.
constexpr float kNf4CodeScale = 124.115f;
constexpr char kNf4Codes[16] = {-124, -86, -65, -49, -35, -23, -11, 0,
                                10,   20,  31,  42,  55,  70,  90,  124};

inline __m512i Bias() { return _mm512_set1_epi8(static_cast<char>(0x80)); }

// Two quads of inputs of a panel's rows, of the eight pairs of quads in a step.
constexpr int kQuadPairs = kDigitCols / 8;
constexpr int64_t kQuadBytes = 64;

// Bytes ahead that are asked for, to the second cache, as the first has few places for what is on
// its way; 0: the processor foresees them better. One row of x from memory, Zen 4: within 15 % of
// what a loop that only reads is given (NF4 without: 40 % less). Several lines read int8 too slowly
// for the processor to foresee enough: 1.2 to 1.9 times as fast when asked for as NF4 is.
// int8 with two digits, one or two lines: kWideInt8Ahead.
constexpr int64_t kNarrowInt8Ahead = 2048;  // one line
constexpr int64_t kFarAhead = 16384;        // more of them; NF4

// Signed bytes.
template <int64_t kAhead>
struct Int8Quads {
  const uint8_t* codes;
  static constexpr int64_t kPairBytes = 2 * kQuadBytes;
  inline void Get(int64_t pair, __m512i* quads) const {
    const uint8_t* from = codes + pair * kPairBytes;
    quads[0] = _mm512_xor_si512(_mm512_loadu_si512(from), Bias());
    quads[1] = _mm512_xor_si512(_mm512_loadu_si512(from + kQuadBytes), Bias());
    AskFor<kAhead>(from);
    AskFor<kAhead>(from + kQuadBytes);
  }
};

// The lower nibbles are the first quad's. kBiased: with 128 added.
template <bool kBiased>
struct Nf4Quads {
  const uint8_t* codes;
  static constexpr int64_t kPairBytes = kQuadBytes;
  static inline __m512i Table() {
    const __m512i table =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kNf4Codes)));
    return kBiased ? _mm512_xor_si512(table, Bias()) : table;
  }
  inline void Get(int64_t pair, __m512i* quads) const {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i table = Table();
    const __m512i both = _mm512_loadu_si512(codes + pair * kPairBytes);
    AskFor<kFarAhead>(codes + pair * kPairBytes);
    quads[0] = _mm512_shuffle_epi8(table, _mm512_and_si512(both, nibble));
    quads[1] = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble));
  }
};

// absmax of a panel's rows for one step: fp32 behind the codes ...
struct PlainQuadScales {
  static constexpr bool kAny = true;
  explicit PlainQuadScales(const Panel& panel)
      : scales(reinterpret_cast<const float*>(panel.codes + panel.padded_cols * kTileRows / 2)) {}
  inline __m512 Get(int64_t step) const {
    AskFor<kFarAhead>(scales + step * kTileRows);
    return _mm512_loadu_ps(scales + step * kTileRows);
  }
  const float* scales;
};

// ... or 8-bit indices into a map, times a second-level scale a 256 blocks, plus an offset.
struct NestedQuadScales {
  static constexpr bool kAny = true;
  explicit NestedQuadScales(const Panel& p)
      : panel(&p),
        codes(p.codes + p.padded_cols * kTileRows / 2),
        row_blocks(static_cast<int>(p.padded_cols / kDigitCols)) {}
  inline __m512 Get(int64_t step) const {
    const __m512i index = _mm512_cvtepu8_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + step * kTileRows)));
    alignas(64) int32_t groups[kTileRows];
    for (int r = 0; r < kTileRows; ++r) {
      groups[r] = static_cast<int32_t>(((panel->first_row + r) * row_blocks + step) >> 8);
    }
    const __m512 scale = _mm512_i32gather_ps(_mm512_load_si512(groups), panel->scales, 4);
    // A product and a sum, each rounded, as Dequantize does.
    const __m512 value = _mm512_mul_ps(_mm512_i32gather_ps(index, panel->map, 4), scale);
    return _mm512_add_ps(value, _mm512_set1_ps(panel->offset));
  }
  const Panel* panel;
  const uint8_t* codes;
  int64_t row_blocks;
};

}  // namespace
}  // namespace vernier
