// What every backend promises of bf16 activations (kernels/backend.h). That a row's bits depend on
// nothing else is in bit_stability_test.cc.
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference_backend.h"
#include "tests/kernels/activation_rows.h"

namespace vernier::testing {
namespace {

constexpr int kLength = 120;

std::vector<float> RunFirstRows(LayerOnBackend* layer, std::span<const Call> calls,
                                Activations activations, int rows) {
  layer->SetActivations(activations);
  const std::vector<PagedSequence> sequences =
      MakeSequences(std::span(&kLength, 1), kRecords.vocab);
  return RunRows(layer, sequences[0], calls, 0, rows);
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return std::sqrt(squares);
}

class Bf16ActivationsTest : public ::testing::TestWithParam<BackendUnderTest> {};

TEST_P(Bf16ActivationsTest, AreOfBf16WeightsAlone) {
  const auto backend = Make(GetParam().options);
  for (const QuantFormat& format : QuantFormats()) {
    EXPECT_EQ(backend->HasActivations(Activations::kBF16, format.id), format.id == FormatId::kBF16)
        << format.name;
  }
}

// Norms are made in fp32, so a value near the middle of two bf16 may be rounded to the other: one
// in some thousands is, and moves a sum of 576 by a twelfth of what rounding all does. What it
// moves in h is rounded once more. Rounding in another way would be as far off as not rounding.
TEST_P(Bf16ActivationsTest, InputsAreRoundedAsTheReferenceDoes) {
  if (GetParam().options.kind != std::string("cpu"))
    GTEST_SKIP() << "of backends that compute in fp32";
  const LayerValues values = MakeLayer(kRecords, FormatId::kBF16, kLength);
  LayerOnBackend reference(MakeReferenceBackend(), values, kLength, 8);
  LayerOnBackend tested(Make(GetParam().options), values, kLength, 8);
  for (const std::span<const Call> calls : kProductCalls) {
    for (const int rows : {1, 2, 5, 6, 7, 16, 33, 100}) {
      const std::vector<float> expected = RunFirstRows(&reference, calls, Activations::kBF16, rows);
      const std::vector<float> full = RunFirstRows(&reference, calls, Activations::kFull, rows);
      const std::vector<float> actual = RunFirstRows(&tested, calls, Activations::kBF16, rows);
      ASSERT_EQ(expected.size(), actual.size());
      EXPECT_GT(Distance(expected, full), 0);
      EXPECT_LE(Distance(expected, actual), Distance(expected, full) / (calls.size() > 2 ? 2 : 4))
          << rows << " rows, call " << static_cast<int>(calls.back());
    }
  }
}

TEST_P(Bf16ActivationsTest, AreWhatABackendOfBf16ComputesAnyway) {
  if (GetParam().options.kind == std::string("cpu"))
    GTEST_SKIP() << "of backends that compute in bf16";
  LayerOnBackend layer(Make(GetParam().options), MakeLayer(kRecords, FormatId::kBF16, kLength),
                       kLength, 8);
  for (const std::span<const Call> calls : kProductCalls) {
    for (const int rows : {1, 16, 100}) {
      EXPECT_EQ(RunFirstRows(&layer, calls, Activations::kBF16, rows),
                RunFirstRows(&layer, calls, Activations::kFull, rows));
    }
  }
}

TEST_P(Bf16ActivationsTest, ARowThatIsNoNumberEndsItselfAlone) {
  ExpectARowThatIsNoNumberEndsItselfAlone(
      GetParam().options, MakeLayer(kRecords, FormatId::kBF16, kLength), Activations::kBF16);
}

INSTANTIATE_TEST_SUITE_P(Backends, Bf16ActivationsTest, ::testing::ValuesIn(BackendsUnderTest()),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace vernier::testing
