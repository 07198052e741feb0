// Every table of conversions gives the bits of the scalar ones, at every length and alignment.
#include "kernels/convert.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace vernier {
namespace {

std::vector<const ConvertTable*> Tables() {
  int count = 0;
  const ConvertTable* const* tables = ConvertTables(&count);
  return {tables, tables + count};
}

class ConvertTest : public testing::TestWithParam<const ConvertTable*> {
 protected:
  const ConvertTable& table() const { return *GetParam(); }
};

// Random bits: every exponent, both signs, NaN and infinity; then values a format rounds halfway.
std::vector<float> HardFloats() {
  std::mt19937 generator(1);
  std::vector<float> values;
  for (int i = 0; i < 20000; ++i) values.push_back(std::bit_cast<float>(static_cast<uint32_t>(generator())));
  for (uint32_t half = 0; half < 0x7c00; ++half) {
    const float low = F32FromF16(static_cast<uint16_t>(half));
    const float high = F32FromF16(static_cast<uint16_t>(half + 1));
    if (std::isfinite(high)) values.push_back((low + high) / 2);
    values.push_back(-low);
  }
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float v : {0.0f, -0.0f, infinity, -infinity, 65519.996f, 65520.0f, 3.4e38f, 1e-45f}) {
    values.push_back(v);
  }
  return values;
}

uint16_t Half(std::span<const uint8_t> bytes, size_t index) {
  uint16_t bits;
  std::memcpy(&bits, bytes.data() + 2 * index, sizeof(bits));
  return bits;
}

TEST_P(ConvertTest, WidensEveryHalfAsTheScalarFunctionsDo) {
  std::vector<uint8_t> bytes(1 + 2 * 65536);  // one in front: no alignment
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    std::memcpy(bytes.data() + 1 + 2 * i, &bits, sizeof(bits));
  }
  std::vector<float> f16(65536), bf16(65536);
  table().f32_from_f16(bytes.data() + 1, 65536, f16.data());
  table().f32_from_bf16(bytes.data() + 1, 65536, bf16.data());
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    ASSERT_EQ(std::bit_cast<uint32_t>(f16[i]), std::bit_cast<uint32_t>(F32FromF16(bits))) << i;
    ASSERT_EQ(std::bit_cast<uint32_t>(bf16[i]), std::bit_cast<uint32_t>(F32FromBF16(bits))) << i;
  }
}

TEST_P(ConvertTest, NarrowsAsTheScalarFunctionsDo) {
  const std::vector<float> values = HardFloats();
  const auto count = static_cast<int64_t>(values.size());
  std::vector<uint8_t> f16(1 + 2 * values.size()), bf16(1 + 2 * values.size());
  table().f16_from_f32(values.data(), count, f16.data() + 1);
  table().bf16_from_f32(values.data(), count, bf16.data() + 1);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(Half(std::span(f16).subspan(1), i), F16FromF32(values[i])) << values[i];
    ASSERT_EQ(Half(std::span(bf16).subspan(1), i), BF16FromF32(values[i])) << values[i];
  }
}

TEST_P(ConvertTest, WritesNoFurtherThanItsCount) {
  const std::vector<float> ones(70, 1.0f);
  const std::vector<float> thresholds(15, 0.0f);
  for (int64_t n = 0; n <= 64; ++n) {
    std::vector<uint8_t> bytes(200, 0xaa);
    table().f16_from_f32(ones.data(), n, bytes.data());
    EXPECT_EQ(bytes[2 * n], 0xaa) << n;
    EXPECT_TRUE(n == 0 || Half(bytes, n - 1) == 0x3c00) << n;
    table().bf16_from_f32(ones.data(), n, bytes.data());
    EXPECT_EQ(bytes[2 * n], 0xaa) << n;
    table().int8_codes(ones.data(), n, 1.0f, bytes.data() + 100);
    EXPECT_EQ(bytes[100 + n], 0xaa) << n;
    EXPECT_TRUE(n == 0 || bytes[100 + n - 1] == 127) << n;
    table().nf4_codes(ones.data(), n, 1.0f, thresholds.data(), bytes.data());
    EXPECT_TRUE(n == 0 || bytes[n - 1] == 15) << n;
    std::vector<float> wide(70, -1.0f);
    const std::vector<uint8_t> halves(200, 0);
    table().f32_from_f16(halves.data(), n, wide.data());
    EXPECT_EQ(wide[n], -1.0f) << n;
  }
}

TEST_P(ConvertTest, FindsTheLargestMagnitudeWhereverItIs) {
  for (int64_t n = 1; n <= 70; ++n) {
    std::vector<float> values(n, -0.5f);
    for (int64_t at = 0; at < n; ++at) {
      values[at] = at % 2 == 0 ? -3.0f : 3.0f;
      EXPECT_EQ(table().abs_max(values.data(), n), 3.0f);
      EXPECT_TRUE(table().all_within(values.data(), n, 3.0f));
      EXPECT_FALSE(table().all_within(values.data(), n, std::nextafter(3.0f, 0.0f)));
      values[at] = std::nanf("");
      EXPECT_FALSE(table().all_within(values.data(), n, std::numeric_limits<float>::max()));
      values[at] = -0.5f;
    }
  }
  EXPECT_EQ(table().abs_max(nullptr, 0), 0.0f);
}

TEST_P(ConvertTest, RoundsInt8ToTheNearestAndHalvesToEven) {
  std::mt19937 generator(2);
  std::vector<float> values = {0.0f, -0.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 126.5f, -127.0f};
  std::uniform_real_distribution<float> within(-127.0f, 127.0f);
  while (values.size() < 5000) values.push_back(within(generator));
  for (const float scale : {1.0f, 0x1p-140f, 0x1p120f}) {
    std::vector<float> scaled;
    for (const float v : values) scaled.push_back(v * scale);
    const float absmax = 127.0f * scale;
    std::vector<uint8_t> codes(scaled.size());
    table().int8_codes(scaled.data(), static_cast<int64_t>(scaled.size()), absmax, codes.data());
    for (size_t i = 0; i < scaled.size(); ++i) {
      const auto expected = static_cast<int8_t>(std::lrint(scaled[i] * 127.0 / absmax));
      ASSERT_EQ(static_cast<int8_t>(codes[i]), expected) << scaled[i];
    }
  }
}

TEST_P(ConvertTest, CountsTheNf4ThresholdsStrictlyBelow) {
  std::array<float, 15> thresholds;
  for (int i = 0; i < 15; ++i) thresholds[i] = static_cast<float>(i - 7) / 8;
  std::vector<float> values = {std::nanf("")};
  for (const float t : thresholds) {
    for (const float v : {std::nextafter(t, -2.0f), t, std::nextafter(t, 2.0f)}) {
      values.push_back(v * 4);
    }
  }
  std::vector<uint8_t> codes(values.size());
  table().nf4_codes(values.data(), static_cast<int64_t>(values.size()), 0.25f, thresholds.data(),
                    codes.data());
  EXPECT_EQ(codes[0], 0);
  for (int i = 0; i < 15; ++i) {
    EXPECT_EQ(codes[1 + 3 * i], i) << "below threshold " << i;
    EXPECT_EQ(codes[2 + 3 * i], i) << "at threshold " << i;
    EXPECT_EQ(codes[3 + 3 * i], i + 1) << "above threshold " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, ConvertTest, testing::ValuesIn(Tables()),
                         [](const auto& row) { return std::string(row.param->name); });

}  // namespace
}  // namespace vernier
