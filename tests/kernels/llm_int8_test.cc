// What enters a product by LLM.int8, from its definition; and products of backends that have it,
// against the reference's.
#include "kernels/llm_int8.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/reference_backend.h"
#include "kernels/tensor.h"
#include "tests/kernels/activation_rows.h"

namespace vernier::testing {
namespace {

TEST(LlmInt8Test, ValuesBecomeWholeNumbersOfTheRowsLargest) {
  std::vector<float> x = {1.27f, 0.01f, -0.636f, 0.004f, 2.54f, 0, -2.54f, 0.5f};
  for (float& value : x) value = F32FromF16(F16FromF32(value));
  const std::vector<float> before = x;
  RoundAsLlmInt8(x, 4);
  for (size_t i = 0; i < x.size(); ++i) {
    const float largest = before[i / 4 * 4];
    const float code = x[i] / (largest / 127);
    EXPECT_NEAR(code, std::nearbyint(code), 1e-4);
    EXPECT_LE(std::fabs(x[i] - before[i]), largest / 127 / 2 * 1.0001f);
  }
}

TEST(LlmInt8Test, AColumnWithAnOutlierStaysInEveryRow) {
  std::vector<float> x = {1.f, 7.f,  0.3f, 0.5f,  //
                          1.f, 0.1f, 0.3f, 2.f};  // its 0.1 is kept, and its largest is 2
  RoundAsLlmInt8(x, 4);
  EXPECT_EQ(x[1], 7.f);
  EXPECT_EQ(x[5], F32FromF16(F16FromF32(0.1f)));
  EXPECT_EQ(x[0], 1.f);
  EXPECT_FLOAT_EQ(x[2], 38 * (1.f / 127));
  EXPECT_FLOAT_EQ(x[6], 19 * (2.f / 127));
  // Alone, the second row has no outlier, and its 0.1 is a code as the others are.
  std::vector<float> alone = {1.f, 0.1f, 0.3f, 2.f};
  RoundAsLlmInt8(alone, 4);
  EXPECT_FLOAT_EQ(alone[1], 6 * (2.f / 127));
}

TEST(LlmInt8Test, SmallValuesOfAnOutlierColumnCountForTheirRowsScale) {
  std::vector<float> x = {8.f, 1.f, 4.f, 1.f};
  RoundAsLlmInt8(x, 2);
  EXPECT_FLOAT_EQ(x[3], 32 * (4.f / 127));  // of 4, which itself stays
  EXPECT_EQ(x[2], 4.f);
}

TEST(LlmInt8Test, ZerosStayAndWhatIsNoNumberEndsItsRow) {
  std::vector<float> x = {0, 0, NAN, 1, INFINITY, 2};
  RoundAsLlmInt8(x, 2);
  EXPECT_EQ(x[1], 0);
  EXPECT_TRUE(std::isnan(x[2]) || std::isnan(x[3]));
  EXPECT_TRUE(std::isinf(x[4]));  // an outlier
}

constexpr int kLength = 120;

// A layer whose norms lift some columns over the threshold in some rows.
LayerValues LayerWithOutliers() {
  LayerValues values = MakeLayer(kRecords, FormatId::kInt8, kLength);
  for (NormValues* norm : {&values.attention_norm, &values.mlp_norm, &values.final_norm}) {
    for (const size_t column : {3u, 64u, 571u}) norm->weight[column] *= 6;
  }
  return values;
}

std::vector<float> RunFirstRows(LayerOnBackend* layer, std::span<const Call> calls, int rows) {
  const std::vector<PagedSequence> sequences =
      MakeSequences(std::span(&kLength, 1), kRecords.vocab);
  return RunRows(layer, sequences[0], calls, 0, rows);
}

class LlmInt8BackendTest : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  void SetUp() override {
    if (!Make(GetParam().options)->HasActivations(Activations::kLlmInt8, FormatId::kInt8)) {
      GTEST_SKIP() << GetParam().name << " has no LLM.int8";
    }
  }
};

// A value between two codes may be rounded to either, as norms are made in fp32: what that moves is
// far below what an outlier column left out would.
TEST_P(LlmInt8BackendTest, ProductsAreTheReferencesForAnyNumberOfRows) {
  const LayerValues values = LayerWithOutliers();
  LayerOnBackend reference(MakeReferenceBackend(), values, kLength, 8);
  LayerOnBackend tested(Make(GetParam().options), values, kLength, 8);
  for (const std::span<const Call> calls : kProductCalls) {
    for (const int rows : {1, 2, 5, 16, 17, 100}) {
      reference.SetActivations(Activations::kLlmInt8);
      tested.SetActivations(Activations::kLlmInt8);
      const std::vector<float> expected = RunFirstRows(&reference, calls, rows);
      const std::vector<float> actual = RunFirstRows(&tested, calls, rows);
      reference.SetActivations(Activations::kFull);
      const std::vector<float> full = RunFirstRows(&reference, calls, rows);
      ASSERT_EQ(expected.size(), actual.size());
      double squares = 0, errors = 0, rounding = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        squares += std::pow(static_cast<double>(expected[i]), 2);
        errors += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
        rounding += std::pow(static_cast<double>(full[i]) - expected[i], 2);
      }
      // Of one product fp16 moves results by a few ten thousandths. Of a second one it moves values
      // across the middle between two codes: by the root of their distance and its own, 2^-9.
      EXPECT_LE(std::sqrt(errors / squares), calls.size() > 2 ? 0x1p-6 : 0x1p-9)
          << rows << " rows, call " << static_cast<int>(calls.back());
      EXPECT_GT(rounding, 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LlmInt8BackendTest, ::testing::ValuesIn(BackendsUnderTest()),
                         [](const auto& param) { return std::string(param.param.name); });

// The reference's own: with the threshold out of reach an outlier would be one code of many.
TEST(LlmInt8ReferenceTest, OutliersKeepProductsNearTheFullOnes) {
  LayerOnBackend reference(MakeReferenceBackend(), LayerWithOutliers(), kLength, 8);
  const std::vector<float> full = RunFirstRows(&reference, kQueryCalls, 40);
  reference.SetActivations(Activations::kLlmInt8);
  const std::vector<float> rounded = RunFirstRows(&reference, kQueryCalls, 40);
  double squares = 0, errors = 0;
  for (size_t i = 0; i < full.size(); ++i) {
    squares += std::pow(static_cast<double>(full[i]), 2);
    errors += std::pow(static_cast<double>(rounded[i]) - full[i], 2);
  }
  EXPECT_GT(errors, 0);
  // A code's step is at most 6 / 127, its rounding 0.29 of that in the mean; x has a mean square of
  // over 1: independent roundings leave at most that share of a product's own size.
  EXPECT_LE(std::sqrt(errors / squares), 0.29 * kOutlierThreshold / 127);
  // Its rows depend on each other, as LLM.int8's do.
  const std::vector<float> alone = RunFirstRows(&reference, kQueryCalls, 1);
  EXPECT_NE(alone, std::vector<float>(rounded.begin(), rounded.begin() + alone.size()));
}

}  // namespace
}  // namespace vernier::testing
