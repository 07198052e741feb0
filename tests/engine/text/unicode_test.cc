// UTF-8 and normal form C.
#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>
#include <random>

#include "engine/text/byte_alphabet.h"
#include "engine/text/normalize.h"
#include "engine/text/utf8.h"

namespace vernier {
namespace {

TEST(Utf8Test, FindsTheFirstIllFormedByte) {
  EXPECT_EQ(FirstIllFormedByte(""), -1);
  EXPECT_EQ(FirstIllFormedByte("plain text that is longer than a word"), -1);
  EXPECT_EQ(FirstIllFormedByte("a\xC3\xA9 \xE6\x9D\xB1 \xF0\x9F\x99\x82"), -1);
  EXPECT_EQ(FirstIllFormedByte(absl::string_view("a\0b", 3)), -1);
  EXPECT_EQ(FirstIllFormedByte("12345678\xFF"), 8);
  EXPECT_EQ(FirstIllFormedByte("ab\xC0\x80"), 2);        // overlong
  EXPECT_EQ(FirstIllFormedByte("\xED\xA0\x80"), 0);      // surrogate
  EXPECT_EQ(FirstIllFormedByte("\xF4\x90\x80\x80"), 0);  // above U+10FFFF
  EXPECT_EQ(FirstIllFormedByte("abc\xE6\x9D"), 3);       // cut
  EXPECT_EQ(FirstIllFormedByte("\xE0\x9F\xBF"), 0);      // overlong
  EXPECT_EQ(FirstIllFormedByte("\xF0\x8F\xBF\xBF"), 0);  // overlong
  EXPECT_EQ(FirstIllFormedByte("\x80"), 0);
}

// Unicode 15, table 3-8: one U+FFFD a maximal subpart.
TEST(Utf8Test, MendsByMaximalSubparts) {
  EXPECT_EQ(MendUtf8("a\xF1\x80\x80\xE1\x80\xC2"
                     "b\x80"
                     "c\x80\xBF"
                     "d"),
            "a\uFFFD\uFFFD\uFFFD"
            "b\uFFFD"
            "c\uFFFD\uFFFD"
            "d");
  EXPECT_EQ(MendUtf8("\xC0\xAF"), "\uFFFD\uFFFD");
  EXPECT_EQ(MendUtf8("whole \xF0\x9F\x99\x82"), "whole \xF0\x9F\x99\x82");
}

TEST(NormalizeTest, ComposesAndOrders) {
  EXPECT_EQ(NormalizedIfChanged("plain"), std::nullopt);
  EXPECT_EQ(NormalizedIfChanged("caf\u00e9 \u6771\u4eac"), std::nullopt);
  EXPECT_EQ(NormalizedIfChanged("e\u0301"), "\u00e9");
  EXPECT_EQ(NormalizedIfChanged("A\u030A"), "\u00c5");
  EXPECT_EQ(NormalizedIfChanged("\u212B"), "\u00c5");               // angstrom sign
  EXPECT_EQ(NormalizedIfChanged("\u1100\u1161\u11A8"), "\uAC01");   // Hangul
  EXPECT_EQ(NormalizedIfChanged("a\u0315\u0300"), "\u00e0\u0315");  // marks in order
  EXPECT_EQ(NormalizedIfChanged("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(NormalizedIfChanged("\u0958"), "\u0915\u093C");  // excluded from composition
  EXPECT_EQ(NormalizedIfChanged("\uFB01"), std::nullopt);    // a ligature is compatibility
}

// Most text is called normal by a look at ranges of characters: here against utf8proc, for every
// character alone and for the canonical decomposition of every one that has any.
TEST(NormalizeTest, EqualsUtf8procForEveryCharacterAndComposition) {
  const auto append = [](utf8proc_int32_t code_point, std::string* out) {
    utf8proc_uint8_t bytes[4];
    const auto size = utf8proc_encode_char(code_point, bytes);
    out->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  };
  const auto expect_same = [](const std::string& text) {
    utf8proc_uint8_t* reference =
        utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(text.c_str()));
    ASSERT_NE(reference, nullptr);
    ASSERT_EQ(NormalizedIfChanged(text).value_or(text), reinterpret_cast<const char*>(reference));
    free(reference);
  };
  int decompositions = 0;
  for (utf8proc_int32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string alone, decomposed;
    append(c, &alone);
    ASSERT_NO_FATAL_FAILURE(expect_same(alone)) << c;
    utf8proc_int32_t parts[8];
    int boundary = 0;
    const auto count = utf8proc_decompose_char(c, parts, 8, UTF8PROC_DECOMPOSE, &boundary);
    for (utf8proc_ssize_t i = 0; i < count; ++i) append(parts[i], &decomposed);
    if (decomposed == alone) continue;
    ++decompositions;
    ASSERT_NO_FATAL_FAILURE(expect_same(decomposed)) << c;
  }
  EXPECT_GT(decompositions, 12'000);  // 11172 of them Hangul
}

// utf8proc_map swaps neighbours until marks are in order: 10^11 steps for this text.
TEST(NormalizeTest, AMegabyteOfMarksInTheWrongOrderIsSorted) {
  std::string text = "a", expected = "a";
  for (int i = 0; i < 250'000; ++i) text += "\u0315";
  for (int i = 0; i < 250'000; ++i) text += "\u0323";
  for (int i = 0; i < 250'000; ++i) expected += "\u0323";
  for (int i = 0; i < 250'000; ++i) expected += "\u0315";
  const auto normal = NormalizedIfChanged(text);
  ASSERT_TRUE(normal.has_value());
  EXPECT_EQ(normal->size(), expected.size() - 2 - 1 + 3);  // the first U+0323 composes with a
  EXPECT_EQ(normal->substr(3), expected.substr(3));
}

TEST(ByteAlphabetTest, EveryByteHasOneCharacter) {
  std::string bytes;
  EXPECT_TRUE(AppendAlphabetBytes("\u0120a\u010A\u0143", &bytes));
  EXPECT_EQ(bytes, " a\n\xAD");
  EXPECT_FALSE(AppendAlphabetBytes("a b", &bytes));     // a space is spelled U+0120
  EXPECT_FALSE(AppendAlphabetBytes("\u0144", &bytes));  // behind the last
  EXPECT_FALSE(AppendAlphabetBytes("\u6771", &bytes));
  EXPECT_EQ(bytes, " a\n\xAD");
}

}  // namespace
}  // namespace vernier
