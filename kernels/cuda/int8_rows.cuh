// From a row of fp32 values to a row of int8 x (Activation::kInt8 of gemm_plan.h): one scale, and
// codes in the order of Int8XPosition.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/packed_layout.h"

namespace vernier::cuda {

// As bits, in which infinity is larger than any number and what is no number larger still: a row
// that holds one must not pass for one of numbers.
__device__ inline uint32_t MagnitudeOf(float value) { return __float_as_uint(value) & 0x7fffffffu; }
__device__ inline uint32_t MagnitudeOf(const float4& v) {
  return max(max(MagnitudeOf(v.x), MagnitudeOf(v.y)), max(MagnitudeOf(v.z), MagnitudeOf(v.w)));
}

struct Int8Scale {
  float scale;    // of a code
  float inverse;  // codes are value * inverse, rounded
};
// `largest` is the largest MagnitudeOf of the row. The scale of a row that is not finite is not
// finite either, and its codes are anything.
__device__ inline Int8Scale Int8ScaleOf(uint32_t largest) {
  constexpr float kLeast = 0x1p-100f;  // below it a row counts as zero: 127 / it may overflow
  const float magnitude = __uint_as_float(largest);
  if (magnitude < kLeast) return {0, 0};
  return {magnitude / 127, 127 / magnitude};
}

// In the last byte: that of 1.5 * 2^23 and a number is that number rounded. A conversion would wait
// for the unit that exponentials wait for. Of what is no number it is anything.
__device__ inline uint32_t Int8CodeBits(float value, float inverse) {
  return __float_as_uint(__fadd_rn(__fmul_rn(value, inverse), 0x1.8p23f));
}
__device__ inline uint32_t Int8CodeOf(float value, float inverse) {
  return Int8CodeBits(value, inverse) & 0xff;
}

// Codes of columns 4 `quad` to 4 `quad` + 3 of a row whose columns are a multiple of 16. All lanes
// of a warp call, their quads in order from a multiple of four; lanes of quads past `quads` store
// nothing.
__device__ inline void StoreInt8Quad(int8_t* row, int64_t quad, int64_t quads, const float4& v,
                                     float inverse) {
  const uint32_t low = Int8CodeOf(v.x, inverse) | Int8CodeOf(v.y, inverse) << 8;
  const uint32_t high = Int8CodeOf(v.z, inverse) | Int8CodeOf(v.w, inverse) << 8;
  // A word takes two columns and the two eight further: half of it is the quad's two after this one
  // or before.
  const bool later = (quad & 2) != 0;
  const uint32_t other = __shfl_xor_sync(~0u, later ? low : high, 2);
  const uint32_t word = later ? other | high << 16 : low | other << 16;
  const int64_t first = quad * 4 - quad * 4 % 16;
  const int64_t in_sixteen = quad % 2 * 2 + quad / 2 % 2;  // words
  if (quad < quads) *reinterpret_cast<uint32_t*>(row + first + in_sixteen * 4) = word;
}

// Codes of columns 8 `eight` to 8 `eight` + 7 of such a row. All lanes of a warp call, their eights
// in order from an even one; lanes of eights past `eights` store nothing.
__device__ inline void StoreInt8Eight(int8_t* row, int64_t eight, int64_t eights,
                                      const float (&v)[8], float inverse) {
  uint32_t pairs[2];  // of columns 0 to 3 and 4 to 7
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    uint32_t codes[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) codes[j] = Int8CodeBits(v[4 * i + j], inverse);
    pairs[i] = __byte_perm(__byte_perm(codes[0], codes[1], 0x0040),
                           __byte_perm(codes[2], codes[3], 0x0040), 0x5410);
  }
  // A word takes two columns and the two eight further, which the next lane has: the first of two
  // lanes makes the first two words of their four.
  const bool later = eight % 2 != 0;
  const uint32_t other = __shfl_xor_sync(~0u, later ? pairs[0] : pairs[1], 1);
  const uint32_t low = later ? other : pairs[0], high = later ? pairs[1] : other;
  const uint2 words = {__byte_perm(low, high, 0x5410), __byte_perm(low, high, 0x7632)};
  if (eight < eights) *reinterpret_cast<uint2*>(row + eight * 8) = words;
}

}  // namespace vernier::cuda
