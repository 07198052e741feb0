// What each behavior makes of a match, as tokenizer.json defines it.
#include "engine/text/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vernier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Pieces(const std::vector<SplitRule>& rules, const std::string& text) {
  const auto pre_tokenizer = PreTokenizer::Create(rules);
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  PreTokenizerRun run(&*pre_tokenizer);
  const auto pieces = run.Split(text);
  EXPECT_TRUE(pieces.ok()) << pieces.status();
  std::vector<std::string> out;
  for (const TextRange piece : **pieces) {
    out.push_back(text.substr(piece.begin, piece.end - piece.begin));
  }
  return out;
}

std::vector<std::string> Dashes(SplitBehavior behavior, bool invert = false) {
  return Pieces({{"-", Pattern::Syntax::kRegex, behavior, invert}}, "the-final--countdown-");
}

// The example of Hugging Face's documentation.
TEST(PreTokenizerTest, BehaviorsAreThoseOfTokenizers) {
  EXPECT_THAT(Dashes(SplitBehavior::kRemoved), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(Dashes(SplitBehavior::kIsolated),
              ElementsAre("the", "-", "final", "-", "-", "countdown", "-"));
  EXPECT_THAT(Dashes(SplitBehavior::kContiguous),
              ElementsAre("the", "-", "final", "--", "countdown", "-"));
  EXPECT_THAT(Dashes(SplitBehavior::kMergedWithPrevious),
              ElementsAre("the-", "final-", "-", "countdown-"));
  EXPECT_THAT(Dashes(SplitBehavior::kMergedWithNext),
              ElementsAre("the", "-final", "-", "-countdown", "-"));
  EXPECT_THAT(Dashes(SplitBehavior::kRemoved, true), ElementsAre("-", "-", "-", "-"));
}

TEST(PreTokenizerTest, Gpt2PatternCutsWordsNumbersAndSpaces) {
  EXPECT_THAT(Pieces({{kGpt2Pattern}}, "Hello world's  2023!!\n\n x"),
              ElementsAre("Hello", " world", "'s", " ", " 2023", "!!", "\n\n", " x"));
}

TEST(PreTokenizerTest, EachRuleCutsWithinThePiecesOfTheLast) {
  EXPECT_THAT(Pieces({{R"(\p{N})"}, {kGpt2Pattern}}, "in 2023."),
              ElementsAre("in", " ", "2", "0", "2", "3", "."));
}

TEST(PreTokenizerTest, LiteralPatternsHaveNoMagic) {
  EXPECT_THAT(Pieces({{".", Pattern::Syntax::kLiteral}}, "a.b"), ElementsAre("a", ".", "b"));
}

TEST(PreTokenizerTest, ClassesFollowUnicode) {
  EXPECT_THAT(Pieces({{kGpt2Pattern}}, "\u6771\u4eac\u00a0\u0663\u0664"),
              ElementsAre("\u6771\u4eac", "\u00a0", "\u0663\u0664"));
}

TEST(PreTokenizerTest, EmptyMatchesCutNothing) {
  EXPECT_THAT(Pieces({{"x*"}}, "\u00e9axxb"), ElementsAre("\u00e9a", "xx", "b"));
  EXPECT_THAT(Pieces({{"x*"}}, ""), IsEmpty());
}

TEST(PreTokenizerTest, BrokenPatternIsInvalidArgument) {
  for (const std::string& pattern :
       {std::string("(a"), std::string("[z-a]"), std::string(""), std::string(100'000, 'a'),
        std::string(2000, '('), std::string("\\C"), std::string("(?<=a+)b")}) {
    const auto created = PreTokenizer::Create({{pattern}});
    EXPECT_EQ(created.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
    EXPECT_THAT(std::string(created.status().message()), HasSubstr("pattern"));
  }
}

TEST(PreTokenizerTest, CatastrophicPatternIsResourceExhausted) {
  const auto pre_tokenizer = PreTokenizer::Create({{"(a|aa|a)+$"}});
  ASSERT_TRUE(pre_tokenizer.ok());
  PreTokenizerRun run(&*pre_tokenizer);
  EXPECT_EQ(run.Split(std::string(64, 'a') + "c").status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(PreTokenizerTest, AMegabyteOfOneClassStaysWithinTheLimits) {
  for (const std::string unit : {"a", " ", "\n", "!", "1", "\u6771"}) {
    std::string text;
    while (text.size() < (1u << 20)) text += unit;
    for (const std::string tail : {"", "x", "\n"}) {
      const auto pre_tokenizer = PreTokenizer::Create({{kGpt2Pattern}});
      ASSERT_TRUE(pre_tokenizer.ok());
      PreTokenizerRun run(&*pre_tokenizer);
      EXPECT_TRUE(run.Split(text + tail).ok()) << unit;
    }
  }
}

}  // namespace
}  // namespace vernier
