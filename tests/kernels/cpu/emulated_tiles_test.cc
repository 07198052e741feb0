// Products and sums computed by hand, in the order of Intel's manual.
#include "kernels/cpu/emulated_tiles.h"

#include <xmmintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_features.h"

namespace vernier {
namespace {

namespace tile = emulated_tiles;

struct Shape {
  uint8_t rows;
  uint16_t row_bytes;
};

// Tiles 0, 1 .. in these shapes.
TileConfig ConfigOf(const std::vector<Shape>& shapes) {
  TileConfig config = {};
  config.palette = 1;
  for (size_t i = 0; i < shapes.size(); ++i) {
    config.rows[i] = shapes[i].rows;
    config.row_bytes[i] = shapes[i].row_bytes;
  }
  return config;
}
void Configure(const std::vector<Shape>& shapes) { tile::Configure(ConfigOf(shapes)); }

// The upper half, for values that bf16 holds.
uint16_t BF16(float value) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16); }
std::vector<uint16_t> BF16s(const std::vector<float>& values) {
  std::vector<uint16_t> halves;
  for (const float value : values) halves.push_back(BF16(value));
  return halves;
}

// sum += a x b, of one row and one word; a's and b's pairs one after the other.
float AddOne(float sum, const std::vector<float>& a, const std::vector<float>& b) {
  const auto pairs = static_cast<uint8_t>(a.size() / 2);
  const std::vector<uint16_t> a_halves = BF16s(a), b_halves = BF16s(b);
  Configure({{1, 4}, {1, static_cast<uint16_t>(pairs * 4)}, {pairs, 4}});
  tile::Load(0, &sum, 4);
  tile::Load(1, a_halves.data(), 4 * pairs);
  tile::Load(2, b_halves.data(), 4);
  tile::AddPairs(0, 1, 2);
  tile::Store(0, &sum, 4);
  tile::Release();
  return sum;
}

class EmulatedTilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!CpuSupports(CpuIsa::kAvx512)) GTEST_SKIP() << "emulation takes AVX-512";
  }
  void TearDown() override { tile::Release(); }
};
using EmulatedTilesDeathTest = EmulatedTilesTest;

TEST_F(EmulatedTilesTest, ConfiguredRowsAndBytesAloneAreReadAndWritten) {
  Configure({{3, 20}});
  std::vector<uint8_t> from(2 * 32 + 20), to(3 * 24, 0xee);  // the last row ends the buffer
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint8_t>(i);
  tile::Load(0, from.data(), 32);
  tile::Store(0, to.data(), 24);
  for (int row = 0; row < 3; ++row) {
    for (int byte = 0; byte < 24; ++byte) {
      EXPECT_EQ(to[row * 24 + byte], byte < 20 ? row * 32 + byte : 0xee) << row << ", " << byte;
    }
  }
}

TEST_F(EmulatedTilesTest, ConfiguringAndZeroingLeaveZeros) {
  for (const bool configure : {true, false}) {
    Configure({{2, 8}});
    std::vector<uint8_t> bytes(16, 0xff);
    tile::Load(0, bytes.data(), 8);
    if (configure) {
      Configure({{2, 8}});
    } else {
      tile::Zero(0);
    }
    tile::Store(0, bytes.data(), 8);
    EXPECT_EQ(bytes, std::vector<uint8_t>(16, 0));
  }
}

TEST_F(EmulatedTilesTest, AThreadsTilesAreItsOwn) {
  Configure({{1, 4}});
  int32_t word = 7;
  tile::Load(0, &word, 4);
  std::thread([] { Configure({{2, 8}}); }).join();
  tile::Store(0, &word, 4);
  EXPECT_EQ(word, 7);
}

TEST_F(EmulatedTilesTest, PairsAreMultipliedAndAdded) {
  Configure({{2, 12}, {2, 8}, {2, 12}});
  float sums[2][3] = {{100, 0, -1}, {0.5, 0, 0}};
  const std::vector<uint16_t> a = BF16s({1, 2, 3, 4, -1, 0, 0.5, 8});
  const std::vector<uint16_t> b = BF16s({1, 10, -1, 2, 0, 1, 5, 6, 0.25, 0, 1, 1});
  tile::Load(0, sums, 12);
  tile::Load(1, a.data(), 8);
  tile::Load(2, b.data(), 12);
  tile::AddPairs(0, 1, 2);
  tile::Store(0, sums, 12);
  const float expected[2][3] = {
      {100 + (1 + 15) + (20 + 24), (-1 + 0.75f) + 4, -1 + 3 + (2 + 4)},
      {0.5f + (-1 + 2.5f) + 48, 1 + 0.125f, 0.5f + 8},
  };
  for (int row = 0; row < 2; ++row) {
    for (int word = 0; word < 3; ++word) EXPECT_EQ(sums[row][word], expected[row][word]);
  }
}

TEST_F(EmulatedTilesTest, PairsAreTwoChainsWhoseSumIsAdded) {
  // One by one neither 1 would move 2^24.
  EXPECT_EQ(AddOne(0x1p24f, {1, 1}, {1, 1}), 0x1p24f + 2);
  // Within a chain, ascending, it is lost; in the other it is not.
  EXPECT_EQ(AddOne(0, {0x1p24f, 0, 1, 0, 0x1p24f, 0}, {1, 0, 1, 0, -1, 0}), 0);
  EXPECT_EQ(AddOne(0, {0x1p24f, 0, 0, 1, 0x1p24f, 0}, {1, 0, 0, 1, -1, 0}), 1);
  // To nearest even.
  EXPECT_EQ(AddOne(0x1p24f + 2, {1, 0}, {1, 0}), 0x1p24f + 4);
  // The chain takes the product before it is rounded, or flushed.
  EXPECT_EQ(AddOne(0, {0x1p-126f, 0, 0x1p-80f, 0}, {1, 0, 0x1p-60f, 0}),
            0x1p-126f * (1 + 0x1p-14f));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(AddOne(0, {-0x1p127f, 0, 0x1p127f, 0}, {1, 0, 2, 0}), 0x1p127f);
  EXPECT_EQ(AddOne(0, {0x1p127f, 0}, {2, 0}), kInfinity);
  EXPECT_TRUE(std::isnan(AddOne(0, {kInfinity, 1}, {0, 1})));
}

TEST_F(EmulatedTilesTest, SubnormalsAreZeroComingAndGoing) {
  constexpr float kSubnormal = 0x1.fcp-127f, kNegative = -0x1p-133f;  // bf16 has both
  EXPECT_EQ(AddOne(3, {kSubnormal, kNegative}, {0x1p127f, 0x1p127f}), 3);
  EXPECT_EQ(AddOne(3, {0x1p127f, 0x1p127f}, {kNegative, kSubnormal}), 3);
  EXPECT_EQ(AddOne(0x1p-127f, {0, 0}, {0, 0}), 0);        // a sum that comes
  EXPECT_EQ(AddOne(0, {0x1p-80f, 0}, {0x1p-60f, 0}), 0);  // a product
  EXPECT_EQ(AddOne(0, {0x1p-126f, 0}, {0.5, 0}), 0);
  // A difference of normal numbers, in the chains' sum and in the last.
  EXPECT_EQ(AddOne(0, {0x1.8p-126f, -0x1p-126f}, {1, 1}), 0);
  EXPECT_EQ(AddOne(0x1.8p-126f, {-0x1p-126f, 0}, {1, 0}), 0);
}

TEST_F(EmulatedTilesTest, ControlOfTheThreadIsNeitherReadNorWritten) {
  const unsigned before = _mm_getcsr();
  for (const unsigned rounding : {_MM_ROUND_DOWN, _MM_ROUND_UP, _MM_ROUND_TOWARD_ZERO}) {
    _mm_setcsr((before & ~unsigned{_MM_ROUND_MASK}) | rounding);
    const unsigned during = _mm_getcsr();
    const float tie = AddOne(0x1p24f, {1, 0}, {1, 0});
    const float flushed = AddOne(0, {0x1p-126f, 0}, {0.5, 0});
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    EXPECT_EQ(tie, 0x1p24f);
    EXPECT_EQ(flushed, 0);
    EXPECT_EQ(after, during);
  }
}

TEST_F(EmulatedTilesTest, AFullTileOfPairsIsTheManualsLoop) {
  std::mt19937 random(29);
  const auto any = [&](int limit) {  // of bf16, with exponents from -limit to limit
    const auto exponent = static_cast<uint32_t>(127 - limit + random() % (2 * limit + 1));
    return static_cast<uint16_t>((random() & 0x807f) | exponent << 7);
  };
  std::vector<uint16_t> a(16 * 32), b(16 * 32);
  std::vector<float> sums(256), expected(256);
  for (uint16_t& half : a) half = any(8);
  for (uint16_t& half : b) half = any(8);
  for (float& sum : sums) sum = std::bit_cast<float>(uint32_t{any(12)} << 16);
  const auto value = [](uint16_t half) { return std::bit_cast<float>(uint32_t{half} << 16); };
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 16; ++n) {
      float chains[2] = {};
      for (int k = 0; k < 16; ++k) {
        for (int i = 0; i < 2; ++i) {
          chains[i] =
              std::fma(value(a[m * 32 + 2 * k + i]), value(b[k * 32 + 2 * n + i]), chains[i]);
        }
      }
      expected[m * 16 + n] = sums[m * 16 + n] + (chains[0] + chains[1]);
    }
  }
  Configure(std::vector<Shape>(8, {16, 64}));
  tile::Load(5, sums.data(), 64);
  tile::Load(7, a.data(), 64);
  tile::Load(2, b.data(), 64);
  tile::AddPairs(5, 7, 2);
  tile::Store(5, sums.data(), 64);
  EXPECT_EQ(sums, expected);
}

TEST_F(EmulatedTilesTest, FoursOfSignedBytesAreAddedAndWrap) {
  Configure({{1, 8}, {1, 8}, {2, 8}});
  constexpr int32_t kLargest = std::numeric_limits<int32_t>::max();
  int32_t sums[2] = {-3, kLargest - 4 * 16384};
  const int8_t a[8] = {1, -2, 3, -4, -128, -128, -128, -128};
  const int8_t b[2][2][4] = {{{5, 6, 7, 8}, {0, 0, 0, 0}},
                             {{127, -128, 1, 0}, {-128, -128, -128, -128}}};
  tile::Load(0, sums, 8);
  tile::Load(1, a, 8);
  tile::Load(2, b, 8);
  tile::AddFours(0, 1, 2);
  tile::Store(0, sums, 8);
  EXPECT_EQ(sums[0], -3 + (5 - 12 + 21 - 32) - 128 * (127 - 128 + 1));
  EXPECT_EQ(sums[1], kLargest);
  tile::AddFours(0, 1, 2);
  tile::Store(0, sums, 8);
  EXPECT_EQ(sums[1], std::numeric_limits<int32_t>::min() + 4 * 16384 - 1);
}

TEST_F(EmulatedTilesTest, AFullTileOfFoursIsTheManualsLoop) {
  std::mt19937 random(31);
  std::vector<int8_t> a(1024), b(1024);
  std::vector<int32_t> sums(256), expected(256);
  for (int8_t& byte : a) byte = static_cast<int8_t>(random());
  for (int8_t& byte : b) byte = static_cast<int8_t>(random());
  for (int32_t& sum : sums) sum = static_cast<int32_t>(random()) / 2;
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 16; ++n) {
      expected[m * 16 + n] = sums[m * 16 + n];
      for (int k = 0; k < 64; ++k) {
        expected[m * 16 + n] += a[m * 64 + k] * b[k / 4 * 64 + n * 4 + k % 4];
      }
    }
  }
  Configure(std::vector<Shape>(8, {16, 64}));
  tile::Load(0, sums.data(), 64);
  tile::Load(6, a.data(), 64);
  tile::Load(3, b.data(), 64);
  tile::AddFours(0, 6, 3);
  tile::Store(0, sums.data(), 64);
  EXPECT_EQ(sums, expected);
}

TEST_F(EmulatedTilesDeathTest, ATileThatIsNotConfiguredIsRefused) {
  uint8_t bytes[1024] = {};
  EXPECT_DEATH(tile::Load(0, bytes, 64), "check failed");
  Configure({{16, 64}, {16, 64}});
  EXPECT_DEATH(tile::Store(2, bytes, 64), "check failed");
  EXPECT_DEATH(tile::Zero(8), "check failed");
  EXPECT_DEATH(tile::AddPairs(0, 1, 2), "check failed");
  tile::Release();
  EXPECT_DEATH(tile::AddFours(0, 1, 2), "check failed");
}

TEST_F(EmulatedTilesDeathTest, OperandsThatDoNotFitAreRefused) {
  // Sums of 5 x 3 from tile 1 of 5 x 4 and tile 2 of 4 x 3.
  Configure({{5, 12}, {5, 16}, {4, 12}, {6, 16}, {3, 12}, {4, 8}, {4, 10}, {5, 10}});
  tile::AddPairs(0, 1, 2);
  EXPECT_DEATH(tile::AddPairs(0, 3, 2), "sum.rows == a.rows");
  EXPECT_DEATH(tile::AddPairs(0, 1, 4), "== b.rows");
  EXPECT_DEATH(tile::AddPairs(0, 1, 5), "sum.row_bytes == b.row_bytes");
  EXPECT_DEATH(tile::AddFours(7, 1, 6), "% kWordBytes");
  EXPECT_DEATH(tile::AddFours(0, 0, 2), "check failed");
  EXPECT_DEATH(tile::AddFours(0, 1, 1), "check failed");
}

TEST_F(EmulatedTilesDeathTest, ConfigurationsThatTheProcessorRefusesAreRefused) {
  TileConfig config = ConfigOf({{16, 64}});
  tile::Configure(config);
  config.palette = 0;  // releases the tiles
  tile::Configure(config);
  EXPECT_DEATH(tile::Zero(0), "check failed");
  config.palette = 2;
  EXPECT_DEATH(tile::Configure(config), "check failed");
  config = ConfigOf({{17, 64}});
  EXPECT_DEATH(tile::Configure(config), "check failed");
  config = ConfigOf({{16, 65}});
  EXPECT_DEATH(tile::Configure(config), "check failed");
  config = ConfigOf({{16, 0}});
  EXPECT_DEATH(tile::Configure(config), "check failed");
  config = ConfigOf({{0, 64}});
  EXPECT_DEATH(tile::Configure(config), "check failed");
  config = ConfigOf(std::vector<Shape>(9, {1, 4}));
  EXPECT_DEATH(tile::Configure(config), "check failed");
  config = ConfigOf({{16, 64}});
  config.reserved[13] = 1;
  EXPECT_DEATH(tile::Configure(config), "check failed");
}

}  // namespace
}  // namespace vernier
