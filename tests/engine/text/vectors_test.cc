// Token ids that other tokenizers made of real and awkward text.
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "engine/text/normalize.h"
#include "tests/engine/text/text_sources.h"

namespace vernier {
namespace {

using testing::FolderSource;
using testing::Gpt2;
using testing::ModelFileSource;
using testing::ReadJsonLines;
using testing::ReadText;
using testing::SharedPath;
using testing::TestDataPath;
using Ids = std::vector<int32_t>;

Ids Encoded(const Tokenizer& tokenizer, const std::string& text) {
  auto ids = tokenizer.Encode(text, Tokenizer::Special::kRecognise, Tokenizer::Begin::kNever);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : Ids{};
}

void CheckJsonLines(const Tokenizer& tokenizer, const std::string& path, size_t expected) {
  const auto lines = ReadJsonLines(path);
  ASSERT_GE(lines.size(), expected);
  for (const auto& line : lines) {
    const auto text = line["text"].get<std::string>();
    const auto ids = line["ids"].get<Ids>();
    ASSERT_EQ(Encoded(tokenizer, text), ids) << line["tag"] << ": " << text;
    const std::string decoded = tokenizer.Decode(ids, false);
    if (decoded != text) {  // Qwen's normalizer
      ASSERT_EQ(decoded, NormalizedIfChanged(text).value_or(text));
    }
  }
}

// llama.cpp's files: texts between marker lines, ids a line each.
void CheckLlamaCpp(const Tokenizer& tokenizer, const std::string& stem) {
  const std::vector<std::string> texts =
      absl::StrSplit(ReadText(stem + ".inp"), "\n__ggml_vocab_test__\n");
  const std::vector<std::string> lines = absl::StrSplit(ReadText(stem + ".out"), '\n');
  ASSERT_GE(texts.size(), 46u);
  ASSERT_GE(lines.size(), 46u);
  for (size_t i = 0; i < 46; ++i) {
    Ids expected;
    for (const auto number : absl::StrSplit(lines[i], ' ', absl::SkipEmpty())) {
      int32_t id = 0;
      ASSERT_TRUE(absl::SimpleAtoi(number, &id));
      expected.push_back(id);
    }
    EXPECT_EQ(Encoded(tokenizer, texts[i]), expected) << "text " << i << ": " << texts[i];
  }
}

TEST(VectorsTest, Gpt2EqualsLlamaCpp) {
  CheckLlamaCpp(Gpt2(), TestDataPath("tokenizers/gpt2/gpt-2"));
}

TEST(VectorsTest, Gpt2EqualsOtherTokenizersOnRealText) {
  CheckJsonLines(Gpt2(), TestDataPath("tokenizers/gpt2/real_text.jsonl"), 100);
}

// SentencePiece's own ids; texts whose spaces it tidies do not come back, the others do.
void CheckSentencePieceLines(const Tokenizer& tokenizer, const std::string& path) {
  const auto lines = ReadJsonLines(path);
  ASSERT_GE(lines.size(), 250u);
  size_t came_back = 0;
  for (const auto& line : lines) {
    const auto text = line["text"].get<std::string>();
    const auto ids = line["ids"].get<Ids>();
    ASSERT_EQ(Encoded(tokenizer, text), ids) << line["tag"] << ": " << text;
    came_back += tokenizer.Decode(ids, false) == text ? 1 : 0;
  }
  EXPECT_GT(came_back, lines.size() / 2);
}

TEST(VectorsTest, Tok512EqualsSentencePiece) {
  auto tokenizer =
      Tokenizer::Create(ModelFileSource(TestDataPath("tokenizers/tok512/tok512.model")));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 512);
  EXPECT_EQ((*tokenizer)->begin_token(), 1);
  EXPECT_TRUE((*tokenizer)->adds_begin());
  const std::string path = SharedPath("tokenizers/vectors_real_text/tok512.jsonl");
  if (path.empty()) GTEST_SKIP() << "shared tokenizer data is not there";
  CheckSentencePieceLines(**tokenizer, path);
}

// A unigram model with a character map, tidied spaces, a user-defined token and unknown characters.
TEST(VectorsTest, UnigramEqualsSentencePiece) {
  const std::string folder = TestDataPath("tokenizers/unigram");
  auto tokenizer = Tokenizer::Create(ModelFileSource(folder + "/unigram.model"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto lines = ReadJsonLines(folder + "/vectors.jsonl");
  ASSERT_GE(lines.size(), 50u);
  for (const auto& line : lines) {
    const auto ids = line["ids"].get<Ids>();
    const auto text = line["text"].get<std::string>();
    const auto encoded =
        (*tokenizer)->Encode(text, Tokenizer::Special::kAsText, Tokenizer::Begin::kNever);
    ASSERT_TRUE(encoded.ok()) << encoded.status();
    EXPECT_EQ(*encoded, ids) << text;
    // Where a character is unknown, SentencePiece writes " \u2047 ", and this nothing.
    if (std::find(ids.begin(), ids.end(), 0) != ids.end()) continue;
    EXPECT_EQ((*tokenizer)->Decode(ids, false), line["decoded"].get<std::string>());
  }
}

TEST(VectorsTest, Llama2EqualsSentencePieceAndLlamaCpp) {
  const std::string model = SharedPath("tokenizers/llama2_tokenizer.model");
  if (model.empty()) GTEST_SKIP() << "Llama 2's tokenizer.model is not there";
  auto tokenizer = Tokenizer::Create(ModelFileSource(model));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string path = SharedPath("tokenizers/vectors_real_text/llama2.jsonl");
  CheckJsonLines(**tokenizer, path, 500);
  CheckLlamaCpp(**tokenizer,
                testing::PathFrom("VERNIER_SHARED_DATA", "tokenizers/vectors/llama-spm"));
}

struct SharedModel {
  const char* folder;
  const char* real_text;
  const char* llama_cpp;  // null: none
};

class SharedVectorsTest : public ::testing::TestWithParam<SharedModel> {};

TEST_P(SharedVectorsTest, EqualOtherTokenizers) {
  const std::string folder = SharedPath(std::string("tokenizers/") + GetParam().folder);
  if (folder.empty()) GTEST_SKIP() << "shared tokenizer data is not there";
  auto tokenizer = Tokenizer::Create(FolderSource(folder));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string vectors = std::string("tokenizers/vectors_real_text/") + GetParam().real_text;
  CheckJsonLines(**tokenizer, SharedPath(vectors), 500);
  if (GetParam().llama_cpp != nullptr) {
    CheckLlamaCpp(**tokenizer,
                  testing::PathFrom("VERNIER_SHARED_DATA",
                                    std::string("tokenizers/vectors/") + GetParam().llama_cpp));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SharedVectorsTest,
                         ::testing::Values(SharedModel{"gpt2", "gpt2.jsonl", "gpt-2"},
                                           SharedModel{"llama3", "llama3.jsonl", "llama-bpe"},
                                           SharedModel{"qwen2_5", "qwen2_5.jsonl", nullptr}),
                         [](const auto& test) { return std::string(test.param.folder); });

// The same vocabularies as GGUF metadata has them, under llama.cpp's names of the pre-tokenizers.
TEST(VectorsTest, GgufNamesMeanTheSamePatterns) {
  const std::pair<const char*, const char*> models[] = {
      {"gpt2", "gpt-2"}, {"llama3", "llama-bpe"}, {"qwen2_5", "qwen2"}};
  for (const auto& [folder, pre] : models) {
    const std::string path = SharedPath(std::string("tokenizers/") + folder + "/tokenizer.json");
    if (path.empty()) GTEST_SKIP() << "shared tokenizer data is not there";
    const auto json = testing::ReadJson(path);
    TokenizerSource source;
    source.kind = TokenizerSource::Kind::kGguf;
    source.gguf.model = "gpt2";
    source.gguf.pre = pre;
    const auto& vocab = json["model"]["vocab"];
    source.gguf.tokens.resize(vocab.size() + 512);
    for (size_t i = 0; i < source.gguf.tokens.size(); ++i) {
      source.gguf.tokens[i] = "[PAD" + std::to_string(i) + "]";
    }
    source.gguf.types.assign(source.gguf.tokens.size(), 5);
    for (const auto& [token, id] : vocab.items()) {
      source.gguf.tokens[id.get<size_t>()] = token;
      source.gguf.types[id.get<size_t>()] = 1;
    }
    for (const auto& added : json["added_tokens"]) {
      source.gguf.tokens[added["id"].get<size_t>()] = added["content"].get<std::string>();
      source.gguf.types[added["id"].get<size_t>()] = added["special"].get<bool>() ? 3 : 4;
    }
    for (const auto& merge : json["model"]["merges"]) source.gguf.merges.push_back(merge);
    auto tokenizer = Tokenizer::Create(source);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    CheckJsonLines(**tokenizer,
                   SharedPath(std::string("tokenizers/vectors_real_text/") + folder + ".jsonl"),
                   500);
  }
}

}  // namespace
}  // namespace vernier
