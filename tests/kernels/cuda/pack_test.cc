#include "kernels/cuda/pack.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace vernier::cuda {
namespace {

constexpr uint32_t kSeed = 20;

QuantizedMatrix RandomMatrix(FormatId format, int64_t rows, int64_t cols) {
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> values(rows * cols);
  for (float& value : values) value = normal(random);
  return Quantize(SourceOf(values, rows, cols), format).value();
}

struct Shape {
  int64_t rows;
  int64_t cols;
};

TEST(PackTest, UnpackGivesEveryCodeAndScaleBack) {
  for (const FormatId format : {FormatId::kNf4, FormatId::kInt8}) {
    for (const Shape shape : {Shape{64, 64}, Shape{128, 192}, Shape{1, 64}, Shape{63, 576},
                              Shape{65, 128}, Shape{200, 960}}) {
      SCOPED_TRACE(testing::Message()
                   << FormatOf(format).name << " " << shape.rows << "x" << shape.cols);
      const QuantizedMatrix matrix = RandomMatrix(format, shape.rows, shape.cols);
      const HostPackedWeight packed = Pack(matrix).value();
      EXPECT_EQ(packed.records.size(), PackedBytes(packed.encoding, shape.rows, shape.cols));
      const QuantizedMatrix again = Unpack(packed);
      EXPECT_EQ(again.format, matrix.format);
      EXPECT_EQ(again.codes, matrix.codes);
      ASSERT_EQ(again.scales.size(), matrix.scales.size());
      EXPECT_EQ(std::memcmp(again.scales.data(), matrix.scales.data(), matrix.scales.size() * 4),
                0);
    }
  }
}

Int4Matrix RandomInt4(int64_t rows, int64_t cols, int64_t group) {
  std::mt19937 random(kSeed);
  Int4Matrix out{rows, cols, group, {}, {}};
  for (int64_t i = 0; i < rows * cols / 2; ++i) {
    out.codes.push_back(static_cast<uint8_t>(random() % 256));
  }
  std::uniform_real_distribution<float> scale(0.001f, 0.01f);
  for (int64_t i = 0; i < rows * cols / group; ++i) out.scales.push_back(scale(random));
  return out;
}

TEST(PackTest, UnpackGivesEveryInt4CodeAndScaleBack) {
  for (const int64_t group : {64, 128, 192}) {
    for (const int64_t rows : {1, 63, 64, 200}) {
      SCOPED_TRACE(testing::Message() << rows << " rows, groups of " << group);
      const Int4Matrix matrix = RandomInt4(rows, 384, group);
      const HostPackedWeight packed = PackInt4(matrix).value();
      EXPECT_EQ(packed.records.size(), PackedBytes(PackedEncoding::kInt4, rows, 384));
      const Int4Matrix again = UnpackInt4(packed, group);
      EXPECT_EQ(again.codes, matrix.codes);
      EXPECT_EQ(again.scales, matrix.scales);
    }
  }
}

// Rows past the matrix are worth nothing whatever x is.
TEST(PackTest, Int4IsPaddedWithZeros) {
  const HostPackedWeight packed = PackInt4(RandomInt4(1, 64, 64)).value();
  const uint8_t* second = packed.records.data() + kFourBitRecordBytes;
  for (int i = 0; i < kFourBitCodeBytes; ++i) EXPECT_EQ(second[i], 0x88);
  for (int i = kFourBitCodeBytes; i < kFourBitRecordBytes; ++i) EXPECT_EQ(second[i], 0);
}

TEST(PackTest, Int4RefusesWhatNoRecordHolds) {
  const auto refusal = [](const Int4Matrix& matrix) {
    const absl::StatusOr<HostPackedWeight> packed = PackInt4(matrix);
    EXPECT_EQ(packed.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(packed.status().message());
  };
  EXPECT_NE(refusal(RandomInt4(4, 64, 32)).find("has groups of 32"), std::string::npos);
  EXPECT_NE(refusal(RandomInt4(4, 192, 128)).find("[4, 192] has groups of 128"), std::string::npos);
  Int4Matrix matrix = RandomInt4(4, 128, 64);
  matrix.group = 0;
  EXPECT_NE(refusal(matrix).find("has groups of 0"), std::string::npos);
  matrix.group = 128;
  EXPECT_NE(refusal(matrix).find("256 bytes of codes and 4 scales, this one 256 and 8"),
            std::string::npos);
}

TEST(PackTest, Int8TakesColumnsThatFillNoRecord) {
  const QuantizedMatrix matrix = RandomMatrix(FormatId::kInt8, 10, 50);
  const HostPackedWeight packed = Pack(matrix).value();
  EXPECT_EQ(packed.records.size(), size_t{2 * kInt8RecordBytes});
  EXPECT_EQ(Unpack(packed).codes, matrix.codes);
  // Weights past the matrix are zero, so that no x makes them count.
  EXPECT_EQ(packed.records.back(), kInt8Bias);
}

TEST(PackTest, Nf4RefusesBlocksThatStraddleRows) {
  const absl::StatusOr<HostPackedWeight> packed = Pack(RandomMatrix(FormatId::kNf4, 4, 96));
  EXPECT_EQ(packed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(packed.status().message().find("96"), absl::string_view::npos);
}

TEST(PackTest, FormatsWithoutPackedLayoutAreRefused) {
  EXPECT_EQ(Pack(RandomMatrix(FormatId::kF16, 4, 64)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16": register r of lane 4g + t holds row
// g + 8 * (r % 2), columns 2t + 8 * (r / 2) and the next.
RecordPosition OperandPosition(int lane, int a_register) {
  return {lane / 4 + 8 * (a_register % 2), lane % 4 * 2 + 8 * (a_register / 2)};
}

TEST(PackTest, Nf4BytesAreTheRegistersOfTheirLane) {
  int byte = 0;
  for (int tile = 0; tile < kTilesPerRecord; ++tile) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int step = 0; step < 4; ++step) {
        for (int a_register = 0; a_register < 4; ++a_register, ++byte) {
          const RecordPosition operand = OperandPosition(lane, a_register);
          EXPECT_EQ(FourBitPairAt(byte).row, tile * 16 + operand.row) << byte;
          EXPECT_EQ(FourBitPairAt(byte).col, step * 16 + operand.col) << byte;
        }
      }
    }
  }
  EXPECT_EQ(byte, kFourBitCodeBytes);
}

TEST(PackTest, Int8BytesAreTheRegistersOfTheirLane) {
  int byte = 0;
  for (int tile = 0; tile < kTilesPerRecord; ++tile) {
    for (int half = 0; half < 2; ++half) {
      for (int lane = 0; lane < 32; ++lane) {
        for (int step = half * 2; step < half * 2 + 2; ++step) {
          for (int value = 0; value < 8; ++value, ++byte) {
            const RecordPosition operand = OperandPosition(lane, value / 2);
            EXPECT_EQ(Int8At(byte).row, tile * 16 + operand.row) << byte;
            EXPECT_EQ(Int8At(byte).col, step * 16 + operand.col + value % 2) << byte;
          }
        }
      }
    }
  }
  EXPECT_EQ(byte, kInt8RecordBytes);
}

// PTX ISA, "Matrix Fragments for mma.m16n8k32" (and wgmma m64nNk32) of 8-bit numbers: byte i of
// register r of lane 4g + t holds row g + 8 * (r % 2), column 4t + 16 * (r / 2) + i; int8 x lies so
// that this column of it is the one of that byte.
TEST(PackTest, Int8BytesAreTheOperandOfInt8XToo) {
  for (int tile = 0; tile < kTilesPerRecord; ++tile) {
    for (int half = 0; half < 2; ++half) {
      for (int lane = 0; lane < 32; ++lane) {
        for (int a_register = 0; a_register < 4; ++a_register) {
          for (int i = 0; i < 4; ++i) {
            const int byte =
                tile * kInt8TileBytes + half * 512 + lane * 16 + Int8ByteOfRegister(a_register, i);
            const RecordPosition at = Int8At(byte);
            EXPECT_EQ(at.row, tile * 16 + lane / 4 + 8 * (a_register % 2));
            EXPECT_EQ(Int8XPosition(at.col), half * 32 + lane % 4 * 4 + a_register / 2 * 16 + i);
          }
        }
      }
    }
  }
}

TEST(PackTest, Int8XKeepsEveryColumnInItsSixteen) {
  std::set<int64_t> positions;
  for (int64_t col = 0; col < 256; ++col) {
    EXPECT_EQ(Int8XPosition(col) / 16, col / 16);
    positions.insert(Int8XPosition(col));
  }
  EXPECT_EQ(positions.size(), size_t{256});
}

TEST(PackTest, EveryRowHasOneScaleInARecord) {
  std::set<int> rows;
  for (int i = 0; i < kRecordRows; ++i) rows.insert(FourBitScaleRowAt(i));
  EXPECT_EQ(rows.size(), size_t{kRecordRows});
  // Lane 4g + t holds row g + 8 (t mod 2) of tile t div 2.
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(FourBitScaleRowAt(lane), lane % 4 / 2 * 16 + lane / 4 + lane % 2 * 8);
  }
}

}  // namespace
}  // namespace vernier::cuda
