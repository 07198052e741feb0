// SmolLM2's chat prompts and ids equal those that transformers made (tests/tools).
#include <gtest/gtest.h>

#include "engine/checkpoint/checkpoint.h"
#include "engine/text/chat_template.h"
#include "tests/engine/text/text_sources.h"

namespace vernier {
namespace {

using Ids = std::vector<int32_t>;

class SmolLm2Test : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = testing::ModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
    if (path.empty()) GTEST_SKIP() << "SmolLM2 is not in models/";
    auto checkpoint = Checkpoint::Open(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const TokenizerSource& source = (*checkpoint)->tokenizer_source();
    auto tokenizer = Tokenizer::Create(source);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    auto chat = ChatTemplate::Create(source.chat_template);
    ASSERT_TRUE(chat.ok()) << chat.status();
    chat_ = *std::move(chat);
    vectors_ = testing::ReadJson(testing::TestDataPath("smollm2/chat_vectors.json"));
    ASSERT_TRUE(vectors_.is_object());
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_;
  nlohmann::json vectors_;
};

TEST_F(SmolLm2Test, ChatPromptsAndIdsEqualTransformers) {
  ASSERT_GE(vectors_["chat"].size(), 20u);
  for (const auto& one : vectors_["chat"]) {
    std::vector<ChatMessage> messages;
    for (const auto& message : one["messages"]) {
      messages.push_back({message["role"], message["content"]});
    }
    const auto spans = chat_->Render(messages, one["add_generation_prompt"].get<bool>());
    ASSERT_TRUE(spans.ok()) << spans.status();
    std::string prompt;
    for (const PromptSpan& span : *spans) prompt += span.text;
    EXPECT_EQ(prompt, one["prompt"].get<std::string>());
    const auto ids = tokenizer_->EncodeSpans(*spans, Tokenizer::Begin::kNever);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, one["ids"].get<Ids>()) << prompt;
  }
}

TEST_F(SmolLm2Test, SpecialTokensSpelledByAUserAreText) {
  for (const auto& one : vectors_["as_text"]) {
    const auto text = one["text"].get<std::string>();
    const auto ids =
        tokenizer_->Encode(text, Tokenizer::Special::kAsText, Tokenizer::Begin::kNever);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, one["ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer_->Decode(*ids, false), text);
    for (const int32_t id : *ids) EXPECT_FALSE(tokenizer_->IsSpecial(id));
  }
}

TEST_F(SmolLm2Test, FileNamesItsTokens) {
  EXPECT_EQ(tokenizer_->vocab_size(), 49152);
  EXPECT_EQ(tokenizer_->begin_token(), tokenizer_->FindToken("<|im_start|>"));
  EXPECT_EQ(tokenizer_->end_token(), tokenizer_->FindToken("<|im_end|>"));
  EXPECT_FALSE(tokenizer_->adds_begin());
}

}  // namespace
}  // namespace vernier
