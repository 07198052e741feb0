// SmolLM2-135M-Instruct against what transformers generated from the same file in float32.
#include <gtest/gtest.h>

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "tests/engine/model/loaded_model.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

using testing::LoadedModel;
using testing::LoadForTest;
using testing::ModelPath;
using testing::ReadJson;
using testing::TestDataPath;
using testing::VariantsOf;

constexpr int kTokens = 64;
// Where transformers' best two logits are closer than this, either may follow.
constexpr double kNearTie = 0.02;

struct Recorded {
  bool chat = false;
  std::string text;
  std::vector<int32_t> prompt;
  std::vector<int32_t> ids;
  std::vector<double> margins;
};

std::vector<Recorded> ReadRecorded() {
  std::vector<Recorded> prompts;
  const nlohmann::json record = ReadJson(TestDataPath("smollm2/greedy.json"));
  if (!record.is_object()) return prompts;
  for (const auto& line : record["prompts"]) {
    prompts.push_back({line["kind"] == "chat", line["prompt"].get<std::string>(),
                       line["prompt_ids"].get<std::vector<int32_t>>(),
                       line["greedy_ids"].get<std::vector<int32_t>>(),
                       line["margins"].get<std::vector<double>>()});
  }
  return prompts;
}

// Steps of `actual` that equal the recorded ones, from the first.
int MatchingSteps(const std::vector<int32_t>& actual, const Recorded& recorded) {
  int steps = 0;
  while (steps < kTokens && actual[steps] == recorded.ids[steps]) ++steps;
  return steps;
}

class SmolLM2Test : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
    if (path_.empty()) {
      GTEST_SKIP() << "SmolLM2-135M-Instruct.Q4_1.gguf is not in models/ (deploy/fetch_model.sh)";
    }
    if (testing::kSanitized) {
      GTEST_SKIP() << "135 million fp32 parameters take minutes under a sanitizer";
    }
    prompts_ = ReadRecorded();
    ASSERT_EQ(prompts_.size(), 20u);
  }

  std::string path_;
  std::vector<Recorded> prompts_;
};

TEST_F(SmolLM2Test, GreedyTextEqualsTransformers) {
  std::vector<std::vector<int32_t>> prompts;
  int64_t rows = 0;
  for (const Recorded& recorded : prompts_) {
    prompts.push_back(recorded.prompt);
    rows += static_cast<int64_t>(recorded.prompt.size());
  }
  auto loaded = LoadForTest(path_, VariantsOf({FormatId::kF32, FormatId::kF16}),
                            {.sequences = 20, .context = 128, .rows = rows, .logit_rows = 20});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->model->weights_sha256,
            ReadJson(TestDataPath("smollm2/greedy.json"))["model_sha256"].get<std::string>());
  EXPECT_EQ(loaded->model->source, "q4_1 (dequantized)");
  EXPECT_TRUE(loaded->model->source_is_quantized);

  const auto fp32 = loaded->driver->Greedy(/*variant=*/0, prompts, kTokens);
  ASSERT_TRUE(fp32.ok()) << fp32.status();
  int whole = 0;
  for (size_t i = 0; i < prompts_.size(); ++i) {
    const int steps = MatchingSteps((*fp32)[i], prompts_[i]);
    whole += steps == kTokens;
    if (steps < kTokens) {
      EXPECT_LT(prompts_[i].margins[steps], kNearTie) << "prompt " << i << " step " << steps;
    }
  }
  // Reported, not asserted: fp16 is another precision.
  const auto fp16 = loaded->driver->Greedy(/*variant=*/1, prompts, kTokens);
  ASSERT_TRUE(fp16.ok()) << fp16.status();
  int whole_fp16 = 0;
  for (size_t i = 0; i < prompts_.size(); ++i) {
    whole_fp16 += MatchingSteps((*fp16)[i], prompts_[i]) == kTokens;
  }
  std::cout << "of 20 prompts, 64 greedy tokens equal transformers' in fp32 for " << whole
            << ", in fp16 for " << whole_fp16 << "\n";
  RecordProperty("matching_prompts_fp32", whole);
  RecordProperty("matching_prompts_fp16", whole_fp16);
}

TEST_F(SmolLM2Test, PromptsTokenizeAsInTransformers) {
  auto loaded = LoadForTest(path_, VariantsOf({FormatId::kNf4}),
                            {.sequences = 1, .context = 32, .rows = 1, .logit_rows = 1});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_NE(loaded->model->tokenizer, nullptr) << loaded->model->no_tokenizer_reason;
  ASSERT_NE(loaded->model->chat_template, nullptr) << loaded->model->no_chat_reason;
  const Tokenizer& tokenizer = *loaded->model->tokenizer;
  for (const Recorded& recorded : prompts_) {
    SCOPED_TRACE(recorded.text);
    std::vector<PromptSpan> spans{{PromptSpan::Kind::kContent, recorded.text}};
    if (recorded.chat) {
      const ChatMessage message{"user", recorded.text};
      auto rendered = loaded->model->chat_template->Render(std::span(&message, 1), true);
      ASSERT_TRUE(rendered.ok()) << rendered.status();
      spans = *std::move(rendered);
    }
    const auto ids = tokenizer.EncodeSpans(spans, Tokenizer::Begin::kNever);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, recorded.prompt);
  }
}

}  // namespace
}  // namespace vernier
