// Packed weights against Dequantize: decoded values to the bit, products against double, and one
// result for every number of rows.
#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/panel_layouts.h"
#include "kernels/quantize.h"
#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/cpu/supported_isas.h"
#include "tests/kernels/layer_values.h"

namespace vernier {
namespace {

constexpr FormatId kFormats[] = {FormatId::kF32,  FormatId::kF16, FormatId::kBF16,
                                 FormatId::kInt8, FormatId::kNf4, FormatId::kNf4Dq};

// Values in (-1, 1), the same for a seed.
std::vector<float> Values(int64_t count, uint32_t seed) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
  }
  return values;
}

struct Shape {
  int64_t rows, cols;
};
// Partial panels, chunks and NF4 blocks; rows whose NF4 blocks straddle; more than one chunk of 64.
constexpr Shape kShapes[] = {{1, 1},   {3, 5},    {8, 16},  {9, 64},  {7, 63},   {16, 65},
                             {40, 96}, {65, 128}, {70, 48}, {5, 576}, {130, 100}};

const testing::Precision& PrecisionOf(const KernelTable& kernels) {
  static constexpr testing::Precision kExact;
  if (kernels.tiles != nullptr) return testing::kAmxPrecision;
  return kernels.digits != nullptr ? testing::kDigitPrecision : kExact;
}

constexpr Activations kActivations[] = {Activations::kFull, Activations::kInt8, Activations::kBF16};

// The sum of w[k] x[k] in double, and of its terms' magnitudes.
struct ExactProduct {
  double sum = 0, magnitude = 0;
};
ExactProduct ProductOf(const float* w, const float* x, int64_t cols) {
  ExactProduct product;
  for (int64_t k = 0; k < cols; ++k) {
    const double term = static_cast<double>(w[k]) * x[k];
    product.sum += term;
    product.magnitude += std::fabs(term);
  }
  return product;
}

std::vector<float> RoundedToBF16(std::vector<float> values) {
  for (float& value : values) value = F32FromBF16(BF16FromF32(value));
  return values;
}

class PackedWeightTest : public ::testing::TestWithParam<IsaKernels> {
 protected:
  ThreadPool pool_{2};

  Weight Pack(const std::vector<float>& values, const Shape& shape, FormatId format) {
    const WeightSource source = SourceOf(values, shape.rows, shape.cols);
    absl::StatusOr<std::vector<Weight>> weights =
        PackWeights(source, {{format}}, *GetParam().table, &pool_, {});
    EXPECT_TRUE(weights.ok()) << weights.status();
    return (*weights)[0];
  }

  // y [rows, weight rows] = x W^T by Project.
  std::vector<float> Multiply(const PackedWeight& weight, std::vector<float> x, int64_t rows,
                              Activations activations = Activations::kFull) {
    const int64_t stride = PaddedCols(weight.cols);
    std::vector<float> padded(rows * stride, 0.0f);
    for (int64_t m = 0; m < rows; ++m) {
      std::copy_n(x.data() + m * weight.cols, weight.cols, padded.data() + m * stride);
    }
    const KernelTable& kernels = *GetParam().table;
    const int64_t scratch_floats = LinearScratchFloats(weight.cols, rows);
    std::vector<float> scratch(pool_.threads() * scratch_floats);
    std::vector<float> tiles(LinearTileRows(kernels, rows) * stride);
    const int64_t digit_floats = DigitFloats(weight.cols);
    std::vector<float> digits(LinearDigitRows(kernels, rows) * digit_floats);
    const LinearRuntime runtime{&kernels,
                                &pool_,
                                {scratch.data(), scratch_floats},
                                {tiles.data(), stride},
                                {digits.data(), digit_floats},
                                activations};
    std::vector<float> y(rows * weight.rows, -7.0f);
    const Projection projection{.weight = &weight, .out = {y.data(), weight.rows}};
    Project(runtime, {padded.data(), stride}, rows, {&projection, 1});
    return y;
  }
};

TEST_P(PackedWeightTest, RowsDecodeToTheFormatsValues) {
  for (const Shape& shape : kShapes) {
    const std::vector<float> values = Values(shape.rows * shape.cols, 7);
    for (const FormatId format : kFormats) {
      const Weight weight = Pack(values, shape, format);
      const PackedWeight& packed = *static_cast<const PackedWeight*>(weight.packed.get());
      const QuantizedMatrix matrix = *Quantize(SourceOf(values, shape.rows, shape.cols), format);
      std::vector<float> expected(shape.rows * shape.cols), row(shape.cols);
      Dequantize(matrix, 0, shape.rows, expected.data());
      for (int64_t r = 0; r < shape.rows; ++r) {
        ReadRow(packed, r, row.data());
        for (int64_t k = 0; k < shape.cols; ++k) {
          ASSERT_EQ(row[k], expected[r * shape.cols + k])
              << FormatOf(format).name << " [" << shape.rows << ", " << shape.cols << "] at " << r
              << ", " << k;
        }
      }
    }
  }
}

TEST_P(PackedWeightTest, ProductsMatchDoubleAndDoNotDependOnTheRowsBeside) {
  constexpr int64_t kRows = 7;
  for (const Shape& shape : kShapes) {
    const std::vector<float> values = Values(shape.rows * shape.cols, 11);
    const std::vector<float> x = Values(kRows * shape.cols, 13);
    for (const FormatId format : kFormats) {
      const Weight weight = Pack(values, shape, format);
      const PackedWeight& packed = *static_cast<const PackedWeight*>(weight.packed.get());
      testing::MatrixValues matrix{.rows = shape.rows, .cols = shape.cols};
      matrix.decoded.resize(shape.rows * shape.cols);
      Dequantize(*Quantize(SourceOf(values, shape.rows, shape.cols), format), 0, shape.rows,
                 matrix.decoded.data());
      const testing::Precision& precision = PrecisionOf(*GetParam().table);
      if (precision.digit > 0 && testing::Precision::IsNf4(format)) {
        matrix = testing::Nf4AsWholeNumbers(std::move(matrix));
      }
      const std::vector<float>& w = matrix.decoded;
      const bool digits = precision.MultipliesDigits(format, shape.cols);
      const std::vector<float> all = Multiply(packed, x, kRows);
      for (int64_t m = 0; m < kRows; ++m) {
        for (int64_t r = 0; r < shape.rows; ++r) {
          const auto [sum, magnitude] =
              ProductOf(&w[r * shape.cols], &x[m * shape.cols], shape.cols);
          double weights = 0, largest = 0;
          for (int64_t k = 0; k < shape.cols; ++k) {
            weights += std::fabs(w[r * shape.cols + k]);
            largest = std::max<double>(largest, std::fabs(x[m * shape.cols + k]));
          }
          // A rounding a step of the sum, and a few for products and scales.
          const double tolerance =
              ((shape.cols + 6.0) * 0x1p-24 + precision.ProductError(format, shape.cols)) *
                  magnitude +
              (digits ? precision.digit * largest * weights : 0) + 1e-30;
          ASSERT_NEAR(all[m * shape.rows + r], sum, tolerance)
              << FormatOf(format).name << " [" << shape.rows << ", " << shape.cols << "] at " << m
              << ", " << r;
        }
      }
      for (int64_t rows = 1; rows < kRows; ++rows) {
        for (int64_t first = 0; first + rows <= kRows; ++first) {
          const std::vector<float> part = Multiply(
              packed, {x.begin() + first * shape.cols, x.begin() + (first + rows) * shape.cols},
              rows);
          for (size_t i = 0; i < part.size(); ++i) {
            ASSERT_EQ(part[i], all[first * shape.rows + i])
                << FormatOf(format).name << " " << rows << " rows from " << first;
          }
        }
      }
    }
  }
}

// With others the same rows are taken in full, to the same bits.
TEST_P(PackedWeightTest, Int8ActivationsMultiplyARowOfWholeNumbersWithInt8AndNf4Weights) {
  constexpr int64_t kRows = 21;
  for (const Shape& shape : kShapes) {
    const std::vector<float> values = Values(shape.rows * shape.cols, 31);
    const std::vector<float> x = Values(kRows * shape.cols, 37);
    std::vector<float> rounded(x.size());
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t first = 0; first < shape.cols; first += 64) {
        const auto begin = x.begin() + m * shape.cols + first;
        const auto end = begin + std::min<int64_t>(64, shape.cols - first);
        float largest = 0;
        std::for_each(begin, end, [&](float v) { largest = std::max(largest, std::fabs(v)); });
        std::transform(begin, end, rounded.begin() + (begin - x.begin()), [&](float v) {
          return std::nearbyint(v * (127 / largest)) * (largest / 127);
        });
      }
    }
    for (const FormatId format : kFormats) {
      const Weight weight = Pack(values, shape, format);
      const PackedWeight& packed = *static_cast<const PackedWeight*>(weight.packed.get());
      const std::vector<float> actual = Multiply(packed, x, kRows, Activations::kInt8);
      const testing::Precision& precision = PrecisionOf(*GetParam().table);
      if (!precision.MultipliesDigits(format, shape.cols)) {
        ASSERT_EQ(actual, Multiply(packed, x, kRows)) << FormatOf(format).name;
        continue;
      }
      testing::MatrixValues matrix{.rows = shape.rows, .cols = shape.cols};
      matrix.decoded.resize(shape.rows * shape.cols);
      Dequantize(*Quantize(SourceOf(values, shape.rows, shape.cols), format), 0, shape.rows,
                 matrix.decoded.data());
      if (testing::Precision::IsNf4(format)) matrix = testing::Nf4AsWholeNumbers(std::move(matrix));
      for (int64_t m = 0; m < kRows; ++m) {
        for (int64_t r = 0; r < shape.rows; ++r) {
          const auto [sum, magnitude] =
              ProductOf(&matrix.decoded[r * shape.cols], &rounded[m * shape.cols], shape.cols);
          // Whole numbers are exact; scales, absmax and the sum of blocks round.
          ASSERT_NEAR(actual[m * shape.rows + r], sum,
                      (static_cast<double>(shape.cols) / 64 + 8) * 0x1p-24 * magnitude + 1e-30)
              << FormatOf(format).name << " [" << shape.rows << ", " << shape.cols << "] at " << m
              << ", " << r;
        }
      }
    }
  }
}

// With others the same rows are taken in full, to the same bits.
TEST_P(PackedWeightTest, Bf16ActivationsMultiplyRowsRoundedToBf16WithBf16Weights) {
  constexpr int64_t kRows = 21;
  for (const Shape& shape : kShapes) {
    const std::vector<float> values = Values(shape.rows * shape.cols, 31);
    const std::vector<float> x = Values(kRows * shape.cols, 37);
    const std::vector<float> w = RoundedToBF16(values), rounded = RoundedToBF16(x);
    for (const FormatId format : kFormats) {
      const Weight weight = Pack(values, shape, format);
      const PackedWeight& packed = *static_cast<const PackedWeight*>(weight.packed.get());
      const std::vector<float> actual = Multiply(packed, x, kRows, Activations::kBF16);
      if (format != FormatId::kBF16) {
        ASSERT_EQ(actual, Multiply(packed, x, kRows)) << FormatOf(format).name;
        continue;
      }
      for (int64_t i = 0; i < kRows * shape.rows; ++i) {
        const auto [sum, magnitude] = ProductOf(&w[i % shape.rows * shape.cols],
                                                &rounded[i / shape.rows * shape.cols], shape.cols);
        // Products are exact in fp32; a rounding a step of the sum.
        ASSERT_NEAR(actual[i], sum, (shape.cols + 6.0) * 0x1p-24 * magnitude + 1e-30)
            << "[" << shape.rows << ", " << shape.cols << "] at " << i / shape.rows << ", "
            << i % shape.rows;
      }
    }
  }
}

// More rows than vectors take, than a group of digits, than two tiles and than a run, and a few
// more than passes of x; more columns than are decoded at once, and than whole sums fit 32 bits.
TEST_P(PackedWeightTest, ManyRowsAndLongRowsHaveTheBitsOfOne) {
  const struct {
    Shape shape;
    int64_t rows;
    std::vector<FormatId> formats;
  } cases[] = {{{50, 1216}, 37, {std::begin(kFormats), std::end(kFormats)}},
               {{33, 64}, 514, {std::begin(kFormats), std::end(kFormats)}},
               {{17, 2 * kDigitBlock + 192}, 19, {FormatId::kInt8, FormatId::kNf4}}};
  for (const auto& [shape, rows, formats] : cases) {
    const std::vector<float> values = Values(shape.rows * shape.cols, 23);
    const std::vector<float> x = Values(rows * shape.cols, 29);
    for (const FormatId format : formats) {
      const Weight weight = Pack(values, shape, format);
      const PackedWeight& packed = *static_cast<const PackedWeight*>(weight.packed.get());
      for (const Activations activations : kActivations) {
        const std::vector<float> all = Multiply(packed, x, rows, activations);
        for (int64_t first = 0, count = 1; first < rows; first += count, count = count % 5 + 1) {
          count = std::min(count, rows - first);
          const std::vector<float> part = Multiply(
              packed, {x.begin() + first * shape.cols, x.begin() + (first + count) * shape.cols},
              count, activations);
          ASSERT_EQ(0, std::memcmp(part.data(), all.data() + first * shape.rows,
                                   part.size() * sizeof(float)))
              << FormatOf(format).name << " [" << shape.rows << ", " << shape.cols << "], " << count
              << " rows from " << first;
        }
      }
    }
  }
}

// The largest sums that whole numbers have to hold.
TEST_P(PackedWeightTest, EqualValuesAtTheLimitDoNotOverflow) {
  constexpr Shape kShape = {16, kDigitBlock + 64};
  for (const FormatId format : {FormatId::kInt8, FormatId::kNf4}) {
    for (const float sign : {1.0f, -1.0f}) {
      const Weight weight =
          Pack(std::vector<float>(kShape.rows * kShape.cols, sign), kShape, format);
      const PackedWeight& packed = *static_cast<const PackedWeight*>(weight.packed.get());
      for (const int64_t rows : {1, 5, 11}) {
        for (const Activations activations : kActivations) {
          const std::vector<float> y =
              Multiply(packed, std::vector<float>(rows * kShape.cols, 1.0f), rows, activations);
          for (const float sum : y) {
            ASSERT_NEAR(sum, sign * kShape.cols, kShape.cols * 2e-3) << FormatOf(format).name;
          }
        }
      }
    }
  }
}

// Or a NaN in the cache would be read as nothing.
TEST_P(PackedWeightTest, ANanStaysOneWhateverItsPayload) {
  const Shape shape = {40, 96};
  for (const FormatId format : kFormats) {
    const Weight weight = Pack(Values(shape.rows * shape.cols, 3), shape, format);
    for (const uint32_t bits : {0x7fc00000u, 0x7fff8000u, 0x7fffffffu, 0xffffe000u, 0xffffffffu}) {
      for (const int64_t rows : {1, 20}) {
        std::vector<float> x = Values(rows * shape.cols, 5);
        x[(rows - 1) * shape.cols + 37] = std::bit_cast<float>(bits);
        for (const Activations activations : kActivations) {
          const std::vector<float> y = Multiply(
              *static_cast<const PackedWeight*>(weight.packed.get()), x, rows, activations);
          for (int64_t i = 0; i < rows * shape.rows; ++i) {
            ASSERT_EQ(std::isnan(y[i]), i / shape.rows == rows - 1)
                << FormatOf(format).name << ", " << rows << " rows, " << std::hex << bits;
          }
        }
      }
    }
  }
}

// Cancellation, products and inputs below the smallest normal number, and sums near the largest.
TEST_P(PackedWeightTest, HardValuesHaveTheSameBitsAloneAndAmongOthers) {
  constexpr int64_t kRows = 19;
  constexpr Shape kShape = {33, 160};
  for (const int exponent : {-140, -70, -30, 0, 30}) {
    std::vector<float> values = Values(kShape.rows * kShape.cols, 17);
    std::vector<float> x = Values(kRows * kShape.cols, 19);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = std::ldexp(values[i], exponent / 2 - static_cast<int>(i % 5) * 3);
    }
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] =
          std::ldexp(i % 2 == 0 || i == 0 ? x[i] : -x[i - 1], exponent - static_cast<int>(i % 3));
    }
    for (const FormatId format : {FormatId::kF32, FormatId::kBF16, FormatId::kInt8}) {
      const Weight weight = Pack(values, kShape, format);
      const PackedWeight& packed = *static_cast<const PackedWeight*>(weight.packed.get());
      for (const Activations activations : kActivations) {
        const std::vector<float> all = Multiply(packed, x, kRows, activations);
        for (int64_t m = 0; m < kRows; ++m) {
          const std::vector<float> one =
              Multiply(packed, {x.begin() + m * kShape.cols, x.begin() + (m + 1) * kShape.cols}, 1,
                       activations);
          ASSERT_EQ(
              0, std::memcmp(one.data(), all.data() + m * kShape.rows, one.size() * sizeof(float)))
              << FormatOf(format).name << " 2^" << exponent << ", row " << m;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllSupported, PackedWeightTest, ::testing::ValuesIn(SupportedIsas()),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(PackWeightsTest, SizesAreThoseOfTheLayouts) {
  ThreadPool pool(1);
  const std::vector<float> values = Values(16 * 128, 3);
  const absl::StatusOr<std::vector<Weight>> weights =
      PackWeights(SourceOf(values, 16, 128), kFormats, PortableKernels(), &pool, {});
  ASSERT_TRUE(weights.ok()) << weights.status();
  const int64_t expected[] = {16 * 128 * 4,  16 * 128 * 2,          16 * 128 * 2,
                              16 * 128 + 64, 16 * 128 / 2 + 32 * 4, 16 * 128 / 2 + 2 * 64 + 64};
  for (int i = 0; i < kNumFormats; ++i) {
    EXPECT_EQ((*weights)[i].format, kFormats[i]);
    EXPECT_EQ((*weights)[i].bytes, expected[i]) << FormatOf(kFormats[i]).name;
    EXPECT_GE((*weights)[i].bytes, FormatBytes(kFormats[i], 16, 128));
  }
}

TEST(PackWeightsTest, TheSourceIsReadOnceForAllButDoubleQuantization) {
  ThreadPool pool(1);
  const std::vector<float> values = Values(200 * 40, 5);
  WeightSource source = SourceOf(values, 200, 40);
  int64_t rows_read = 0;
  source.read = [&rows_read, read = source.read](int64_t first, int64_t count, float* out) {
    rows_read += count;
    return read(first, count, out);
  };
  ASSERT_TRUE(PackWeights(source, {{FormatId::kF32, FormatId::kInt8, FormatId::kNf4}},
                          PortableKernels(), &pool, {})
                  .ok());
  EXPECT_EQ(rows_read, 200);
}

TEST(PackWeightsTest, AValueThatIsNotFiniteIsNamedByItsPlaceInTheWeight) {
  ThreadPool pool(2);
  const int64_t rows = 2000, cols = 400;  // two chunks
  std::vector<float> values = Values(rows * cols, 5);
  values[1999 * cols + 7] = std::numeric_limits<float>::infinity();
  WeightSource source = SourceOf(values, rows, cols);
  source.name = "layers.0.mlp.up";
  for (const FormatId format : kFormats) {
    const absl::Status status =
        PackWeights(source, {{format}}, PortableKernels(), &pool, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << FormatOf(format).name;
    EXPECT_EQ(status, Quantize(source, format).status());
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("layers.0.mlp.up"));
  }
}

TEST(PackWeightsTest, ScalarFormatsGiveBackTheValuesThatTheyHold) {
  ThreadPool pool(2);
  for (const Shape& shape : kShapes) {
    const std::vector<float> values = Values(shape.rows * shape.cols, 11);
    for (const FormatId format : kFormats) {
      const WeightSource source = SourceOf(values, shape.rows, shape.cols);
      std::optional<WeightSource> back;
      {
        const auto packed = PackWeights(source, {{format}}, PortableKernels(), &pool, {});
        ASSERT_TRUE(packed.ok()) << packed.status();
        back = ValuesOf(packed->front());
      }
      ASSERT_EQ(back.has_value(), FormatOf(format).group == 0) << FormatOf(format).name;
      if (!back.has_value()) continue;
      const absl::StatusOr<QuantizedMatrix> expected = Quantize(source, format);
      ASSERT_TRUE(expected.ok());
      std::vector<float> rounded(values.size()), read(values.size());
      Dequantize(*expected, 0, shape.rows, rounded.data());
      ASSERT_TRUE(back->read(0, shape.rows, read.data()).ok());
      EXPECT_EQ(read, rounded) << FormatOf(format).name << " " << shape.rows << " x " << shape.cols;
      ASSERT_TRUE(back->read(shape.rows - 1, 1, read.data()).ok());
      EXPECT_EQ(read[0], rounded[(shape.rows - 1) * shape.cols]);
    }
  }
}

TEST(PackWeightsTest, TheSourcesErrorComesThrough) {
  ThreadPool pool(2);
  const WeightSource source = {
      "embed", 100, 8, [](int64_t, int64_t, float*) { return absl::DataLossError("cut short"); }};
  for (const FormatId format : kFormats) {
    EXPECT_EQ(PackWeights(source, {{format}}, PortableKernels(), &pool, {}).status().code(),
              absl::StatusCode::kDataLoss);
  }
}

TEST(PackWeightsTest, ImpossibleShapesAreStatuses) {
  ThreadPool pool(1);
  const auto read = [](int64_t, int64_t, float*) { return absl::InternalError("not reached"); };
  for (const FormatId format : kFormats) {
    EXPECT_EQ(
        PackWeights({"w", 0, 8, read}, {{format}}, PortableKernels(), &pool, {}).status().code(),
        absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(PackWeights({"w", int64_t{1} << 40, int64_t{1} << 40, read}, {{format}},
                          PortableKernels(), &pool, {})
                  .status()
                  .code(),
              absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(
        PackWeights({"w", int64_t{1} << 40, 64, read}, {{format}}, PortableKernels(), &pool, {})
            .status()
            .code(),
        absl::StatusCode::kResourceExhausted);
  }
}

}  // namespace
}  // namespace vernier
