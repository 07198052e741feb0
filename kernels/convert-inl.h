// The loops of a ConvertTable, in plain C++ for the compiler to vectorize. A file includes this
// once and makes its table of it; F32FromF16 and F16FromF32 are the file's own, of one value, to
// finish what its vectors leave. Internal linkage throughout, no library functions: see convert.h.
#pragma once

#include "kernels/convert.h"

namespace vernier {
namespace {

inline uint16_t Load16(const uint8_t* in) {
  uint16_t bits;
  __builtin_memcpy(&bits, in, sizeof(bits));
  return bits;
}
inline void Store16(uint16_t bits, uint8_t* out) { __builtin_memcpy(out, &bits, sizeof(bits)); }

void BF16ToF32(const uint8_t* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = __builtin_bit_cast(float, static_cast<uint32_t>(Load16(in + 2 * i)) << 16);
  }
}

void F32ToBF16(const float* in, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, in[i]);
    const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    const uint32_t kept = (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x400000u : rounded;
    Store16(static_cast<uint16_t>(kept >> 16), out + 2 * i);
  }
}

// Magnitudes are compared as the integers they are stored as, which has no NaN and no rounding for
// the compiler to keep in order.
inline uint32_t MagnitudeBits(float value) {
  return __builtin_bit_cast(uint32_t, value) & 0x7fffffffu;
}

float AbsMax(const float* in, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = MagnitudeBits(in[i]);
    largest = bits > largest ? bits : largest;
  }
  return __builtin_bit_cast(float, largest);
}

bool AllWithin(const float* in, int64_t n, float limit) {
  return MagnitudeBits(AbsMax(in, n)) <= MagnitudeBits(limit);
}

void Int8Codes(const float* in, int64_t n, float absmax, uint8_t* codes) {
  // Where a double's last bit is worth 1, adding rounds to nearest even and leaves the whole number
  // in the low bits. In double: in * 127 could overflow fp32, and one rounding is the definition.
  constexpr double kWhole = 0x1.8p52;
  const double divisor = absmax;
  for (int64_t i = 0; i < n; ++i) {
    const double whole = in[i] * 127.0 / divisor + kWhole;
    codes[i] = static_cast<uint8_t>(__builtin_bit_cast(uint64_t, whole));
  }
}

void Nf4Codes(const float* in, int64_t n, float inverse, const float* thresholds, uint8_t* codes) {
  const float* const t = thresholds;
  for (int64_t i = 0; i < n; ++i) {
    const float x = in[i] * inverse;
    // Written out, since a loop here keeps compilers from vectorizing the one around it.
    const int32_t count = (x > t[0]) + (x > t[1]) + (x > t[2]) + (x > t[3]) + (x > t[4]) +
                          (x > t[5]) + (x > t[6]) + (x > t[7]) + (x > t[8]) + (x > t[9]) +
                          (x > t[10]) + (x > t[11]) + (x > t[12]) + (x > t[13]) + (x > t[14]);
    codes[i] = static_cast<uint8_t>(count);
  }
}

}  // namespace
}  // namespace vernier
