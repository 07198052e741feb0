// Text to ids and back: spans, begin tokens, ill-formed text, ids without text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/engine/text/text_sources.h"

namespace vernier {
namespace {

using testing::Gpt2;
using ::testing::HasSubstr;
using testing::SmallJson;
using Ids = std::vector<int32_t>;
using Begin = Tokenizer::Begin;
using Special = Tokenizer::Special;
using Kind = PromptSpan::Kind;

constexpr int32_t kEndOfText = 50256;
const std::string kEndOfTextSpelling = "<|endoftext|>";

bool Has(const absl::StatusOr<Ids>& ids, int32_t id) {
  return std::find(ids->begin(), ids->end(), id) != ids->end();
}

TEST(EncodeTest, SpecialTokensAreRecognisedOnlyWhereAsked) {
  const std::string text = "a" + kEndOfTextSpelling + "b";
  EXPECT_TRUE(Has(Gpt2().Encode(text, Special::kRecognise, Begin::kNever), kEndOfText));
  const auto as_text = Gpt2().Encode(text, Special::kAsText, Begin::kNever);
  EXPECT_FALSE(Has(as_text, kEndOfText));
  EXPECT_EQ(Gpt2().Decode(*as_text, false), text);
}

TEST(EncodeTest, ContentNeverBecomesASpecialToken) {
  const std::vector<std::vector<PromptSpan>> prompts = {
      {{Kind::kTemplate, "x"}, {Kind::kContent, kEndOfTextSpelling}},
      {{Kind::kTemplate, "<|endof"}, {Kind::kContent, "text|>"}},
      {{Kind::kContent, "<|endof"}, {Kind::kTemplate, "text|>"}},
      {{Kind::kTemplate, "<|"}, {Kind::kContent, "endoftext"}, {Kind::kTemplate, "|>"}},
      {{Kind::kContent, "<"}, {Kind::kContent, "|endoftext|>"}},
  };
  for (const auto& spans : prompts) {
    const auto ids = Gpt2().EncodeSpans(spans, Begin::kAsConfigured);
    ASSERT_TRUE(ids.ok());
    EXPECT_FALSE(Has(ids, kEndOfText));
  }
}

TEST(EncodeTest, TemplateTextMayBeginASpecialTokenInOneSpanAndEndItInTheNext) {
  const std::vector<PromptSpan> spans = {{Kind::kContent, kEndOfTextSpelling},
                                         {Kind::kTemplate, "<|endof"},
                                         {Kind::kTemplate, ""},
                                         {Kind::kTemplate, "text|>"},
                                         {Kind::kContent, kEndOfTextSpelling}};
  const auto ids = Gpt2().EncodeSpans(spans, Begin::kNever);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(std::count(ids->begin(), ids->end(), kEndOfText), 1);
}

TEST(EncodeTest, SpansAreTokenizedAsOneText) {
  const std::vector<PromptSpan> spans = {
      {Kind::kTemplate, "the capi"}, {Kind::kContent, "tal of Fra"}, {Kind::kTemplate, "nce"}};
  EXPECT_EQ(*Gpt2().EncodeSpans(spans, Begin::kNever),
            *Gpt2().Encode("the capital of France", Special::kAsText, Begin::kNever));
}

// A special token inside content is text whatever surrounds it, wherever the spans are cut.
TEST(EncodeTest, RandomSpansNeverLeakSpecialTokens) {
  std::mt19937 random(7);
  const std::string text = "a <|endoftext|> b <|endoftext|><|endoftext|>";
  for (int round = 0; round < 300; ++round) {
    std::vector<PromptSpan> spans;
    int64_t whole = 0;  // special tokens that lie in one run of template text
    std::string run;
    const auto count_run = [&] {
      for (size_t at = 0; (at = run.find(kEndOfTextSpelling, at)) != std::string::npos;
           at += kEndOfTextSpelling.size()) {
        ++whole;
      }
      run.clear();
    };
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random() % 24;
      const Kind kind = random() % 2 == 0 ? Kind::kTemplate : Kind::kContent;
      spans.push_back({kind, text.substr(at, length)});
      if (kind == Kind::kTemplate) {
        run += spans.back().text;
      } else {
        count_run();
      }
      at += length;
    }
    count_run();
    const auto ids = Gpt2().EncodeSpans(spans, Begin::kNever);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(std::count(ids->begin(), ids->end(), kEndOfText), whole);
    EXPECT_EQ(Gpt2().Decode(*ids, true), text);
  }
}

TEST(EncodeTest, IllFormedTextIsInvalidArgumentWithItsOffset) {
  for (const auto special : {Special::kAsText, Special::kRecognise}) {
    const auto ids = Gpt2().Encode("abc\xFF", special, Begin::kNever);
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(ids.status().message()), HasSubstr("byte 3"));
  }
  const std::vector<PromptSpan> spans = {{Kind::kTemplate, "a"}, {Kind::kContent, "\xC3"}};
  EXPECT_EQ(Gpt2().EncodeSpans(spans, Begin::kNever).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(EncodeTest, BeginTokenComesWhereTheFileSaysSo) {
  SmallJson small;
  small.Add(20, "<s>", {{"special", true}});
  EXPECT_FALSE(small.Make()->adds_begin());
  EXPECT_EQ(small.Make()->begin_token(), -1);

  const auto by_config = small.Make(R"({"bos_token": "<s>", "add_bos_token": true})");
  EXPECT_TRUE(by_config->adds_begin());
  EXPECT_EQ(*by_config->Encode("a", Special::kAsText, Begin::kAsConfigured), (Ids{20, 0}));
  EXPECT_EQ(*by_config->Encode("a", Special::kAsText, Begin::kNever), (Ids{0}));
  EXPECT_EQ(*by_config->Encode("", Special::kAsText, Begin::kAsConfigured), (Ids{20}));

  small.json["post_processor"] = nlohmann::json::parse(R"({"type": "Sequence", "processors": [
      {"type": "ByteLevel"},
      {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                {"Sequence": {"id": "A", "type_id": 0}}]}]})");
  const auto by_template = small.Make();
  EXPECT_EQ(*by_template->Encode("a", Special::kAsText, Begin::kAsConfigured), (Ids{20, 0}));
  EXPECT_EQ(by_template->begin_token(), 20);
  const auto overruled = small.Make(R"({"bos_token": {"content": "<s>"}, "add_bos_token": false})");
  EXPECT_FALSE(overruled->adds_begin());
  EXPECT_EQ(overruled->begin_token(), 20);
}

TEST(EncodeTest, PrefixSpaceIsAddedWhereNoneIs) {
  SmallJson small;
  small.json["pre_tokenizer"]["add_prefix_space"] = true;
  const auto tokenizer = small.Make();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(*tokenizer->Encode("a", Special::kAsText, Begin::kNever), (Ids{10}));
  EXPECT_EQ(*tokenizer->Encode(" a", Special::kAsText, Begin::kNever), (Ids{10}));
  EXPECT_EQ(*tokenizer->Encode("", Special::kAsText, Begin::kNever), Ids{});
}

TEST(EncodeTest, DecodeGivesWholeUtf8) {
  const auto ids = Gpt2().Encode("\U0001f642", Special::kAsText, Begin::kNever);
  ASSERT_GT(ids->size(), 1u);
  EXPECT_EQ(Gpt2().Decode(*ids, false), "\U0001f642");
  EXPECT_EQ(Gpt2().Decode(std::span(*ids).first(1), false), "\uFFFD");
  EXPECT_EQ(Gpt2().Decode(Ids{kEndOfText}, false), "");
  EXPECT_EQ(Gpt2().Decode(Ids{kEndOfText}, true), kEndOfTextSpelling);
}

TEST(EncodeTest, AModelsVocabularyMayBeLargerThanTheTokenizers) {
  EXPECT_EQ(Gpt2().vocab_size(), 50257);
  EXPECT_EQ(Gpt2().TokenBytes(50300, true), "");
  EXPECT_FALSE(Gpt2().IsSpecial(50300));
  EXPECT_EQ(Gpt2().Decode(Ids{50300, -1}, true), "");
}

TEST(EncodeTest, TokensAreFoundByTheirSpelling) {
  EXPECT_EQ(Gpt2().FindToken(kEndOfTextSpelling), kEndOfText);
  EXPECT_EQ(Gpt2().FindToken("no such token"), -1);
  EXPECT_EQ(Gpt2().begin_token(), kEndOfText);
  EXPECT_EQ(Gpt2().end_token(), kEndOfText);
  EXPECT_TRUE(Gpt2().IsSpecial(kEndOfText));
  EXPECT_EQ(Gpt2().TokenBytes(262, false), " the");
  EXPECT_GT(Gpt2().bytes(), 1 << 20);
}

TEST(EncodeTest, RandomTextComesBack) {
  std::mt19937 random(11);
  const char32_t samples[] = {'a',  'Z',  ' ',  ' ',   '\n',   '\'',   '0',     '.',    0,
                              0x7F, 0xA0, 0xE9, 0x301, 0x6771, 0x3000, 0x1F642, 0x200D, 0x10FFFF};
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (size_t i = random() % 60; i > 0; --i) {
      const char32_t c = samples[random() % std::size(samples)];
      if (c < 0x80) {
        text += static_cast<char>(c);
      } else if (c < 0x800) {
        text += {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 63))};
      } else if (c < 0x10000) {
        text += {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 63)),
                 static_cast<char>(0x80 | (c & 63))};
      } else {
        text += {static_cast<char>(0xF0 | (c >> 18)), static_cast<char>(0x80 | ((c >> 12) & 63)),
                 static_cast<char>(0x80 | ((c >> 6) & 63)), static_cast<char>(0x80 | (c & 63))};
      }
    }
    const auto ids = Gpt2().Encode(text, Special::kAsText, Begin::kNever);
    ASSERT_TRUE(ids.ok());
    ASSERT_EQ(Gpt2().Decode(*ids, false), text);
  }
}

}  // namespace
}  // namespace vernier
