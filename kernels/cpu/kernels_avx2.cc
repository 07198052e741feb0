// The kernels of AVX2 with FMA and F16C. Compiled with its own flags: includes nothing but
// intrinsics and the table.
#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/unroll.h"
#include "kernels/nf4_values.h"

namespace vernier {
namespace {

constexpr int kLanes = 8;
constexpr int kRegisters = 16;
constexpr bool kConverts = true;  // small elements to a Vec by one instruction

struct Vec {
  __m256 v;
};
struct Mask {
  __m256 m;
};
using Words = __m256i;  // 8 words of 8 NF4 codes
struct Table {
  __m256 low, high;  // codes 0..7 and 8..15
};

inline Vec Zero() { return {_mm256_setzero_ps()}; }
inline Vec Set1(float x) { return {_mm256_set1_ps(x)}; }
inline Vec Load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void Store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
inline Vec Add(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec Sub(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec Mul(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec Div(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec Max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec Min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec Fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Mask Less(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
inline Vec Select(Mask m, Vec yes, Vec no) { return {_mm256_blendv_ps(no.v, yes.v, m.m)}; }
inline Vec Round(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// 2^n for whole n in [-126, 127].
inline Vec PowerOf2(Vec n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))};
}
// a 2^n for whole n, in two factors, so that overflow gives infinity and underflow is gradual.
inline Vec Scale(Vec a, Vec n) {
  const Vec half = Round(Mul(n, Set1(0.5f)));
  return Mul(Mul(a, PowerOf2(half)), PowerOf2(Sub(n, half)));
}

inline Vec LoadF16(const uint8_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline Vec LoadBF16(const uint8_t* p) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16))};
}
inline Vec LoadInt8(const uint8_t* p) {
  const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes))};
}
inline void StoreF16(uint8_t* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// Round to nearest even; NaN becomes the quiet NaN of its upper half.
inline void StoreBF16(uint8_t* p, Vec a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 nan = _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q);
  const __m256i kept =
      _mm256_srli_epi32(_mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(rounded),
                                                             _mm256_castsi256_ps(quiet), nan)),
                        16);
  const __m128i packed =
      _mm_packus_epi32(_mm256_castsi256_si128(kept), _mm256_extracti128_si256(kept, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
}
inline void StoreLowBytes(uint8_t* p, Vec a) {
  const __m256i bytes = _mm256_and_si256(_mm256_castps_si256(a.v), _mm256_set1_epi32(0xff));
  const __m128i words =
      _mm_packus_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}

// The table's products with absmax are the weights' own fp32 values: one rounding, as the format
// has.
inline Table ScaledNf4(float absmax) {
  const __m256 scale = _mm256_set1_ps(absmax);
  return {_mm256_mul_ps(_mm256_loadu_ps(kNf4Values), scale),
          _mm256_mul_ps(_mm256_loadu_ps(kNf4Values + 8), scale)};
}
inline Words LoadWords(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
// The table's entries of the nibbles at `shift`: VPERMPS looks at the low three bits, and the
// fourth chooses the half as a sign.
inline Vec Lookup(Table table, Words words, int shift) {
  const __m256i index = _mm256_srli_epi32(words, shift);
  const __m256 high = _mm256_castsi256_ps(_mm256_slli_epi32(words, 28 - shift));
  return {_mm256_blendv_ps(_mm256_permutevar8x32_ps(table.low, index),
                           _mm256_permutevar8x32_ps(table.high, index), high)};
}

// Lanes are met l with l + 4, then + 2, + 1; here for eight vectors at once.
template <Vec (*kMeet)(Vec, Vec)>
inline void Meet8(const Vec* a, float* out) {
  const auto halves = [](Vec b, Vec c) {
    return kMeet({_mm256_permute2f128_ps(b.v, c.v, 0x20)},
                 {_mm256_permute2f128_ps(b.v, c.v, 0x31)});
  };
  const auto pairs = [](Vec b, Vec c) {
    return kMeet({_mm256_shuffle_ps(b.v, c.v, 0x44)}, {_mm256_shuffle_ps(b.v, c.v, 0xee)});
  };
  const Vec low = pairs(halves(a[0], a[1]), halves(a[2], a[3]));
  const Vec high = pairs(halves(a[4], a[5]), halves(a[6], a[7]));
  const Vec all =
      kMeet({_mm256_shuffle_ps(low.v, high.v, 0x88)}, {_mm256_shuffle_ps(low.v, high.v, 0xdd)});
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(all.v, order));
}
inline void SumLanes8(const Vec* a, float* out) { Meet8<Add>(a, out); }
inline void LargestLane8(const Vec* a, float* out) { Meet8<Max>(a, out); }
inline float SumLanes(Vec a) {
  alignas(32) float lane[8];
  _mm256_store_ps(lane, a.v);
  for (int width = 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}
inline float LargestLane(Vec a) {
  alignas(32) float lane[8];
  _mm256_store_ps(lane, a.v);
  for (int width = 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] = lane[i] < lane[i + width] ? lane[i + width] : lane[i];
  }
  return lane[0];
}

}  // namespace
}  // namespace vernier

#include "kernels/cpu/row-inl.h"

namespace vernier {

const KernelTable& Avx2Kernels() {
  static constexpr KernelTable kKernels = MakeKernelTable(nullptr, nullptr);
  return kKernels;
}

}  // namespace vernier
