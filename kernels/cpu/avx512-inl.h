// The vectors of AVX-512 (F, BW, DQ, VL), for the files that are compiled for at least that.
//
// Internal linkage throughout; includes nothing but intrinsics and the table.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/unroll.h"
#include "kernels/nf4_values.h"

namespace vernier {
namespace {

constexpr int kLanes = 16;
constexpr int kRegisters = 32;
constexpr bool kConverts = true;  // small elements to a Vec by one instruction

// What lies so many bytes ahead, into the second cache; 0: nothing.
template <int64_t kAhead>
inline void AskFor(const void* bytes) {
  if constexpr (kAhead > 0) __builtin_prefetch(static_cast<const uint8_t*>(bytes) + kAhead, 0, 2);
}

struct Vec {
  __m512 v;
};
struct Mask {
  __mmask16 m;
};
using Words = __m512i;  // 16 words of 8 NF4 codes
struct Table {
  __m512 values;
};

inline Vec Zero() { return {_mm512_setzero_ps()}; }
inline Vec Set1(float x) { return {_mm512_set1_ps(x)}; }
inline Vec Load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void Store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
inline Vec Add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec Sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec Mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec Div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec Max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec Min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec Fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Mask Less(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline Vec Select(Mask m, Vec yes, Vec no) { return {_mm512_mask_blend_ps(m.m, no.v, yes.v)}; }
// a 2^n for whole n.
inline Vec Scale(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }

inline Vec LoadF16(const uint8_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline Vec LoadBF16(const uint8_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
inline Vec LoadInt8(const uint8_t* p) {
  const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes))};
}
inline void StoreF16(uint8_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// Round to nearest even; NaN becomes the quiet NaN of its upper half.
inline void StoreBF16(uint8_t* p, Vec a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i kept = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(kept));
}
inline void StoreLowBytes(uint8_t* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_castps_si512(a.v)));
}

// The table's products with absmax are the weights' own fp32 values: one rounding, as the format
// has.
inline Table ScaledNf4(float absmax) {
  return {_mm512_mul_ps(_mm512_loadu_ps(kNf4Values), _mm512_set1_ps(absmax))};
}
inline Words LoadWords(const uint8_t* p) { return _mm512_loadu_si512(p); }
// The table's entries of the nibbles at `shift`; VPERMPS looks at the low four bits alone.
inline Vec Lookup(Table table, Words words, int shift) {
  using U32x16 = uint32_t __attribute__((vector_size(64), may_alias));
  const U32x16 index = reinterpret_cast<U32x16>(words) >> static_cast<uint32_t>(shift);
  return {_mm512_permutexvar_ps(reinterpret_cast<__m512i>(index), table.values)};
}

// Lanes are met l with l + 8, then + 4, + 2, + 1; here for eight vectors at once.
template <Vec (*kMeet)(Vec, Vec)>
inline Vec MeetHalves(Vec a, Vec b) {
  return kMeet({_mm512_shuffle_f32x4(a.v, b.v, 0x44)}, {_mm512_shuffle_f32x4(a.v, b.v, 0xee)});
}
template <Vec (*kMeet)(Vec, Vec)>
inline Vec MeetQuarters(Vec a, Vec b) {
  return kMeet({_mm512_shuffle_f32x4(a.v, b.v, 0x88)}, {_mm512_shuffle_f32x4(a.v, b.v, 0xdd)});
}
template <Vec (*kMeet)(Vec, Vec)>
inline void Meet8(const Vec* a, float* out) {
  const Vec low = MeetQuarters<kMeet>(MeetHalves<kMeet>(a[0], a[1]), MeetHalves<kMeet>(a[2], a[3]));
  const Vec high =
      MeetQuarters<kMeet>(MeetHalves<kMeet>(a[4], a[5]), MeetHalves<kMeet>(a[6], a[7]));
  const Vec pairs =
      kMeet({_mm512_shuffle_ps(low.v, high.v, 0x44)}, {_mm512_shuffle_ps(low.v, high.v, 0xee)});
  const Vec all = kMeet({_mm512_shuffle_ps(pairs.v, pairs.v, 0x88)},
                        {_mm512_shuffle_ps(pairs.v, pairs.v, 0xdd)});
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, all.v)));
}
inline void SumLanes8(const Vec* a, float* out) { Meet8<Add>(a, out); }
inline void LargestLane8(const Vec* a, float* out) { Meet8<Max>(a, out); }
inline float SumLanes(Vec a) {
  const __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 quarters =
      _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
  const __m128 pairs = _mm_add_ps(quarters, _mm_movehl_ps(quarters, quarters));
  return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)));
}
inline float LargestLane(Vec a) { return _mm512_reduce_max_ps(a.v); }

}  // namespace
}  // namespace vernier
