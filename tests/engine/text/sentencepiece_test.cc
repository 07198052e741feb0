// SentencePiece models: merges by score, best paths, unknown characters, spaces; and broken files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/text/unigram.h"
#include "tests/engine/text/sentencepiece_bytes.h"
#include "tests/engine/text/text_sources.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;
using testing::SmallModel;
using Ids = std::vector<int32_t>;

std::unique_ptr<Tokenizer> Make(const SmallModel& model) {
  auto made = Tokenizer::Create(model.Source());
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
}

Ids Encoded(const Tokenizer& tokenizer, absl::string_view text,
            Tokenizer::Special special = Tokenizer::Special::kAsText) {
  const auto ids = tokenizer.Encode(text, special, Tokenizer::Begin::kNever);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : Ids{};
}

// 3 to 9: ▁ a b c ab bc ▁a.
SmallModel Letters() {
  SmallModel model;
  for (const SmallModel::Piece& piece : std::vector<SmallModel::Piece>{
           {"▁", -10}, {"a", -11}, {"b", -12}, {"c", -13}, {"ab", -2}, {"bc", -1}, {"▁a", -3}}) {
    model.pieces.push_back(piece);
  }
  return model;
}

TEST(SentencePieceTest, TheBestScoreMergesFirst) {
  const auto tokenizer = Make(Letters());
  EXPECT_EQ(Encoded(*tokenizer, "abc"), (Ids{9, 8}));  // bc, then ▁a
  EXPECT_EQ(Encoded(*tokenizer, "ab"), (Ids{3, 7}));   // ab before ▁a
  EXPECT_EQ(Encoded(*tokenizer, ""), Ids{});
  EXPECT_EQ(Encoded(*tokenizer, "a a"), (Ids{9, 9}));
  EXPECT_EQ(tokenizer->begin_token(), 1);
  EXPECT_EQ(tokenizer->end_token(), 2);
  EXPECT_TRUE(tokenizer->adds_begin());
}

TEST(SentencePieceTest, EqualScoresMergeFromTheLeft) {
  SmallModel model = Letters();
  model.pieces[7].score = model.pieces[8].score = -1;
  EXPECT_EQ(Encoded(*Make(model), "abc"), (Ids{3, 7, 6}));
}

TEST(SentencePieceTest, UnknownCharactersAreBytesOrOneUnknownToken) {
  const auto without = Make(Letters());
  EXPECT_EQ(Encoded(*without, "ß\U0001f642a"), (Ids{3, 0, 4}));
  const auto with = Make(Letters().AddBytes());
  EXPECT_EQ(Encoded(*with, "aß"), (Ids{9, 10 + 0xC3, 10 + 0x9F}));
  EXPECT_EQ(with->Decode(Ids{9, 10 + 0xC3, 10 + 0x9F}, false), "aß");
  EXPECT_EQ(with->TokenBytes(10 + 0xC3, false), "\xC3");
  // What is spelled like a byte's token is text.
  EXPECT_EQ(with->Decode(Encoded(*with, "<0x0A>"), false), "<0x0A>");
  EXPECT_GT(Encoded(*with, "<0x0A>").size(), 6u);
}

TEST(SentencePieceTest, SpacesAreTidiedWhereTheFileSaysSo) {
  SmallModel model = Letters();
  const auto kept = Make(model);
  EXPECT_EQ(Encoded(*kept, " a  b "), (Ids{3, 9, 3, 3, 5, 3}));
  EXPECT_EQ(kept->Decode(Encoded(*kept, " a  b "), false), " a  b ");
  model.tidy_spaces = true;
  const auto tidied = Make(model);
  EXPECT_EQ(Encoded(*tidied, "  a  b "), (Ids{9, 3, 5}));
  EXPECT_EQ(Encoded(*tidied, "   "), Ids{});
  model.prepend_space = false;
  EXPECT_EQ(Encoded(*Make(model), " a b"), (Ids{4, 3, 5}));
}

TEST(SentencePieceTest, ControlTokensComeFromTemplateTextAlone) {
  const auto tokenizer = Make(Letters().AddBytes());
  EXPECT_EQ(Encoded(*tokenizer, "<s>a", Tokenizer::Special::kRecognise), (Ids{1, 9}));
  const Ids as_text = Encoded(*tokenizer, "<s>a</s><unk>");
  for (const int32_t special : {0, 1, 2}) {
    EXPECT_EQ(std::count(as_text.begin(), as_text.end(), special), 0);
  }
  EXPECT_EQ(tokenizer->Decode(as_text, false), "<s>a</s><unk>");
}

TEST(SentencePieceTest, UserDefinedTokensAreFoundBeforeAnyMerge) {
  SmallModel model = Letters();
  model.pieces.push_back({"bca", 0, 4});
  model.pieces.push_back({"▁▁", 0, 4});
  const auto tokenizer = Make(model);
  EXPECT_EQ(Encoded(*tokenizer, "abca"), (Ids{9, 10}));
  EXPECT_EQ(Encoded(*tokenizer, "a  b"), (Ids{9, 11, 5}));
  EXPECT_EQ(tokenizer->Decode(Ids{9, 11, 5}, false), "a  b");
}

TEST(SentencePieceTest, UnusedTokensAreNeverMade) {
  SmallModel model = Letters();
  model.pieces[8].type = 5;
  EXPECT_EQ(Encoded(*Make(model), "abc"), (Ids{3, 7, 6}));
  model.model_type = 1;
  EXPECT_EQ(Encoded(*Make(model), "bc"), (Ids{3, 5, 6}));
}

TEST(SentencePieceTest, ConfigSaysWhetherTextBegins) {
  TokenizerSource source = Letters().Source();
  source.tokenizer_config_json =
      R"({"add_bos_token": false, "added_tokens_decoder":
          {"10": {"content": "<x>", "special": true}}, "eos_token": "<x>"})";
  const auto tokenizer = Tokenizer::Create(source);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_FALSE((*tokenizer)->adds_begin());
  EXPECT_EQ((*tokenizer)->end_token(), 10);
  EXPECT_EQ(Encoded(**tokenizer, "a<x>", Tokenizer::Special::kRecognise), (Ids{9, 10}));
}

// The definition: of all ways to cut the text into tokens, the one with the best sum.
double BestSum(const TokenizerParts& parts, absl::string_view text) {
  if (text.empty()) return 0;
  double best = -std::numeric_limits<double>::infinity();
  for (size_t id = 0; id < parts.spellings.size(); ++id) {
    if (!std::isfinite(parts.scores[id]) || !absl::StartsWith(text, parts.spellings[id])) continue;
    best =
        std::max(best, parts.scores[id] + BestSum(parts, text.substr(parts.spellings[id].size())));
  }
  return best;
}

TEST(SentencePieceTest, UnigramTakesTheBestPath) {
  std::mt19937 random(20260917);
  SmallModel small;
  small.model_type = 1;
  for (const char* piece : {"▁", "a", "b", "aa", "ab", "ba", "aba", "bab", "▁a", "▁ab", "abba"}) {
    small.pieces.push_back({piece, -1.0f - static_cast<float>(random() % 1000) / 100});
  }
  const auto parts = PartsFromSentencePiece(small.Bytes(), "");
  ASSERT_TRUE(parts.ok()) << parts.status();
  const auto model = UnigramModel::Create(*parts);
  ASSERT_TRUE(model.ok()) << model.status();
  for (int round = 0; round < 200; ++round) {
    std::string text = "▁";
    for (size_t i = random() % 12; i > 0; --i) {
      text += std::vector<std::string>{"a", "b", "▁"}[random() % 3];
    }
    UnigramScratch scratch;
    Ids ids;
    (*model)->Encode(text, &scratch, &ids);
    double sum = 0;
    std::string joined;
    for (const int32_t id : ids) {
      sum += parts->scores[id];
      joined += parts->spellings[id];
    }
    ASSERT_EQ(joined, text);
    ASSERT_NEAR(sum, BestSum(*parts, text), 1e-9) << text;
  }
}

TEST(SentencePieceTest, UnigramGivesUnknownCharactersThePenalty) {
  SmallModel model = Letters();
  model.model_type = 1;
  EXPECT_EQ(Encoded(*Make(model), "a??b"), (Ids{9, 0, 5}));
  EXPECT_EQ(Encoded(*Make(model.AddBytes()), "a?b"), (Ids{9, 10 + '?', 5}));
}

// Counted, not timed: steps grow with the text and no faster, whatever it is.
TEST(SentencePieceTest, UnigramIsLinear) {
  SmallModel small = Letters();
  small.model_type = 1;
  small.pieces.push_back({std::string(64, 'a'), -1});
  const auto model = UnigramModel::Create(*PartsFromSentencePiece(small.Bytes(), ""));
  ASSERT_TRUE(model.ok());
  for (const size_t size : {size_t{1} << 12, size_t{1} << 16}) {
    UnigramScratch scratch;
    Ids ids;
    (*model)->Encode(std::string(size, 'a'), &scratch, &ids);
    EXPECT_LE(scratch.operations, static_cast<int64_t>(size) * 65);
    EXPECT_EQ(ids.size(), size / 64);
  }
}

TEST(SentencePieceTest, LongTextWithoutSpacesIsEncodedWhole) {
  const auto tokenizer = Make(Letters().AddBytes());
  const std::string text(1 << 20, 'b');
  EXPECT_EQ(Encoded(*tokenizer, text).size(), text.size() + 1);
}

absl::Status Refusal(const TokenizerSource& source) { return Tokenizer::Create(source).status(); }

TEST(SentencePieceTest, BrokenModelsAreRefusedWithTheirReason) {
  const auto expect = [](absl::StatusCode code, const char* says,
                         const std::function<void(SmallModel&)>& change) {
    SmallModel model = Letters();
    change(model);
    const absl::Status status = Refusal(model.Source());
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(says));
  };
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto kUnimplemented = absl::StatusCode::kUnimplemented;
  expect(kInvalid, "tokenizer.model: no pieces", [](SmallModel& m) { m.pieces.clear(); });
  expect(kInvalid, "token 3 has 0 bytes", [](SmallModel& m) { m.pieces[3].text.clear(); });
  expect(kInvalid, "token 3 has 1000000 bytes",
         [](SmallModel& m) { m.pieces[3].text = std::string(1'000'000, 'x'); });
  expect(kInvalid, "token 3 is not UTF-8", [](SmallModel& m) { m.pieces[3].text = "\xFF"; });
  expect(kInvalid, "both spelled", [](SmallModel& m) { m.pieces[3].text = "ab"; });
  expect(kInvalid, "score of token 3", [](SmallModel& m) { m.pieces[3].score = NAN; });
  expect(kInvalid, "type of token 3 is 9", [](SmallModel& m) { m.pieces[3].type = 9; });
  expect(kInvalid, "is special", [](SmallModel& m) { m.pieces[4].type = 3; });
  expect(kInvalid, "precompiled_charsmap", [](SmallModel& m) { m.character_map = "abc"; });
  expect(kUnimplemented, "model_type 3", [](SmallModel& m) { m.model_type = 3; });
  expect(kUnimplemented, "treat_whitespace_as_suffix",
         [](SmallModel& m) { m.more_trainer = testing::NumberField(24, 1); });
}

TEST(SentencePieceTest, CutAndChangedBytesNeverCrash) {
  const std::string good = Letters().AddBytes().Bytes();
  TokenizerSource source = Letters().Source();
  const auto check = [&](const std::string& bytes) {
    source.sentencepiece_model = bytes;
    const auto tokenizer = Tokenizer::Create(source);
    if (!tokenizer.ok()) return;
    for (const int32_t id : Encoded(**tokenizer, "abc a <s> ß")) {
      EXPECT_LT(id, (*tokenizer)->vocab_size());
    }
  };
  for (size_t size = 0; size < good.size(); size += 1 + size / 40) check(good.substr(0, size));
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    std::string bytes = good;
    for (int i = 0; i < 3; ++i) bytes[random() % 200] = static_cast<char>(random());
    check(bytes);
  }
  for (const std::string& bytes :
       {std::string("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"), std::string(20, '\xFF'),
        std::string("\x0B"), std::string("\x00", 1)}) {
    source.sentencepiece_model = bytes;
    EXPECT_EQ(Refusal(source).code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace vernier
