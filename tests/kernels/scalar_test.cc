// Conversions between fp32 and the 16-bit types, against the definition of rounding.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "gtest/gtest.h"
#include "kernels/tensor.h"

namespace vernier {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// The value of a 16-bit pattern by the definition of its format.
double ValueOf(uint16_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

// Round to nearest even, found by bisection over the non-negative patterns, which are in order.
uint16_t Nearest(float value, int exponent_bits, int fraction_bits) {
  const double magnitude = std::fabs(static_cast<double>(value));
  const auto infinity = static_cast<uint16_t>(((1 << exponent_bits) - 1) << fraction_bits);
  uint16_t low = 0;
  uint16_t high = infinity;  // its "value" is 2^(bias + 1), where rounding to infinity centres
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (ValueOf(middle, exponent_bits, fraction_bits) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - ValueOf(low, exponent_bits, fraction_bits);
  const double above = ValueOf(high, exponent_bits, fraction_bits) - magnitude;
  const bool up = above < below || (above == below && low % 2 == 1);
  return static_cast<uint16_t>((up ? high : low) | (std::signbit(value) ? 0x8000 : 0));
}

TEST(ScalarTest, EveryHalfKeepsItsBitsThroughFp32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = F32FromF16(half);
    if ((bits & 0x7fff) > 0x7c00) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      EXPECT_TRUE(std::isnan(F32FromF16(F16FromF32(value)))) << bits;
      continue;
    }
    EXPECT_EQ(F16FromF32(value), half);
    if ((bits & 0x7fff) < 0x7c00) {
      EXPECT_EQ(value, ValueOf(half, 5, 10)) << bits;
    }
  }
}

TEST(ScalarTest, EveryBFloat16KeepsItsBitsThroughFp32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = F32FromBF16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(F32FromBF16(BF16FromF32(value)))) << bits;
    } else {
      EXPECT_EQ(BF16FromF32(value), bits);
    }
  }
}

TEST(ScalarTest, RoundsToNearestEven) {
  std::mt19937 random(7);
  for (int i = 0; i < 200000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isnan(value) || std::isinf(value)) continue;
    ASSERT_EQ(F16FromF32(value), Nearest(value, 5, 10)) << value;
    ASSERT_EQ(BF16FromF32(value), Nearest(value, 8, 7)) << value;
  }
}

TEST(ScalarTest, HalfwayValuesOfHalfGoToEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const auto low = static_cast<uint16_t>(bits);
    const float middle = (F32FromF16(low) + F32FromF16(static_cast<uint16_t>(bits + 1))) / 2;
    ASSERT_EQ(F16FromF32(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(F16FromF32(-middle), (bits % 2 == 0 ? bits : bits + 1) | 0x8000) << bits;
    ASSERT_EQ(F16FromF32(std::nextafter(middle, kInf)), bits + 1) << bits;
    ASSERT_EQ(F16FromF32(std::nextafter(middle, 0.0f)), bits) << bits;
  }
}

TEST(ScalarTest, OverflowBecomesInfinity) {
  EXPECT_EQ(F16FromF32(65504.0f), 0x7bff);
  EXPECT_EQ(F16FromF32(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(F16FromF32(65520.0f), 0x7c00);
  EXPECT_EQ(F16FromF32(-kInf), 0xfc00);
  EXPECT_EQ(BF16FromF32(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(F16FromF32(-0.0f), 0x8000);
}

}  // namespace
}  // namespace vernier
