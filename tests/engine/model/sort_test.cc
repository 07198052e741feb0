// gpt-nano-sort, a trained GPT-2 that sorts six symbols: learned positions, LayerNorm, biases, GELU
// without a gate, an untied head.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "tests/engine/model/loaded_model.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using testing::AllFormats;
using testing::LoadedModel;
using testing::LoadForTest;
using testing::ReadJson;
using testing::SequenceDriver;
using testing::TestDataPath;
using testing::VariantsOf;

constexpr int kSymbols = 6;
constexpr int kInputs = 729;  // 3^6
constexpr int kContext = 11;
constexpr int kHidden = 48;
constexpr int kVocab = 3;

std::vector<int32_t> InputOf(int number) {
  std::vector<int32_t> symbols;
  for (int i = 0; i < kSymbols; ++i, number /= 3) symbols.push_back(number % 3);
  return symbols;
}

TEST(SortTest, EveryFormatSortsEveryInput) {
  auto loaded = LoadForTest(TestDataPath("gpt-nano-sort/hf"), VariantsOf(AllFormats()),
                            {.sequences = kInputs,
                             .context = kContext,
                             .rows = kInputs * kSymbols,
                             .logit_rows = kInputs});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < kInputs; ++i) prompts.push_back(InputOf(i));
  for (size_t v = 0; v < loaded->model->variants.size(); ++v) {
    SCOPED_TRACE(loaded->model->variants[v].name);
    const auto sorted = loaded->driver->Greedy(static_cast<int>(v), prompts, kSymbols);
    ASSERT_TRUE(sorted.ok()) << sorted.status();
    for (int i = 0; i < kInputs; ++i) {
      std::vector<int32_t> expected = prompts[i];
      std::sort(expected.begin(), expected.end());
      EXPECT_EQ((*sorted)[i], expected) << "input " << i;
    }
  }
}

std::vector<float> TensorOf(const nlohmann::json& partials, const std::string& name) {
  std::string bytes;
  if (!absl::Base64Unescape(partials[name]["data"].get<std::string>(), &bytes)) return {};
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

// Both sides sum in fp32, in different orders: each of the sums that led here, two a block, may be
// off by its length times half a unit in the last place of its largest value.
double Tolerance(std::span<const float> expected, int blocks) {
  float largest = 0;
  for (const float value : expected) largest = std::max(largest, std::fabs(value));
  const int longest_sum = 4 * kHidden;
  return 2 * blocks * longest_sum * std::ldexp(1.0, -24) * largest;
}

void ExpectNear(std::span<const float> actual, std::span<const float> expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance) << "value " << i;
  }
}

TEST(SortTest, EveryBlockEqualsTheRecordedOne) {
  const nlohmann::json partials =
      ReadJson(TestDataPath("gpt-nano-sort/gpt-nano-sort-t0-partials.json"));
  ASSERT_TRUE(partials.is_object());
  constexpr int kBatch = 3;
  auto loaded = LoadForTest(TestDataPath("gpt-nano-sort/hf"), VariantsOf({FormatId::kF32}),
                            {.sequences = kBatch,
                             .context = kContext,
                             .rows = kBatch * kContext,
                             .logit_rows = kBatch * kContext});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->model->config.num_layers, 3);

  const std::vector<float> symbols = TensorOf(partials, "idx");  // [batch, context]
  ASSERT_EQ(symbols.size(), size_t{kBatch * kContext});
  const std::vector<int32_t> ids(symbols.begin(), symbols.end());
  std::vector<SequenceDriver::Input> inputs;
  for (int b = 0; b < kBatch; ++b) {
    inputs.push_back({b, std::span(ids).subspan(b * kContext, kContext)});
  }
  // The residual after n layers is what a model of n layers ends with.
  for (int blocks = 0; blocks <= 3; ++blocks) {
    SCOPED_TRACE(blocks);
    loaded->model->config.num_layers = blocks;
    loaded->driver->Reset();
    ASSERT_TRUE(loaded->driver->Step(0, inputs, SequenceDriver::Logits::kAll, [] {}).ok());
    std::vector<float> residual(size_t{kBatch * kContext * kHidden});
    ASSERT_TRUE(loaded->backend->CopyActivation(Activation::kResidual, residual).ok());
    const std::string name = blocks == 0 ? "x" : "block" + std::to_string(blocks - 1);
    const std::vector<float> expected = TensorOf(partials, name);
    ExpectNear(residual, expected, Tolerance(expected, blocks));
  }
  const auto logits = loaded->driver->LastLogits();
  ASSERT_TRUE(logits.ok()) << logits.status();
  ASSERT_EQ(logits->size(), size_t{kBatch * kContext * kVocab});
  const std::vector<float> expected = TensorOf(partials, "lm_head");
  ExpectNear(*logits, expected, Tolerance(expected, /*blocks=*/4));
}

}  // namespace
}  // namespace vernier
