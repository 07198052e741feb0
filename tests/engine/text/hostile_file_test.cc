// Broken and unsupported tokenizer files: refused with what is wrong, never a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/engine/text/text_sources.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;
using testing::JsonSource;
using testing::SmallJson;
using Json = nlohmann::json;

absl::Status Refusal(const TokenizerSource& source) { return Tokenizer::Create(source).status(); }

struct Case {
  const char* name;
  std::function<void(Json&)> change;
  const char* says;
};

void ExpectRefused(const std::vector<Case>& cases, absl::StatusCode code) {
  for (const Case& one : cases) {
    SmallJson small;
    one.change(small.json);
    const absl::Status status = Refusal(small.Source());
    EXPECT_EQ(status.code(), code) << one.name << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(one.says)) << one.name;
  }
}

Json Added(int64_t id, const std::string& content) {
  return {{"id", id}, {"content", content}, {"special", true}};
}

TEST(HostileFileTest, F49BrokenVocabulariesAndMergesAreInvalidArgument) {
  ExpectRefused(
      {
          {"no model", [](Json& j) { j.erase("model"); }, "model"},
          {"model is a list", [](Json& j) { j["model"] = Json::array(); }, "model"},
          {"no vocab", [](Json& j) { j["model"].erase("vocab"); }, "vocab"},
          {"vocab is a list",
           [](Json& j) {
             j["model"]["vocab"] = {1, 2};
           },
           "vocab"},
          {"no merges", [](Json& j) { j["model"].erase("merges"); }, "merges"},
          {"id is text", [](Json& j) { j["model"]["vocab"]["a"] = "0"; }, "integer"},
          {"id is a fraction", [](Json& j) { j["model"]["vocab"]["a"] = 0.5; }, "integer"},
          {"id is negative", [](Json& j) { j["model"]["vocab"]["a"] = -1; }, "-1"},
          {"id is huge", [](Json& j) { j["model"]["vocab"]["a"] = 99'999'999; }, "99999999"},
          {"id is 2^63", [](Json& j) { j["model"]["vocab"]["a"] = UINT64_MAX; }, "has id"},
          {"id twice", [](Json& j) { j["model"]["vocab"]["a"] = 1; }, "id 1 is given to"},
          {"long token", [](Json& j) { j["model"]["vocab"][std::string(1'000'000, 'x')] = 13; },
           "1000000 bytes"},
          {"merge of three", [](Json& j) { j["model"]["merges"][0] = "a b c"; }, "a b c"},
          {"merge of one", [](Json& j) { j["model"]["merges"][0] = "ab"; }, "merge 0"},
          {"merge with nothing", [](Json& j) { j["model"]["merges"][0] = "a "; }, "empty side"},
          {"merge into itself",
           [](Json& j) {
             j["model"]["merges"][0] = {"", "a"};
           },
           "empty side"},
          {"merge is a number", [](Json& j) { j["model"]["merges"][0] = 7; }, "merges[0]"},
          {"merge of an unknown token", [](Json& j) { j["model"]["merges"][0] = "a zz"; }, "zz"},
          {"merge into an unknown token", [](Json& j) { j["model"]["merges"][0] = "d d"; }, "dd"},
      },
      absl::StatusCode::kInvalidArgument);
}

TEST(HostileFileTest, BrokenAddedTokensAndPatternsAreInvalidArgument) {
  ExpectRefused(
      {
          {"added tokens are an object",
           [](Json& j) {
             j["added_tokens"] = {{"a", 1}};
           },
           "added_tokens"},
          {"added token is a number", [](Json& j) { j["added_tokens"] = {1}; }, "added_tokens[0]"},
          {"added token is empty",
           [](Json& j) { j["added_tokens"] = Json::array({Added(20, "")}); }, "empty"},
          {"added ids twice",
           [](Json& j) {
             j["added_tokens"] = Json::array({Added(20, "<x>"), Added(20, "<y>")});
           },
           "same id 20"},
          {"added token takes an id",
           [](Json& j) { j["added_tokens"] = Json::array({Added(0, "<x>")}); }, "id 0 is given to"},
          {"added token has another id",
           [](Json& j) { j["added_tokens"] = Json::array({Added(20, "ab")}); },
           "the vocabulary gives it 8"},
          {"added content twice",
           [](Json& j) {
             j["added_tokens"] = Json::array({Added(20, "<x>"), Added(21, "<x>")});
           },
           "<x>"},
          {"added flag is text",
           [](Json& j) {
             j["added_tokens"] = {{{"id", 20}, {"content", "<x>"}, {"special", "no"}}};
           },
           "special"},
          {"byte is special", [](Json& j) { j["added_tokens"] = Json::array({Added(0, "a")}); },
           "special"},
          {"pattern is broken",
           [](Json& j) {
             j["pre_tokenizer"] = {
                 {"type", "Sequence"},
                 {"pretokenizers",
                  {{{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}},
                   {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}};
           },
           "pattern"},
          {"template of an unknown token",
           [](Json& j) {
             j["post_processor"] = {{"type", "TemplateProcessing"},
                                    {"single", {{{"SpecialToken", {{"id", "<no>"}}}}}}};
           },
           "vocabulary lacks"},
      },
      absl::StatusCode::kInvalidArgument);
}

TEST(HostileFileTest, WhatIsNotSupportedIsNamed) {
  ExpectRefused(
      {
          {"wordpiece", [](Json& j) { j["model"]["type"] = "WordPiece"; }, "WordPiece"},
          {"fallback", [](Json& j) { j["model"]["byte_fallback"] = true; }, "byte_fallback"},
          {"suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, "</w>"},
          {"dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }, "dropout"},
          {"normalizer",
           [](Json& j) {
             j["normalizer"] = {{"type", "NFKD"}};
           },
           "NFKD"},
          {"metaspace",
           [](Json& j) {
             j["pre_tokenizer"] = {
                 {"type", "Sequence"},
                 {"pretokenizers",
                  {{{"type", "Digits"}}, {{"type", "Metaspace"}, {"replacement", "_"}}}}};
           },
           "Metaspace"},
          {"no pre-tokenizer", [](Json& j) { j["pre_tokenizer"] = nullptr; }, "ByteLevel"},
          {"decoder",
           [](Json& j) {
             j["decoder"] = {{"type", "WordPiece"}};
           },
           "WordPiece"},
          {"no decoder", [](Json& j) { j.erase("decoder"); }, "decoder"},
          {"post-processor",
           [](Json& j) {
             j["post_processor"] = {{"type", "BertProcessing"}};
           },
           "BertProcessing"},
          {"an end is appended",
           [](Json& j) {
             j["post_processor"] = {
                 {"type", "TemplateProcessing"},
                 {"single", {{{"Sequence", {{"id", "A"}}}}, {{"SpecialToken", {{"id", "a"}}}}}}};
           },
           "appends"},
      },
      absl::StatusCode::kUnimplemented);
}

TEST(HostileFileTest, TextThatIsNoJsonIsInvalidArgument) {
  for (const std::string& text :
       {std::string(""), std::string("{"), std::string("[]"), std::string("null"),
        std::string("{\"model\": \xFF}"), std::string(1'000'000, '['),
        absl::StrCat("{\"a\":", std::string(100'000, '{'))}) {
    EXPECT_EQ(Refusal(JsonSource(text)).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(Refusal(SmallJson().Source("[1]")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Refusal(SmallJson().Source(R"({"bos_token": "<s>"})")).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Refusal(SmallJson().Source(R"({"add_bos_token": true})")).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Refusal(SmallJson().Source(R"({"added_tokens_decoder": {"x": {}}})")).code(),
            absl::StatusCode::kInvalidArgument);
}

// Bytes of a good file changed at random: accepted or refused, and an accepted one still works.
TEST(HostileFileTest, ChangedFilesNeverCrash) {
  std::mt19937 random(3);
  SmallJson small;
  small.Add(20, "<s>", {{"special", true}, {"lstrip", true}});
  const std::string good = small.json.dump();
  for (int round = 0; round < 3000; ++round) {
    std::string text = good;
    for (int change = 0; change < 3; ++change) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 8);
          break;
        default:
          text.insert(at, good.substr(random() % good.size(), random() % 12));
      }
    }
    const auto tokenizer = Tokenizer::Create(JsonSource(text));
    if (!tokenizer.ok()) continue;
    const auto ids = (*tokenizer)
                         ->Encode("abcd <s> abc", Tokenizer::Special::kRecognise,
                                  Tokenizer::Begin::kAsConfigured);
    if (!ids.ok()) continue;
    for (const int32_t id : *ids) EXPECT_LT(id, (*tokenizer)->vocab_size());
  }
}

TokenizerSource SmallGguf() {
  TokenizerSource source;
  source.kind = TokenizerSource::Kind::kGguf;
  source.gguf.model = "gpt2";
  source.gguf.pre = "smollm";
  source.gguf.tokens = {"<s>", "a", "b", "ab"};
  source.gguf.types = {3, 1, 1, 1};
  source.gguf.merges = {"a b"};
  return source;
}

TEST(HostileFileTest, GgufMetadata) {
  ASSERT_TRUE(Refusal(SmallGguf()).ok());
  const auto expect = [](absl::StatusCode code, const char* says,
                         const std::function<void(GgufVocabulary&)>& change) {
    TokenizerSource source = SmallGguf();
    change(source.gguf);
    const absl::Status status = Refusal(source);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(says));
  };
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto kUnimplemented = absl::StatusCode::kUnimplemented;
  expect(kUnimplemented, "bert", [](GgufVocabulary& v) { v.model = std::string("bert"); });
  expect(kUnimplemented, "smollm", [](GgufVocabulary& v) { v.pre = std::string("unheard-of"); });
  expect(kUnimplemented, "tokenizer.ggml.pre", [](GgufVocabulary& v) { v.pre = std::string(""); });
  expect(kInvalid, "3 entries for 4", [](GgufVocabulary& v) { v.types.pop_back(); });
  expect(kInvalid, "token_type[1] is 9", [](GgufVocabulary& v) { v.types[1] = 9; });
  expect(kInvalid, "token_type[1] is 6", [](GgufVocabulary& v) { v.types[1] = 6; });
  expect(kInvalid, "both spelled", [](GgufVocabulary& v) { v.tokens[2] = std::string("a"); });
  expect(kInvalid, "merge 0", [](GgufVocabulary& v) { v.merges[0] = std::string("ab"); });
  expect(kInvalid, "lacks", [](GgufVocabulary& v) { v.merges[0] = std::string("b a"); });
  expect(kInvalid, "bos_token_id is 4", [](GgufVocabulary& v) { v.begin = 4; });
  expect(kInvalid, "eos_token_id is -2", [](GgufVocabulary& v) { v.end = -2; });
  expect(kInvalid, "no tokenizer.ggml.bos", [](GgufVocabulary& v) { v.add_begin = true; });
}

TEST(HostileFileTest, NoTokenizerIsFailedPreconditionWithItsReason) {
  TokenizerSource source;
  source.reason = "no tokenizer.json in the folder";
  const absl::Status status = Refusal(source);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no tokenizer.json in the folder"));
}

}  // namespace
}  // namespace vernier
