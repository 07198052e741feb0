#include "cli/columns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/str_split.h"
#include "cli/display_text.h"

namespace vernier::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Render(const std::vector<Column>& columns, const Canvas& canvas) {
  return RenderColumns(columns, canvas);
}

TEST(ColumnsTest, TextsStandSideBySideAndWrapAtWords) {
  EXPECT_EQ(Render({{"fp16", "the quick brown fox jumps over"}, {"nf4", "a dog"}}, {.columns = 45}),
            "fp16                  │ nf4\n"
            "──────────────────────┼──────────────────────\n"
            "the quick brown fox   │ a dog\n"
            "jumps over            │\n");
}

TEST(ColumnsTest, PartingIsMarkedInPlainText) {
  const std::string out = Render({{"a", "one two"}, {"b", "one ten", 5}}, {.columns = 60});
  EXPECT_THAT(out, HasSubstr("one t▸en"));
  EXPECT_THAT(out, Not(HasSubstr("\x1b")));
}

TEST(ColumnsTest, PartingIsColouredOnEveryLineThatFollows) {
  const std::string out = Render({{"a", "x"}, {"b", "one two three four five six seven", 4}},
                                 {.columns = 45, .colour = true});
  EXPECT_THAT(out, HasSubstr("one \x1b[33m▸two three four\x1b[0m\n"));
  EXPECT_THAT(out, HasSubstr("\x1b[33mfive six seven\x1b[0m\n"));
}

TEST(ColumnsTest, AShorterTextIsMarkedAtItsEnd) {
  EXPECT_THAT(Render({{"a", "one two"}, {"b", "one", 3}}, {.columns = 60}), HasSubstr("│ one▸\n"));
}

TEST(ColumnsTest, LongWordsAreCutBetweenCharacters) {
  std::string word;
  for (int i = 0; i < 30; ++i) word += "世";
  const std::string out = Render({{"a", word}, {"b", ""}}, {.columns = 45});
  EXPECT_THAT(out, HasSubstr("\n世世世世世世世世世世  │\n"));
  for (const auto line : absl::StrSplit(out, '\n')) EXPECT_LE(DisplayWidth(line), 45);
}

TEST(ColumnsTest, EveryRowKeepsTheBarInItsPlace) {
  const std::string out =
      Render({{"a", "e\u0301 世界 👩‍👩‍👧 abc\n\tindented"}, {"b", "1\n2\n3\n4"}},
             {.columns = 60});
  for (const absl::string_view line : absl::StrSplit(out, '\n', absl::SkipEmpty())) {
    const size_t bar = std::min(line.find("│"), line.find("┼"));
    ASSERT_NE(bar, absl::string_view::npos) << line;
    EXPECT_EQ(DisplayWidth(line.substr(0, bar)), 29) << line;
  }
}

TEST(ColumnsTest, ControlCharactersOfAModelAreHarmless) {
  const std::string out = Render({{"a\x1b", "\x1b[2J"}, {"b", "x"}}, {.columns = 60});
  EXPECT_THAT(out, HasSubstr("␛[2J"));
  EXPECT_THAT(out, Not(HasSubstr("\x1b")));
}

TEST(ColumnsTest, NarrowTerminalsStackTheTexts) {
  EXPECT_EQ(Render({{"fp16", "one two"}, {"nf4", "one ten", 5}}, {.columns = 30}),
            "fp16\none two\n\nnf4\none t▸en\n");
}

TEST(ColumnsTest, NoWidthIsTooSmall) {
  EXPECT_EQ(Render({{"ab", "世 x"}}, {.columns = 0}), "a\n世\nx\n");
}

TEST(ColumnsTest, CommonStartNeverCutsACharacter) {
  EXPECT_EQ(CommonStart("=-X", "=-Y"), 2u);
  EXPECT_EQ(CommonStart("a\u00e4", "a\u00e5"), 1u);  // the same first byte
  EXPECT_EQ(CommonStart("-e\u0301", "-eb"), 1u);     // the accent belongs to the e
  EXPECT_EQ(CommonStart("same", "same and more"), 4u);
  EXPECT_EQ(CommonStart("", "x"), 0u);
}

TEST(ColumnsTest, CommonStartNeverCutsAWord) {
  EXPECT_EQ(CommonStart("is a tool", "is a type"), 5u);
  EXPECT_EQ(CommonStart("three", "three4"), 0u);
  EXPECT_EQ(CommonStart("three.", "three, four"), 5u);
  EXPECT_EQ(CommonStart("same four", "same"), 4u);
}

}  // namespace
}  // namespace vernier::cli
