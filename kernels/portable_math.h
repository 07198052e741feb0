// Exponential and logarithm in plain IEEE arithmetic: the same bits on every host and device that
// does not contract products and sums.
#pragma once

#include <bit>
#include <cstdint>

#ifdef __CUDACC__
#define VERNIER_PORTABLE __host__ __device__
#else
#define VERNIER_PORTABLE
#endif

namespace vernier {

// e^x of x <= 0 to within two units in the last place; 0 below -708. Branch-free, so that
// compilers vectorize loops over it, and without a library's rounding.
VERNIER_PORTABLE inline double ExpNonPositive(double x) {
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
VERNIER_PORTABLE inline double PortableLog(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffffull) | (uint64_t{1023} << 52));
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1) / (m + 1);
  const double s2 = s * s;  // <= 0.0295, so that what is left out is below 1e-18
  double series = 0;
  for (int k = 23; k >= 1; k -= 2) series = series * s2 + 1.0 / k;
  return exponent * kLn2 + 2 * s * series;
}

// Standard Gumbel noise -ln(-ln u) of u = (word + 1/2) / 2^32: within [-3.13, kMaxGumbelNoise].
VERNIER_PORTABLE inline double GumbelNoise(uint32_t word) {
  const double u = (word + 0.5) * 0x1p-32;
  return -PortableLog(-PortableLog(u));
}
inline constexpr double kMaxGumbelNoise = 22.8739;

// At least the noise of `word` with that many leading ones: -ln(-ln u) <= -ln(1 - u), and the ones
// bound 1 - u from below.
VERNIER_PORTABLE inline double GumbelNoiseBound(int leading_ones) {
  constexpr double kSlack = 1e-9;  // well above the rounding of the noise itself
  return (leading_ones + 1) * kLn2 + kSlack;
}

}  // namespace vernier
