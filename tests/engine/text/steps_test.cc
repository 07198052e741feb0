// The steps that tokenizer.json and GGUF state around a model: normalizers, Metaspace, decoders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "engine/text/character_map.h"
#include "engine/text/normalizer.h"
#include "engine/text/tokenizer_parts.h"
#include "tests/engine/text/sentencepiece_bytes.h"
#include "tests/engine/text/text_sources.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;
using testing::JsonSource;
using testing::ModelFileSource;
using testing::TestDataPath;
using Ids = std::vector<int32_t>;
using Json = nlohmann::json;
using Kind = NormalizerStep::Kind;

std::string Normalized(const std::vector<NormalizerStep>& steps, const std::string& text) {
  const auto normalizer = Normalizer::Create(steps);
  EXPECT_TRUE(normalizer.ok()) << normalizer.status();
  const auto normal = normalizer->Apply(text);
  EXPECT_TRUE(normal.ok()) << normal.status();
  return normal.ok() ? normal->value_or(text) : "";
}

TEST(NormalizerTest, StepsFollowEachOther) {
  EXPECT_EQ(Normalized({{.kind = Kind::kNfc}}, "e\u0301\uFB01"), "é\uFB01");
  EXPECT_EQ(Normalized({{.kind = Kind::kNfkc}}, "e\u0301\uFB01 \u2460\uFF21"), "éfi 1A");
  EXPECT_EQ(Normalized({{.kind = Kind::kLowercase}}, "AÉ\u0130Σß"), "aéi\u0307σß");
  EXPECT_EQ(Normalized({{.kind = Kind::kPrepend, .content = "▁"},
                        {.kind = Kind::kReplace, .pattern = " ", .content = "▁"}},
                       " a b"),
            "▁▁a▁b");
  EXPECT_EQ(Normalized({{.kind = Kind::kPrepend, .content = "▁"}}, ""), "");
  EXPECT_EQ(Normalized({{.kind = Kind::kTidySpaces}}, "  a   b "), "a b");
}

TEST(NormalizerTest, PatternsAreReplacedWhereTheyMatch) {
  const auto replace = [](const char* pattern, const char* content, const char* text) {
    return Normalized({{.kind = Kind::kReplace,
                        .pattern = pattern,
                        .syntax = Pattern::Syntax::kRegex,
                        .content = content}},
                      text);
  };
  EXPECT_EQ(replace(" {2,}", "_", "a  b c   "), "a_b c_");
  EXPECT_EQ(replace("x*", "-", "éxé"), "-é-é-");
  EXPECT_EQ(replace("z", "-", "éxé"), "éxé");
}

TEST(NormalizerTest, GrowthIsBounded) {
  const auto normalizer = Normalizer::Create(
      {{.kind = Kind::kReplace, .pattern = "a", .content = std::string(1 << 16, 'b')}});
  ASSERT_TRUE(normalizer.ok());
  EXPECT_EQ(normalizer->Apply(std::string(1000, 'a')).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Normalizer::Create({{.kind = Kind::kReplace}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Normalizer::Create({{.kind = Kind::kPrepend, .content = "\xFF"}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

std::string Unit(uint32_t unit) {
  std::string out;
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(unit >> shift);
  return out;
}

// A trie of one key, "A", that becomes "bc": the root at 0, the key's unit at 1 ^ 'A', its value
// beside it.
std::string MapOfOneKey(const std::string& replacements) {
  std::vector<uint32_t> units(256);
  units[0] = 1 << 10;
  const uint32_t at = 1 ^ 'A';
  units[at] = 'A' | 1 << 8 | 2 << 10;
  units[at ^ 2] = 0x80000000;
  std::string blob = Unit(1024);
  for (const uint32_t unit : units) blob += Unit(unit);
  return blob + replacements;
}

TEST(CharacterMapTest, TheLongestMatchIsReplaced) {
  const std::string blob = MapOfOneKey(std::string("bc\0", 3));
  ASSERT_TRUE(CheckCharacterMap(blob).ok());
  EXPECT_EQ(Normalized({{.kind = Kind::kCharacterMap, .content = blob}}, "éAxA"), "ébcxbc");
}

TEST(CharacterMapTest, BrokenMapsAreRefusedOrHarmless) {
  const std::string good = MapOfOneKey(std::string("bc\0", 3));
  for (const std::string& bad : {std::string(), good.substr(0, 100), Unit(1 << 30) + good,
                                 MapOfOneKey("bc"), MapOfOneKey(std::string("\xFF\0", 2))}) {
    EXPECT_EQ(CheckCharacterMap(bad).code(), absl::StatusCode::kInvalidArgument);
  }
  for (size_t at = 4; at < 1028; ++at) {
    std::string changed = good;
    changed[at] = '\xFF';
    std::string out;
    ASSERT_TRUE(CheckCharacterMap(changed).ok());
    EXPECT_TRUE(AppendMapped(changed, "AéAA", 1 << 10, &out));
  }
}

// tok512 as a converted tokenizer.json has it; `change` may make other files of it.
Json Tok512Json() {
  const auto source = ModelFileSource(TestDataPath("tokenizers/tok512/tok512.model"));
  auto parts = PartsFromSentencePiece(source.sentencepiece_model, "");
  EXPECT_TRUE(parts.ok()) << parts.status();
  std::stable_sort(parts->merges.begin(), parts->merges.end(),
                   [](const BpeMerge& a, const BpeMerge& b) { return a.rank < b.rank; });
  Json json = Json::parse(R"({"added_tokens": [
      {"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true},
      {"id": 2, "content": "</s>", "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
      {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "byte_fallback": true, "fuse_unk": true, "unk_token": "<unk>",
      "vocab": {}, "merges": []}})");
  for (size_t id = 0; id < parts->spellings.size(); ++id) {
    json["model"]["vocab"][parts->spellings[id]] = id;
  }
  for (const BpeMerge& merge : parts->merges) {
    json["model"]["merges"].push_back(
        {parts->spellings[merge.left], parts->spellings[merge.right]});
  }
  return json;
}

std::unique_ptr<Tokenizer> Make(const TokenizerSource& source) {
  auto made = Tokenizer::Create(source);
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
}

Ids Encoded(const Tokenizer& tokenizer, const std::string& text) {
  const auto ids =
      tokenizer.Encode(text, Tokenizer::Special::kRecognise, Tokenizer::Begin::kAsConfigured);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : Ids{};
}

const std::vector<std::string>& Texts() {
  static const auto* const texts =
      new std::vector<std::string>{"Once upon a time, there was a little girl named Lily.",
                                   "a",
                                   "\n\ttab",
                                   "ß \U0001f642 東京",
                                   "she said: \"I don't know!\" 1234",
                                   "<0x0A>",
                                   "the the the"};
  return *texts;
}

TEST(TokenizerJsonStepsTest, AConvertedFileIsItsSentencePieceModel) {
  const auto model = Make(ModelFileSource(TestDataPath("tokenizers/tok512/tok512.model")));
  const auto json = Make(JsonSource(Tok512Json().dump()));
  for (const std::string& text : Texts()) {
    EXPECT_EQ(Encoded(*json, text), Encoded(*model, text)) << text;
    EXPECT_EQ(json->Decode(Encoded(*json, text), false), text);
  }
  // Only SentencePiece tidies spaces.
  EXPECT_EQ(json->Decode(Encoded(*json, " a  b "), false), " a  b ");
  EXPECT_EQ(Encoded(*json, "a</s>a").size(), 4u);
}

TEST(TokenizerJsonStepsTest, MetaspaceMeansPrependAndReplace) {
  Json file = Tok512Json();
  const auto plain = Make(JsonSource(file.dump()));
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}};
  file["decoder"] = {
      {"type", "Sequence"},
      {"decoders", {{{"type", "Metaspace"}, {"replacement", "▁"}}, {{"type", "ByteFallback"}}}}};
  const auto first = Make(JsonSource(file.dump()));
  file["pre_tokenizer"]["prepend_scheme"] = "always";
  file["pre_tokenizer"]["split"] = true;
  const auto always = Make(JsonSource(file.dump()));
  file["pre_tokenizer"]["prepend_scheme"] = "never";
  const auto never = Make(JsonSource(file.dump()));
  for (const std::string& text : Texts()) {
    EXPECT_EQ(Encoded(*first, text), Encoded(*plain, text)) << text;
    EXPECT_EQ(Encoded(*always, text), Encoded(*plain, text)) << text;
    EXPECT_EQ(first->Decode(Encoded(*first, text), false), text);
  }
  // Where a text begins with a space, none is added.
  EXPECT_EQ(Encoded(*first, " the"), Encoded(*plain, "the"));
  EXPECT_EQ(Encoded(*never, " the"), Encoded(*plain, "the"));
  EXPECT_EQ(Encoded(*always, "a</s>the"), Encoded(*plain, "a</s>the"));
  EXPECT_EQ(Encoded(*first, "a</s> the"), Encoded(*plain, "a</s>the"));
  EXPECT_NE(Encoded(*first, "a</s>the"), Encoded(*plain, "a</s>the"));
}

TEST(TokenizerJsonStepsTest, UnigramFilesTakeTheBestPath) {
  const Json file = Json::parse(R"({"model": {"type": "Unigram", "unk_id": 0, "vocab":
      [["<unk>", 0.0], ["▁", -3.0], ["a", -2.5], ["b", -2.0], ["▁a", -3.2], ["ab", -1.0]]},
    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
    "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}})");
  const auto tokenizer = Make(JsonSource(file.dump()));
  EXPECT_EQ(Encoded(*tokenizer, "ab a"), (Ids{1, 5, 4}));
  EXPECT_EQ(Encoded(*tokenizer, "axyb"), (Ids{4, 0, 3}));
  EXPECT_EQ(tokenizer->Decode(Ids{1, 5, 4}, false), "ab a");
}

TEST(TokenizerJsonStepsTest, IgnoreMergesTakesATokenOfSeveralWords) {
  Json file = Tok512Json();
  file["model"]["vocab"]["▁zz▁zz"] = 512;
  const auto merged = Make(JsonSource(file.dump()));
  file["model"]["ignore_merges"] = true;
  const auto whole = Make(JsonSource(file.dump()));
  EXPECT_GT(Encoded(*merged, "zz zz").size(), 2u);
  EXPECT_EQ(Encoded(*whole, "zz zz"), (Ids{1, 512}));
}

TEST(TokenizerJsonStepsTest, NormalizedAddedTokensAreFoundBehindTheNormalizer) {
  Json file = Tok512Json();
  file["normalizer"] = {{"type", "Lowercase"}};
  file["added_tokens"].push_back({{"id", 600}, {"content", "<X>"}, {"normalized", true}});
  file["added_tokens"].push_back({{"id", 601}, {"content", "<Y>"}, {"normalized", false}});
  const auto tokenizer = Make(JsonSource(file.dump()));
  EXPECT_EQ(Encoded(*tokenizer, "<x><X><Y>"), (Ids{1, 600, 600, 601}));
  EXPECT_GT(Encoded(*tokenizer, "<y>").size(), 2u);
}

TEST(TokenizerJsonStepsTest, BrokenAndUnsupportedStepsAreNamed) {
  const auto expect = [](absl::StatusCode code, const char* says,
                         const std::function<void(Json&)>& change) {
    Json file = Tok512Json();
    change(file);
    const absl::Status status = Tokenizer::Create(JsonSource(file.dump())).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(says));
  };
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto kUnimplemented = absl::StatusCode::kUnimplemented;
  expect(kInvalid, "prepend", [](Json& j) { j["normalizer"]["normalizers"][0].erase("prepend"); });
  expect(kInvalid, "base64", [](Json& j) {
    j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "?"}};
  });
  expect(kUnimplemented, "64 steps", [](Json& j) {
    j["normalizer"] = {{"type", "Sequence"},
                       {"normalizers", std::vector<Json>(100, {{"type", "NFC"}})}};
  });
  expect(kInvalid, "replacement", [](Json& j) {
    j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "__"}};
  });
  expect(kUnimplemented, "prepend_scheme last", [](Json& j) {
    j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "last"}};
  });
  expect(kUnimplemented, "ByteFallback behind Fuse",
         [](Json& j) { std::swap(j["decoder"]["decoders"][0], j["decoder"]["decoders"][2]); });
  expect(kUnimplemented, "longer",
         [](Json& j) { j["decoder"]["decoders"][0]["content"] = "a long one"; });
  expect(kInvalid, "start", [](Json& j) { j["decoder"]["decoders"][3]["start"] = -1; });
  expect(kInvalid, "model.vocab[0]", [](Json& j) {
    j["model"] = {{"type", "Unigram"}, {"vocab", {1}}};
  });
  expect(kInvalid, "unk_id is 5", [](Json& j) {
    j["model"] = {
        {"type", "Unigram"}, {"unk_id", 5}, {"vocab", Json::array({Json::array({"a", 0.0})})}};
  });
}

TokenizerSource Tok512Gguf() {
  const auto file = ModelFileSource(TestDataPath("tokenizers/tok512/tok512.model"));
  const auto parts = PartsFromSentencePiece(file.sentencepiece_model, "");
  TokenizerSource source;
  source.kind = TokenizerSource::Kind::kGguf;
  source.gguf.model = "llama";
  source.gguf.tokens = parts->spellings;
  source.gguf.types.assign(512, 6);
  source.gguf.types[0] = 2;
  source.gguf.types[1] = source.gguf.types[2] = 3;
  source.gguf.scores.assign(512, 0);
  for (size_t id = 259; id < 512; ++id) {
    source.gguf.types[id] = 1;
    source.gguf.scores[id] = 259.0f - static_cast<float>(id);
  }
  source.gguf.begin = 1;
  source.gguf.end = 2;
  source.gguf.add_begin = true;
  return source;
}

TEST(GgufScoresTest, TheSameVocabularyGivesTheSameIds) {
  const auto model = Make(ModelFileSource(TestDataPath("tokenizers/tok512/tok512.model")));
  TokenizerSource source = Tok512Gguf();
  const auto gguf = Make(source);
  source.gguf.remove_extra_whitespaces = true;
  const auto tidied = Make(source);
  for (const std::string& text : Texts()) {
    EXPECT_EQ(Encoded(*gguf, text), Encoded(*model, text)) << text;
    EXPECT_EQ(gguf->Decode(Encoded(*gguf, text), false), text);
  }
  EXPECT_EQ(Encoded(*tidied, "  a   b "), Encoded(*model, "  a   b "));
  EXPECT_EQ(gguf->Decode(Encoded(*gguf, "  a   b "), false), "  a   b ");
  source.gguf.remove_extra_whitespaces = source.gguf.add_space_prefix = false;
  EXPECT_EQ(Encoded(*Make(source), " the"), Encoded(*model, "the"));
}

TEST(GgufScoresTest, BrokenVocabulariesAreRefused) {
  TokenizerSource source = Tok512Gguf();
  source.gguf.scores.pop_back();
  EXPECT_THAT(std::string(Tokenizer::Create(source).status().message()),
              HasSubstr("tokenizer.ggml.scores has 511 entries for 512 tokens"));
  source = Tok512Gguf();
  source.gguf.unknown = 512;
  EXPECT_THAT(std::string(Tokenizer::Create(source).status().message()),
              HasSubstr("unknown_token_id is 512"));
}

}  // namespace
}  // namespace vernier
