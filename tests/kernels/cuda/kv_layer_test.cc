#include "kernels/cuda/kv_layer.h"

#include <gtest/gtest.h>

#include <set>

#include "kernels/backend.h"

namespace vernier::cuda {
namespace {

constexpr KvCode kCodes[] = {KvCode::kF32, KvCode::kF16, KvCode::kBF16, KvCode::kInt8};
static_assert(kNumKvTypes == 4);

TEST(KvLayerTest, AHeadTakesTheBytesOfTheDoor) {
  static_assert(kSlotsPerBlock == kBlockTokens);
  for (int i = 0; i < kNumKvTypes; ++i) {
    for (const int dim : {1, 5, 64, 80, 96, 128, 256}) {
      EXPECT_EQ(HeadBytes(kCodes[i], dim), KvHeadBytes({.head_dim = dim}, static_cast<KvType>(i)));
    }
  }
}

TEST(KvLayerTest, CodesAndScalesFillAHead) {
  for (const KvCode code : kCodes) {
    for (const int dim : {1, 5, 20, 64, 80, 96, 128, 256}) {
      std::set<int> bytes;
      for (int slot = 0; slot < kSlotsPerBlock; ++slot) {
        for (int i = 0; i < dim; ++i) {
          const int at = CodeOffset(code, dim, slot, i);
          EXPECT_EQ(at % CodeBytes(code), 0);
          for (int byte = 0; byte < CodeBytes(code); ++byte) bytes.insert(at + byte);
        }
        for (int byte = 0; byte < ScaleBytes(code); ++byte) {
          bytes.insert(ScaleOffset(code, dim, slot) + byte);
        }
      }
      EXPECT_EQ(static_cast<int>(bytes.size()), HeadBytes(code, dim)) << dim;
      EXPECT_EQ(*bytes.rbegin(), HeadBytes(code, dim) - 1) << dim;
    }
  }
}

// ldmatrix reads 16 bytes of each of eight slots at once: 128 bytes of 32 banks.
TEST(KvLayerTest, EightSlotsOfAColumnAreInAllBanks) {
  for (const KvCode code : {KvCode::kF16, KvCode::kInt8}) {
    for (const int dim : {64, 96, 128, 256}) {
      for (int i = 0; i < dim; i += 16 / CodeBytes(code)) {
        for (int first = 0; first < kSlotsPerBlock; first += 8) {
          std::set<int> sixteenths;
          for (int slot = first; slot < first + 8; ++slot) {
            sixteenths.insert(CodeOffset(code, dim, slot, i) / 16 % 8);
          }
          EXPECT_EQ(sixteenths.size(), 8u) << dim << ", value " << i << ", slot " << first;
        }
      }
    }
  }
}

}  // namespace
}  // namespace vernier::cuda
