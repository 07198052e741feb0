// Tiny seeded models in Hugging Face's format and in GGUF: every logit against what transformers
// computed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "tests/engine/model/loaded_model.h"
#include "tests/testing/tensor_file.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using testing::LoadForTest;
using testing::SequenceDriver;
using testing::TensorFile;
using testing::TestDataPath;
using testing::VariantsOf;

class TransformersTest : public ::testing::TestWithParam<const char*> {};

// What differs is the order of sums in fp32, and rotary angles: both sides round a frequency, so an
// angle is off by the position times 2^-24.
double Tolerance(const ModelConfig& config, int64_t tokens, std::span<const float> logits) {
  float largest = 0;
  for (const float logit : logits) largest = std::max(largest, std::fabs(logit));
  const double longest_sum = static_cast<double>(std::max(config.hidden, config.intermediate));
  // Each of the sums that led here, two a layer and the head's, may be off by its length times half
  // a unit in the last place of its largest value.
  const double sums = 2 * static_cast<double>(config.num_layers) + 1;
  return (sums * longest_sum + static_cast<double>(tokens)) * std::ldexp(1.0, -24) * largest;
}

TEST_P(TransformersTest, EveryLogitIsTransformers) {
  const std::string path = TestDataPath(std::string("checkpoints/") + GetParam());
  const std::string folder = path.ends_with(".gguf") ? path.substr(0, path.rfind('/')) : path;
  const TensorFile expected(folder + "/expected.safetensors");
  const std::vector<int64_t> shape = expected.Shape("ids");  // [sequences, tokens]
  const std::vector<int32_t> ids = expected.Read<int32_t>("ids");
  const std::vector<float> logits = expected.Read<float>("logits");
  const int64_t rows = shape[0] * shape[1];
  auto loaded = LoadForTest(path, VariantsOf({FormatId::kF32}),
                            {.sequences = static_cast<int>(shape[0]),
                             .context = shape[1],
                             .rows = rows,
                             .logit_rows = rows});
  ASSERT_TRUE(loaded.ok()) << loaded.status();

  std::vector<SequenceDriver::Input> inputs;
  for (int64_t i = 0; i < shape[0]; ++i) {
    inputs.push_back({static_cast<int>(i), std::span(ids).subspan(static_cast<size_t>(i * shape[1]),
                                                                  static_cast<size_t>(shape[1]))});
  }
  ASSERT_TRUE(loaded->driver->Step(0, inputs, SequenceDriver::Logits::kAll, [] {}).ok());
  const auto actual = loaded->driver->LastLogits();
  ASSERT_TRUE(actual.ok()) << actual.status();
  ASSERT_EQ(actual->size(), logits.size());
  const double tolerance = Tolerance(loaded->model->config, shape[1], logits);
  double worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    worst = std::max(worst, std::fabs(double{(*actual)[i]} - double{logits[i]}));
  }
  EXPECT_LE(worst, tolerance);
  RecordProperty("worst_difference", std::to_string(worst));
}

// Chunks end within windows and blocks, and one is a single token as in decoding.
TEST_P(TransformersTest, ChunksGiveTheSameBits) {
  const std::string path = TestDataPath(std::string("checkpoints/") + GetParam());
  constexpr int64_t kTokens = 40;
  auto loaded = LoadForTest(path, VariantsOf({FormatId::kF16}),
                            {.context = kTokens, .rows = kTokens, .logit_rows = kTokens});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  std::vector<int32_t> ids(kTokens);
  for (int64_t i = 0; i < kTokens; ++i) ids[i] = static_cast<int32_t>(i * 37 % 61);
  auto logits_of = [&](const std::vector<size_t>& chunks) {
    loaded->driver->Reset();
    std::vector<float> all;
    std::span<const int32_t> rest(ids);
    for (const size_t size : chunks) {
      const SequenceDriver::Input input{.ids = rest.first(size)};
      EXPECT_TRUE(loaded->driver->Step(0, {&input, 1}, SequenceDriver::Logits::kAll, [] {}).ok());
      const auto logits = loaded->driver->LastLogits();
      EXPECT_TRUE(logits.ok()) << logits.status();
      all.insert(all.end(), logits->begin(), logits->end());
      rest = rest.subspan(size);
    }
    return all;
  };
  EXPECT_EQ(logits_of({13, 1, 20, 6}), logits_of({kTokens}));
}

INSTANTIATE_TEST_SUITE_P(Models, TransformersTest,
                         ::testing::Values("tiny_llama3", "tiny_gpt2", "tiny_mistral", "tiny_qwen2",
                                           "tiny_qwen3", "tiny_gemma3", "tiny_llama3/model.gguf",
                                           "tiny_gpt2/model.gguf", "tiny_qwen2/model.gguf",
                                           "tiny_qwen3/model.gguf", "tiny_gemma3/model.gguf"),
                         [](const auto& row) {
                           return absl::StrReplaceAll(row.param, {{"/", "_"}, {".", "_"}});
                         });

// Of every layout of quantized matrices, the weights that its own library makes of it.
INSTANTIATE_TEST_SUITE_P(Prequantized, TransformersTest,
                         ::testing::Values("tiny_qwen2_bnb_nf4", "tiny_qwen2_bnb_nf4_dq",
                                           "tiny_qwen2_bnb_int8", "tiny_qwen2_gptq_int4",
                                           "tiny_qwen2_gptq_int8", "tiny_qwen2_awq_int4",
                                           "tiny_qwen2_ct_int8", "tiny_qwen2_ct_int4"),
                         [](const auto& row) { return std::string(row.param); });

}  // namespace
}  // namespace vernier
