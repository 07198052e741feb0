// What every backend promises of bf16 activations (kernels/backend.h). That a row's bits depend on
// nothing else is in bit_stability_test.cc.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference_backend.h"
#include "tests/kernels/backends_under_test.h"
#include "tests/kernels/layer_on_backend.h"
#include "tests/kernels/layer_values.h"
#include "tests/kernels/paged_batch.h"

namespace vernier::testing {
namespace {

const LayerSpec kSpec = {.name = "bf16 activations",
                         .hidden = 576,
                         .intermediate = 960,
                         .vocab = 131,
                         .attention = {.num_heads = 9, .num_kv_heads = 3, .head_dim = 64},
                         .gate = true};
constexpr int kLength = 120;
constexpr Call kQuery[] = {Call::kEmbed, Call::kAttentionIn};
constexpr Call kMlp[] = {Call::kEmbed, Call::kMlpIn, Call::kMlpOut};
constexpr Call kLogits[] = {Call::kEmbed, Call::kLmHead};
constexpr std::span<const Call> kChains[] = {kQuery, kMlp, kLogits};

std::vector<float> RunRows(LayerOnBackend* layer, std::span<const Call> calls,
                           Activations activations, int rows) {
  const std::vector<PagedSequence> sequences = MakeSequences(std::span(&kLength, 1), kSpec.vocab);
  BatchArrays batch;
  AppendRows(sequences[0], 0, rows, &batch);
  for (int i = 0; i < rows; ++i) batch.logit_rows.push_back(i);
  layer->SetActivations(activations);
  return layer->Run(batch.View(), calls);
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
  const LayerValues values = MakeLayer(kSpec, FormatId::kBF16, kLength);
  LayerOnBackend reference(MakeReferenceBackend(), values, kLength, 8);
  LayerOnBackend tested(Make(GetParam().options), values, kLength, 8);
  for (const std::span<const Call> calls : kChains) {
    for (const int rows : {1, 2, 5, 6, 7, 16, 33, 100}) {
      const std::vector<float> expected = RunRows(&reference, calls, Activations::kBF16, rows);
      const std::vector<float> full = RunRows(&reference, calls, Activations::kFull, rows);
      const std::vector<float> actual = RunRows(&tested, calls, Activations::kBF16, rows);
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
  LayerOnBackend layer(Make(GetParam().options), MakeLayer(kSpec, FormatId::kBF16, kLength),
                       kLength, 8);
  for (const std::span<const Call> calls : kChains) {
    for (const int rows : {1, 16, 100}) {
      EXPECT_EQ(RunRows(&layer, calls, Activations::kBF16, rows),
                RunRows(&layer, calls, Activations::kFull, rows));
    }
  }
}

TEST_P(Bf16ActivationsTest, ARowThatIsNoNumberEndsItselfAlone) {
  const LayerValues values = MakeLayer(kSpec, FormatId::kBF16, kLength);
  const std::vector<PagedSequence> sequences = MakeSequences({{1, 41}}, values.spec.vocab);
  LayerOnBackend layer(Make(GetParam().options), values, 64, PoolBlocks(sequences));
  layer.SetActivations(Activations::kBF16);
  layer.Poison(PoolBlocks(sequences));
  BatchArrays batch;
  AppendRows(sequences[0], 0, 1, &batch);
  AppendRows(sequences[1], 40, 41, &batch);  // attends to keys that were never written
  batch.logit_rows = {0, 1};
  const std::vector<float> logits = layer.Run(batch.View(), kAllCalls);
  const auto is_nan = [](float value) { return std::isnan(value); };
  const auto second = logits.begin() + values.spec.vocab;
  EXPECT_TRUE(std::none_of(logits.begin(), second, is_nan));
  EXPECT_TRUE(std::all_of(second, logits.end(), is_nan));
}

INSTANTIATE_TEST_SUITE_P(Backends, Bf16ActivationsTest, ::testing::ValuesIn(BackendsUnderTest()),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace vernier::testing
