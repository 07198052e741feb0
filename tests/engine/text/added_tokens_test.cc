// Where added tokens are found, by their flags.
#include <gtest/gtest.h>

#include "tests/engine/text/text_sources.h"

namespace vernier {
namespace {

using testing::SmallJson;
using Ids = std::vector<int32_t>;

Ids Encoded(const SmallJson& small, const std::string& text,
            Tokenizer::Special special = Tokenizer::Special::kRecognise) {
  const auto tokenizer = small.Make();
  EXPECT_NE(tokenizer, nullptr);
  if (tokenizer == nullptr) return {};
  const auto ids = tokenizer->Encode(text, special, Tokenizer::Begin::kNever);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : Ids{};
}

TEST(AddedTokensTest, TheLongestWinsAndWhatIsLeftIsText) {
  SmallJson small;
  small.Add(20, "<a>", {}).Add(21, "<a>b", {}).Add(22, "<a>bcX", {});
  EXPECT_EQ(Encoded(small, "c<a>bcd"), (Ids{2, 21, 11}));
  EXPECT_EQ(Encoded(small, "<a<a>"), (Ids{5, 0, 20}));
}

TEST(AddedTokensTest, StripsTakeWhiteSpaceAlong) {
  SmallJson small;
  small.Add(20, "<l>", {{"lstrip", true}}).Add(21, "<r>", {{"rstrip", true}});
  EXPECT_EQ(Encoded(small, "a \n\u3000<l> a"), (Ids{0, 20, 10}));
  EXPECT_EQ(Encoded(small, "a <r> \t a"), (Ids{0, 4, 21, 0}));
  EXPECT_EQ(Encoded(small, "<r> <l>"), (Ids{21, 20}));  // the space is taken once
}

TEST(AddedTokensTest, SingleWordStandsBetweenNonWordCharacters) {
  SmallJson small;
  small.Add(20, "bc", {{"single_word", true}});
  // "bc" has an id in the vocabulary.
  EXPECT_EQ(small.Make(), nullptr);
  small = SmallJson();
  small.Add(20, "cb", {{"single_word", true}});
  EXPECT_EQ(Encoded(small, "cb a"), (Ids{20, 10}));
  EXPECT_EQ(Encoded(small, "acb"), (Ids{0, 2, 1}));
  EXPECT_EQ(Encoded(small, "<cb>"), (Ids{5, 20, 6}));
}

TEST(AddedTokensTest, NormalizedOnesAreFoundBehindTheNormalizer) {
  SmallJson small;
  small.json["normalizer"] = {{"type", "NFC"}};
  small.Add(20, "e\u0301", {{"normalized", true}}).Add(21, "i\u0301", {{"normalized", false}});
  EXPECT_EQ(Encoded(small, "a\u00e9b"), (Ids{0, 20, 1}));
  EXPECT_EQ(Encoded(small, "ae\u0301b"), (Ids{0, 20, 1}));
  EXPECT_EQ(Encoded(small, "ai\u0301b"), (Ids{0, 21, 1}));
  EXPECT_EQ(Encoded(small, "a\u00edb"), (Ids{8}));  // no tokens for its bytes: nothing
}

TEST(AddedTokensTest, SpecialOnesAreTextWhereTextIsAsked) {
  SmallJson small;
  small.Add(20, "<a>", {{"special", true}}).Add(21, "<b>", {{"special", false}});
  EXPECT_EQ(Encoded(small, "<a><b>"), (Ids{20, 21}));
  EXPECT_EQ(Encoded(small, "<a><b>", Tokenizer::Special::kAsText), (Ids{5, 0, 6, 21}));
}

// A file whose merges or vocabulary lead to a special token does not open a way around that.
TEST(AddedTokensTest, MergesNeverMakeASpecialToken) {
  for (const bool ignore_merges : {false, true}) {
    SmallJson small;
    small.json["model"]["ignore_merges"] = ignore_merges;
    small.Add(9, "abc", {{"special", true}});
    EXPECT_EQ(Encoded(small, "abc", Tokenizer::Special::kAsText), (Ids{8, 2}));
    EXPECT_EQ(Encoded(small, "abc"), (Ids{9}));
  }
}

TEST(AddedTokensTest, FlagsOfTheConfigurationWin) {
  SmallJson small;
  small.Add(20, "<a>", {{"special", false}});
  const auto tokenizer = small.Make(
      R"({"added_tokens_decoder": {"20": {"content": "<a>", "special": true},
                                   "21": {"content": "<b>", "special": false}}})");
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_TRUE(tokenizer->IsSpecial(20));
  EXPECT_FALSE(tokenizer->IsSpecial(21));
  EXPECT_EQ(tokenizer->FindToken("<b>"), 21);
}

}  // namespace
}  // namespace vernier
