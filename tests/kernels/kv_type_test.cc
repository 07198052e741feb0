// What the cache keeps of a head: the bound of its rounding, and what is no number.
#include "kernels/kv_type.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Head {
  std::vector<uint8_t> values;
  float scale = -1;
};

Head Encoded(KvType type, const std::vector<float>& head) {
  Head out{std::vector<uint8_t>(head.size() * TraitsOf(type).value_bytes)};
  EncodeKvHead(type, head, out.values.data(), &out.scale);
  return out;
}

int Code(const Head& head, int i) { return static_cast<int8_t>(head.values[i]); }

TEST(KvTypeTest, RowsAreInOrderAndNamesAreRead) {
  for (int i = 0; i < kNumKvTypes; ++i) {
    EXPECT_EQ(static_cast<int>(kKvTypes[i].type), i);
    const auto parsed = ParseKvType(kKvTypes[i].name);
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, kKvTypes[i].type);
  }
  EXPECT_THAT(std::string(ParseKvType("int4").status().message()),
              HasSubstr("'int4', known: fp32, fp16, bf16, int8"));
}

TEST(KvTypeTest, BlocksHoldValuesAndScales) {
  const AttentionShape shape{.num_heads = 9, .num_kv_heads = 3, .head_dim = 64};
  EXPECT_EQ(KvBlockBytes(30, shape, KvType::kF16), 32 * 23040);
  EXPECT_EQ(KvBlockBytes(30, shape, KvType::kInt8), 32 * 30 * 2 * 3 * (64 + 4));
  EXPECT_EQ(KvBlockBytes(30, shape, KvType::kF32), 2 * KvBlockBytes(30, shape, KvType::kBF16));
}

// Half a step of the largest magnitude / 127; the scale, the product with its inverse and the
// product with the code round once each, which moves a value by 3 * 2^-24 of the largest.
TEST(KvTypeTest, Int8ErrsByHalfAStep) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const float size : {1e-30f, 1e-3f, 1.0f, 300.0f, 1e30f}) {
    for (const int head_dim : {1, 5, 64, 128, 256}) {
      std::vector<float> head(head_dim);
      float largest = 0;
      for (float& value : head) {
        value = size * normal(random);
        largest = std::max(largest, std::fabs(value));
      }
      const Head stored = Encoded(KvType::kInt8, head);
      EXPECT_FLOAT_EQ(stored.scale, largest / 127);
      int most = 0;
      for (int i = 0; i < head_dim; ++i) {
        const float back = DecodeKv(KvType::kInt8, stored.values.data(), i) * stored.scale;
        ASSERT_LE(std::fabs(double{back} - head[i]),
                  double{largest} / 127 / 2 + double{largest} * 3 * 0x1p-24)
            << "seed 5, head_dim " << head_dim << ", size " << size;
        most = std::max(most, std::abs(Code(stored, i)));
      }
      EXPECT_EQ(most, 127) << "a code of the largest magnitude";
    }
  }
}

TEST(KvTypeTest, Int8RoundsToNearestEven) {
  const Head stored = Encoded(KvType::kInt8, {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.51f, -126.5f});
  EXPECT_EQ(stored.scale, 1);
  const int expected[] = {127, 0, 2, 2, 0, -2, 1, -126};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(Code(stored, i), expected[i]) << i;
}

TEST(KvTypeTest, AHeadOfZerosOrOfAlmostNothingIsZero) {
  for (const float value : {0.0f, -0.0f, 1e-45f, -3e-37f}) {
    const Head stored = Encoded(KvType::kInt8, {value, 0, value});
    EXPECT_EQ(stored.scale, 0);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(Code(stored, i), 0) << value;
  }
  EXPECT_GT(Encoded(KvType::kInt8, {4e-37f, 0}).scale, 0);
}

TEST(KvTypeTest, AHeadThatIsNotFiniteIsNanThroughout) {
  for (const float value : {kNan, -kNan, kInf, -kInf}) {
    for (const int place : {0, 1, 2}) {
      std::vector<float> head = {1, -2, 3};
      head[place] = value;
      const Head stored = Encoded(KvType::kInt8, head);
      for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(std::isnan(DecodeKv(KvType::kInt8, stored.values.data(), i) * stored.scale));
      }
    }
  }
}

TEST(KvTypeTest, TypesWithoutScalesLeaveItAlone) {
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kBF16}) {
    const Head stored = Encoded(type, {0.5f, -3, kInf});
    EXPECT_EQ(stored.scale, -1);
    EXPECT_EQ(DecodeKv(type, stored.values.data(), 0), 0.5f);
    EXPECT_EQ(DecodeKv(type, stored.values.data(), 1), -3);
    EXPECT_EQ(DecodeKv(type, stored.values.data(), 2), kInf);
  }
}

}  // namespace
}  // namespace vernier
