// Encoders and decoders against the published rules and vectors.
#include "kernels/quantize.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/nf4_values.h"
#include "tests/testing/tensor_file.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::vernier::testing::ReadJson;
using ::vernier::testing::TensorFile;
using ::vernier::testing::TestDataPath;

std::vector<float> Normal(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

QuantizedMatrix MustQuantize(const std::vector<float>& values, int64_t rows, int64_t cols,
                             FormatId format) {
  absl::StatusOr<QuantizedMatrix> matrix = Quantize(SourceOf(values, rows, cols), format);
  EXPECT_TRUE(matrix.ok()) << matrix.status();
  return *std::move(matrix);
}

std::vector<float> Decoded(const QuantizedMatrix& matrix) {
  std::vector<float> values(matrix.rows * matrix.cols);
  Dequantize(matrix, 0, matrix.rows, values.data());
  return values;
}

std::vector<uint32_t> Bits(std::span<const float> values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

uint8_t Nf4Code(const QuantizedMatrix& matrix, int64_t i) {
  const uint8_t pair = matrix.codes[i / 2];
  return i % 2 == 0 ? pair >> 4 : pair & 15;
}

TEST(QuantizeTest, Nf4EqualsTheVectorsBitForBit) {
  const TensorFile file(TestDataPath("quant/nf4_vectors_stories260K.safetensors"));
  const std::vector<std::string> names = file.NamesWith(".source_f32");
  ASSERT_EQ(names.size(), 3u);
  for (const std::string& name : names) {
    const std::vector<int64_t> shape = file.Shape(name + ".source_f32");
    const QuantizedMatrix matrix =
        MustQuantize(file.Read<float>(name + ".source_f32"), shape[0], shape[1], FormatId::kNf4);
    EXPECT_EQ(matrix.codes, file.Read<uint8_t>(name + ".nf4_packed")) << name;
    EXPECT_EQ(Bits(matrix.scales), Bits(file.Read<float>(name + ".absmax_f32_block64"))) << name;
    EXPECT_EQ(Bits(Decoded(matrix)), Bits(file.Read<float>(name + ".dequant_f32"))) << name;
  }
}

TEST(QuantizeTest, Nf4ConstantsAreThePublishedOnes) {
  const nlohmann::json reference = ReadJson(TestDataPath("quant/nf4_reference.json"));
  const auto codes = reference.at("code").get<std::vector<float>>();
  EXPECT_EQ(Bits(kNf4Values), Bits(codes));
  // One value just below and one just above each threshold, in a block whose absmax is 1.
  // The thresholds lie halfway between two floats: read their decimals as a compiler reads them,
  // without a double between.
  std::vector<float> thresholds;
  for (const nlohmann::json& threshold : reference.at("encode_thresholds")) {
    thresholds.push_back(std::strtof(threshold.dump().c_str(), nullptr));
  }
  ASSERT_EQ(thresholds.size(), 15u);
  std::vector<float> values(64, 0.0f);
  values[0] = 1.0f;
  for (int i = 0; i < 15; ++i) {
    values[2 + 2 * i] = thresholds[i];
    values[3 + 2 * i] = std::nextafter(thresholds[i], 2.0f);
  }
  const QuantizedMatrix matrix = MustQuantize(values, 1, 64, FormatId::kNf4);
  for (int i = 0; i < 15; ++i) {
    EXPECT_EQ(Nf4Code(matrix, 2 + 2 * i), i) << "at threshold " << i;
    EXPECT_EQ(Nf4Code(matrix, 3 + 2 * i), i + 1) << "above threshold " << i;
  }
}

TEST(QuantizeTest, Nf4ErrorOnNormalValuesIsThePublishedOne) {
  const nlohmann::json expected = ReadJson(TestDataPath("quant/nf4_reference.json"))
                                      .at("expected_error_on_standard_normal_1024x1024")
                                      .at("64");
  const std::vector<float> values = Normal(1024 * 1024, 3);
  const std::vector<float> decoded = Decoded(MustQuantize(values, 1024, 1024, FormatId::kNf4));
  double absolute = 0;
  double relative = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = std::fabs(values[i] - decoded[i]);
    absolute += error;
    relative += error / (std::fabs(values[i]) + 1e-8);
  }
  const auto count = static_cast<double>(values.size());
  // Five standard deviations of the mean, as published.
  EXPECT_NEAR(absolute / count, expected.at("mean_abs_err"),
              5 * expected.at("mean_abs_err_std").get<double>());
  EXPECT_NEAR(relative / count, expected.at("mean_rel_err"),
              5 * expected.at("mean_rel_err_std").get<double>());
}

TEST(QuantizeTest, Nf4TakesTheNearestCodeOfEveryBlockAlsoAcrossRowsAndChunks) {
  // 171 columns: blocks straddle rows, and the 2 MB of values take several reads.
  constexpr int64_t kRows = 3001, kCols = 171;
  const std::vector<float> values = Normal(kRows * kCols, 5);
  const QuantizedMatrix matrix = MustQuantize(values, kRows, kCols, FormatId::kNf4);
  ASSERT_EQ(matrix.scales.size(), static_cast<size_t>((kRows * kCols + 63) / 64));
  for (int64_t block = 0; block < static_cast<int64_t>(matrix.scales.size()); ++block) {
    const int64_t end = std::min<int64_t>((block + 1) * 64, kRows * kCols);
    float absmax = 0;
    for (int64_t i = block * 64; i < end; ++i) absmax = std::max(absmax, std::fabs(values[i]));
    ASSERT_EQ(matrix.scales[block], absmax) << block;
    for (int64_t i = block * 64; i < end; ++i) {
      const float chosen = kNf4Values[Nf4Code(matrix, i)] * absmax;
      for (const float other : kNf4Values) {
        ASSERT_LE(std::fabs(values[i] - chosen),
                  std::fabs(values[i] - other * absmax) + 1e-6f * absmax)
            << i;
      }
    }
  }
}

TEST(QuantizeTest, Nf4PadsAnOddLastByteWithTheCodeOfZero) {
  const QuantizedMatrix matrix = MustQuantize({1.0f, -1.0f, 0.5f}, 1, 3, FormatId::kNf4);
  EXPECT_EQ(matrix.codes, (std::vector<uint8_t>{0xf0, 0xc7}));
}

TEST(QuantizeTest, AllZeroBlocksDecodeToZero) {
  const std::vector<float> zeros(3 * 100, 0.0f);
  for (const QuantFormat& format : QuantFormats()) {
    EXPECT_THAT(Decoded(MustQuantize(zeros, 3, 100, format.id)), Each(0.0f)) << format.name;
  }
}

TEST(QuantizeTest, DynamicMapHasThePublishedValues) {
  const std::span<const float, 256> map = DynamicMap();
  EXPECT_TRUE(std::is_sorted(map.begin(), map.end()));
  EXPECT_EQ(map[0], -0.992968738079071f);
  EXPECT_EQ(map[1], -0.9789062738418579f);
  EXPECT_EQ(map[20], -0.7117187976837158f);
  EXPECT_EQ(map[64], -0.09859374910593033f);
  EXPECT_EQ(map[126], -5.500000384017767e-07f);
  EXPECT_EQ(map[127], 0.0f);
  EXPECT_EQ(map[191], 0.10703125596046448f);
  EXPECT_EQ(map[254], 0.992968738079071f);
  EXPECT_EQ(map[255], 1.0f);
  for (int i = 1; i <= 127; ++i) EXPECT_EQ(map[127 - i], -map[127 + i]) << i;
}

TEST(QuantizeTest, Nf4DqNestsTheAbsmaxOfNf4) {
  constexpr int64_t kRows = 150, kCols = 200;  // 469 blocks: two nested ones, the second short
  std::vector<float> values = Normal(kRows * kCols, 11);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= 1.0f + static_cast<float>(i % 7);
  const QuantizedMatrix plain = MustQuantize(values, kRows, kCols, FormatId::kNf4);
  const QuantizedMatrix nested = MustQuantize(values, kRows, kCols, FormatId::kNf4Dq);
  EXPECT_EQ(nested.codes, plain.codes);
  EXPECT_TRUE(nested.scales.empty());
  ASSERT_EQ(nested.nested_codes.size(), plain.scales.size());
  ASSERT_EQ(nested.nested_scales.size(), 2u);

  double sum = 0;
  for (const float absmax : plain.scales) sum += absmax;
  EXPECT_EQ(nested.nested_offset, static_cast<float>(sum / plain.scales.size()));
  for (size_t group = 0; group < 2; ++group) {
    const size_t end = std::min((group + 1) * 256, plain.scales.size());
    float largest = 0;
    for (size_t i = group * 256; i < end; ++i) {
      largest = std::max(largest, std::fabs(plain.scales[i] - nested.nested_offset));
    }
    EXPECT_EQ(nested.nested_scales[group], largest);
    for (size_t i = group * 256; i < end; ++i) {
      const float x = (plain.scales[i] - nested.nested_offset) * (1.0f / largest);
      const float chosen = std::fabs(DynamicMap()[nested.nested_codes[i]] - x);
      for (const float other : DynamicMap()) ASSERT_LE(chosen, std::fabs(other - x)) << i;
    }
  }
  const std::vector<float> decoded = Decoded(nested);
  for (size_t i = 0; i < decoded.size(); ++i) {
    const size_t block = i / 64;
    const float absmax =
        DynamicMap()[nested.nested_codes[block]] * nested.nested_scales[block / 256] +
        nested.nested_offset;
    ASSERT_EQ(decoded[i], kNf4Values[Nf4Code(nested, static_cast<int64_t>(i))] * absmax) << i;
  }
}

TEST(QuantizeTest, Int8RoundsEachRowByItsOwnScale) {
  const std::vector<float> values = Normal(60 * 301, 13);
  const QuantizedMatrix matrix = MustQuantize(values, 60, 301, FormatId::kInt8);
  ASSERT_EQ(matrix.scales.size(), 60u);
  const std::vector<float> decoded = Decoded(matrix);
  for (int row = 0; row < 60; ++row) {
    float absmax = 0;
    for (int i = 0; i < 301; ++i) absmax = std::max(absmax, std::fabs(values[row * 301 + i]));
    EXPECT_EQ(matrix.scales[row], absmax / 127);
    int largest = 0;
    for (int i = 0; i < 301; ++i) {
      const auto code = static_cast<int8_t>(matrix.codes[row * 301 + i]);
      largest = std::max(largest, std::abs(code));
      // Half a step, and the rounding of scale and product.
      ASSERT_NEAR(decoded[row * 301 + i], values[row * 301 + i],
                  matrix.scales[row] * 0.5 + absmax * 4 * FLT_EPSILON);
      ASSERT_EQ(decoded[row * 301 + i], static_cast<float>(code) * matrix.scales[row]);
    }
    EXPECT_EQ(largest, 127);
  }
}

TEST(QuantizeTest, Int8TiesGoToEvenAndExtremesStayFinite) {
  // absmax 127: a code is the value itself, rounded.
  const QuantizedMatrix ties =
      MustQuantize({127.0f, 0.5f, 1.5f, -2.5f, -127.0f}, 1, 5, FormatId::kInt8);
  EXPECT_EQ(ties.codes, (std::vector<uint8_t>{127, 0, 2, 0xfe, 0x81}));
  const std::vector<float> extremes = {FLT_MAX, -FLT_MAX / 2, FLT_MIN, 1e-45f, -1e-45f, 0.0f};
  const QuantizedMatrix matrix = MustQuantize(extremes, 2, 3, FormatId::kInt8);
  for (const float value : Decoded(matrix)) EXPECT_TRUE(std::isfinite(value));
  EXPECT_EQ(static_cast<int8_t>(matrix.codes[1]), -64);
}

TEST(QuantizeTest, SixteenBitFormatsRoundOnce) {
  const std::vector<float> values = Normal(31 * 17, 17);
  const std::vector<float> half = Decoded(MustQuantize(values, 31, 17, FormatId::kF16));
  const std::vector<float> brain = Decoded(MustQuantize(values, 31, 17, FormatId::kBF16));
  EXPECT_EQ(Decoded(MustQuantize(values, 31, 17, FormatId::kF32)), values);
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(half[i], F32FromF16(F16FromF32(values[i])));
    EXPECT_EQ(brain[i], F32FromBF16(BF16FromF32(values[i])));
  }
}

TEST(QuantizeTest, PartsDecodeAsTheWhole) {
  const std::vector<float> values = Normal(29 * 37, 19);
  for (const QuantFormat& format : QuantFormats()) {
    const QuantizedMatrix matrix = MustQuantize(values, 29, 37, format.id);
    const std::vector<float> whole = Decoded(matrix);
    for (int64_t first = 0; first < 29; ++first) {
      const int64_t count = std::min<int64_t>(1 + first % 4, 29 - first);
      std::vector<float> part(count * 37);
      Dequantize(matrix, first, count, part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + first * 37))
          << format.name << " row " << first;
    }
  }
}

TEST(QuantizeTest, ReadsEveryRowOnceInSmallChunks) {
  constexpr int64_t kRows = 5000, kCols = 300;
  for (const QuantFormat& format : QuantFormats()) {
    int64_t next = 0;
    int64_t largest = 0;
    const WeightSource source = {.name = "layers.0.mlp.up",
                                 .rows = kRows,
                                 .cols = kCols,
                                 .read = [&](int64_t first, int64_t count, float* out) {
                                   EXPECT_EQ(first, next);
                                   next = first + count;
                                   largest = std::max(largest, count * kCols);
                                   std::fill_n(out, count * kCols, 0.25f);
                                   return absl::OkStatus();
                                 }};
    ASSERT_TRUE(Quantize(source, format.id).ok());
    EXPECT_EQ(next, kRows);
    EXPECT_LE(largest, 256 * 1024) << format.name;
  }
}

TEST(QuantizeTest, ValuesThatAreNotFiniteAreRefusedWithTheirPlace) {
  constexpr float kBad[] = {std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()};
  for (const QuantFormat& format : QuantFormats()) {
    for (const float bad : kBad) {
      std::vector<float> values(40000 * 9, 1.0f);
      values[35001 * 9 + 4] = bad;
      WeightSource source = SourceOf(values, 40000, 9);
      source.name = "layers.3.mlp.down";
      const absl::Status status = Quantize(source, format.id).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()), HasSubstr("layers.3.mlp.down"));
      EXPECT_THAT(std::string(status.message()), HasSubstr("row 35001, column 4"));
    }
  }
}

TEST(QuantizeTest, ValuesBeyondHalfAreRefusedForHalfAlone) {
  const std::vector<float> values = {1.0f, -70000.0f};
  const absl::Status status = Quantize(SourceOf(values, 1, 2), FormatId::kF16).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("too large for fp16"));
  EXPECT_TRUE(Quantize(SourceOf(values, 1, 2), FormatId::kBF16).ok());
  EXPECT_TRUE(Quantize(SourceOf(values, 1, 2), FormatId::kNf4).ok());
}

TEST(QuantizeTest, TheSourcesErrorIsTheResult) {
  const WeightSource source = {
      .name = "embed", .rows = 4, .cols = 4, .read = [](int64_t, int64_t, float*) {
        return absl::DataLossError("short read");
      }};
  EXPECT_EQ(Quantize(source, FormatId::kNf4).status(), absl::DataLossError("short read"));
}

TEST(QuantizeTest, ImpossibleShapesAreRefused) {
  WeightSource source = {.name = "embed",
                         .read = [](int64_t, int64_t, float*) { return absl::OkStatus(); }};
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  const std::pair<int64_t, int64_t> shapes[] = {{0, 4}, {4, 0}, {-1, 4}, {kHuge, 2}, {2, kHuge}};
  for (const auto& [rows, cols] : shapes) {
    source.rows = rows;
    source.cols = cols;
    EXPECT_EQ(Quantize(source, FormatId::kF16).status().code(), absl::StatusCode::kInvalidArgument)
        << rows << " x " << cols;
  }
}

}  // namespace
}  // namespace vernier
