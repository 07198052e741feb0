// What checkpoints hand over of their tokenizer, whichever files say it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/checkpoint/gguf_text.h"
#include "engine/checkpoint/hf_text.h"
#include "tests/engine/checkpoint/model_folder.h"

namespace vernier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ModelFolder;

TEST(HfTextTest, TokenizerJsonComesBeforeTokenizerModel) {
  const ModelFolder folder;
  const auto none = ReadHfText(folder.path());
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->kind, TokenizerSource::Kind::kNone);

  folder.Write("tokenizer.model", "pieces");
  folder.Write("tokenizer_config.json", R"({"chat_template": "hello"})");
  const auto model = ReadHfText(folder.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->kind, TokenizerSource::Kind::kSentencePiece);
  EXPECT_EQ(model->sentencepiece_model, "pieces");
  EXPECT_EQ(model->tokenizer_config_json, R"({"chat_template": "hello"})");
  EXPECT_EQ(model->chat_template, "hello");

  folder.Write("tokenizer.json", "{}");
  const auto json = ReadHfText(folder.path());
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->kind, TokenizerSource::Kind::kHuggingFace);
  EXPECT_EQ(json->sentencepiece_model, "");
}

GgufHeader Scored() {
  GgufHeader header;
  header.metadata = {{"tokenizer.ggml.model", std::string("llama")},
                     {"tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "<s>", "a"}},
                     {"tokenizer.ggml.token_type", std::vector<int64_t>{2, 3, 1}},
                     {"tokenizer.ggml.scores", std::vector<double>{0, 0, -1.5}},
                     {"tokenizer.ggml.bos_token_id", int64_t{1}},
                     {"tokenizer.ggml.unknown_token_id", int64_t{0}}};
  return header;
}

TEST(GgufTextTest, ScoresAndTheirFlagsAreHandedOver) {
  GgufHeader header = Scored();
  const auto plain = TakeGgufText("x.gguf", &header);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_THAT(plain->gguf.scores, ElementsAre(0, 0, -1.5f));
  EXPECT_EQ(plain->gguf.unknown, 0);
  EXPECT_TRUE(plain->gguf.add_begin);  // where the key is left out
  EXPECT_TRUE(plain->gguf.add_space_prefix);
  EXPECT_FALSE(plain->gguf.remove_extra_whitespaces);

  header = Scored();
  header.metadata["tokenizer.ggml.add_bos_token"] = false;
  header.metadata["tokenizer.ggml.add_space_prefix"] = false;
  header.metadata["tokenizer.ggml.remove_extra_whitespaces"] = true;
  header.metadata["tokenizer.ggml.precompiled_charsmap"] = std::vector<int64_t>{1, 255, -1};
  const auto stated = TakeGgufText("x.gguf", &header);
  ASSERT_TRUE(stated.ok()) << stated.status();
  EXPECT_FALSE(stated->gguf.add_begin);
  EXPECT_FALSE(stated->gguf.add_space_prefix);
  EXPECT_TRUE(stated->gguf.remove_extra_whitespaces);
  EXPECT_EQ(stated->gguf.precompiled_charsmap, "\x01\xFF\xFF");
}

TEST(GgufTextTest, ScoresOfAnotherTypeAreRefused) {
  GgufHeader header = Scored();
  header.metadata["tokenizer.ggml.scores"] = std::vector<int64_t>{1, 2, 3};
  const auto scores = TakeGgufText("x.gguf", &header);
  EXPECT_EQ(scores.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(scores.status().message()), HasSubstr("tokenizer.ggml.scores"));
  header = Scored();
  header.metadata["tokenizer.ggml.precompiled_charsmap"] = std::vector<int64_t>{256};
  EXPECT_THAT(std::string(TakeGgufText("x.gguf", &header).status().message()),
              HasSubstr("precompiled_charsmap"));
}

}  // namespace
}  // namespace vernier
