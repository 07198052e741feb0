#include "cli/display_text.h"

#include <gtest/gtest.h>

namespace vernier::cli {
namespace {

TEST(DisplayTextTest, EscapeSequencesBecomeVisible) {
  EXPECT_EQ(Neutralize("\x1b[31mred\x07"), "␛[31mred␇");
  EXPECT_EQ(Neutralize(std::string("\0\x7f", 2)), "␀␡");
}

TEST(DisplayTextTest, SecondControlBlockIsReplaced) {
  EXPECT_EQ(Neutralize("a\u009b31m"), "a\uFFFD31m");  // the one-character CSI
}

TEST(DisplayTextTest, CarriageReturnCannotOverwriteALine) { EXPECT_EQ(Neutralize("a\rb"), "a␍b"); }

TEST(DisplayTextTest, NewlineAndTabStay) { EXPECT_EQ(Neutralize("a\n\tb"), "a\n\tb"); }

TEST(DisplayTextTest, DirectionCannotBeTurned) {
  EXPECT_EQ(Neutralize("a\u202Eb\u2066"), "a\uFFFDb\uFFFD");
}

TEST(DisplayTextTest, IllFormedBytesAreReplaced) {
  EXPECT_EQ(Neutralize("a\xff"
                       "b\xe2\x82"),
            "a\uFFFDb\uFFFD");
}

TEST(DisplayTextTest, OrdinaryTextStays) {
  EXPECT_EQ(Neutralize("Grüße, 世界 👩‍👩‍👧"), "Grüße, 世界 👩‍👩‍👧");
}

TEST(DisplayTextTest, WideCharactersTakeTwoColumns) {
  EXPECT_EQ(DisplayWidth("abc"), 3);
  EXPECT_EQ(DisplayWidth("世界"), 4);
  EXPECT_EQ(DisplayWidth("e\u0301"), 1);
  EXPECT_EQ(DisplayWidth("👩‍👩‍👧"), 2);
  EXPECT_EQ(DisplayWidth("🇩🇪"), 2);
  EXPECT_EQ(DisplayWidth(""), 0);
}

TEST(DisplayTextTest, WhatIsTooLongLosesItsMiddle) {
  EXPECT_EQ(Shorten("abc", 3), "abc");
  EXPECT_EQ(Shorten("abcdefgh", 5), "ab…gh");
  EXPECT_EQ(Shorten("abcdefgh", 4), "ab…h");
  EXPECT_EQ(Shorten("abcdefgh", 1), "…");
  for (int columns = 1; columns < 12; ++columns) {
    EXPECT_LE(DisplayWidth(Shorten("世界世界e\u0301🇩🇪世", columns)), columns) << columns;
  }
}

TEST(DisplayTextTest, GlyphsCoverTheTextWithoutCuttingAClusterInTwo) {
  const std::string text = "e\u0301🇩🇪👩‍👩‍👧x";
  const std::vector<Glyph> glyphs = Glyphs(text);
  ASSERT_EQ(glyphs.size(), 4u);
  EXPECT_EQ(glyphs[0].bytes, "e\u0301");
  EXPECT_EQ(glyphs[1].bytes, "🇩🇪");
  EXPECT_EQ(glyphs[2].bytes, "👩‍👩‍👧");
  EXPECT_EQ(glyphs[3].bytes, "x");
}

}  // namespace
}  // namespace vernier::cli
