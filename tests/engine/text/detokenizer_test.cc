// Streaming: whole characters, stop strings over token borders, nothing held longer than needed.
#include "engine/text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "engine/text/utf8.h"
#include "tests/engine/text/text_sources.h"

namespace vernier {
namespace {

using testing::Gpt2;

int32_t ByteToken(uint8_t byte) {
  static const auto* const ids = [] {
    auto* table = new std::array<int32_t, 256>;
    for (int32_t id = 0; id < 256; ++id) {
      (*table)[static_cast<uint8_t>(Gpt2().TokenBytes(id, false)[0])] = id;
    }
    return table;
  }();
  return (*ids)[byte];
}

// One token a byte; returns what each push gave.
std::vector<std::string> PushBytes(Detokenizer* detokenizer, const std::string& bytes) {
  std::vector<std::string> out;
  for (const char c : bytes) out.push_back(detokenizer->Push(ByteToken(static_cast<uint8_t>(c))));
  return out;
}

std::string Joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += part;
  return out;
}

TEST(DetokenizerTest, CharactersComeWhole) {
  Detokenizer detokenizer(&Gpt2(), {}, false, false);
  const auto parts = PushBytes(&detokenizer, "\U0001f642\u00e9a");
  EXPECT_EQ(parts, (std::vector<std::string>{"", "", "", "\U0001f642", "", "\u00e9", "a"}));
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(DetokenizerTest, BytesThatCannotBecomeACharacterAreReplacedAtOnce) {
  Detokenizer detokenizer(&Gpt2(), {}, false, false);
  EXPECT_EQ(PushBytes(&detokenizer,
                      "\xFF"
                      "a\xE6\x9D"
                      "b\xC3"),
            (std::vector<std::string>{"\uFFFD", "a", "", "",
                                      "\uFFFD"
                                      "b",
                                      ""}));
  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
}

TEST(DetokenizerTest, StopStringOverSeveralTokensIsFoundAndNotGivenOut) {
  Detokenizer detokenizer(&Gpt2(), {"END", "zzz"}, false, false);
  EXPECT_EQ(PushBytes(&detokenizer, "xENyENDmore"),
            (std::vector<std::string>{"x", "", "", "ENy", "", "", "", "", "", "", ""}));
  EXPECT_EQ(detokenizer.stop(), 0);
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(DetokenizerTest, StopStringIsIncludedWhereAsked) {
  Detokenizer detokenizer(&Gpt2(), {"END"}, true, false);
  EXPECT_EQ(Joined(PushBytes(&detokenizer, "xENENDmore")), "xENEND");
  EXPECT_EQ(detokenizer.stop(), 0);
}

TEST(DetokenizerTest, OnlyTheStartOfAStopStringIsHeld) {
  Detokenizer detokenizer(&Gpt2(), {"abcabd"}, false, false);
  EXPECT_EQ(PushBytes(&detokenizer, "abcabcx"),
            (std::vector<std::string>{"", "", "", "", "", "abc", "abcx"}));
  Detokenizer cut(&Gpt2(), {"stop"}, false, false);
  EXPECT_EQ(Joined(PushBytes(&cut, "a sto")), "a ");
  EXPECT_EQ(cut.Flush(), "sto");
  EXPECT_EQ(cut.stop(), -1);
}

TEST(DetokenizerTest, TheStopStringThatIsCompleteFirstCounts) {
  Detokenizer inner(&Gpt2(), {"abcd", "bc"}, false, false);
  EXPECT_EQ(Joined(PushBytes(&inner, "xabcd")), "xa");
  EXPECT_EQ(inner.stop(), 1);
  Detokenizer longest(&Gpt2(), {"c", "abc"}, false, false);
  EXPECT_EQ(Joined(PushBytes(&longest, "xabc")), "x");
  EXPECT_EQ(longest.stop(), 1);
}

TEST(DetokenizerTest, SpecialTokensAreTextOnlyWhereAsked) {
  Detokenizer silent(&Gpt2(), {}, false, false);
  EXPECT_EQ(silent.Push(50256), "");
  Detokenizer spoken(&Gpt2(), {"<|end"}, false, true);
  EXPECT_EQ(spoken.Push(50256), "");
  EXPECT_EQ(spoken.stop(), 0);
}

TEST(DetokenizerTest, IdsBeyondTheTokenizerGiveNothing) {
  Detokenizer detokenizer(&Gpt2(), {}, false, false);
  EXPECT_EQ(detokenizer.Push(50300), "");
  EXPECT_EQ(detokenizer.Push(262), " the");
}

// Whatever the cut into tokens, the text given out and the stop found are the same.
TEST(DetokenizerTest, RandomTokensGiveTheSameTextAsBytes) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::vector<int32_t> ids;
    std::string bytes;
    for (int i = 0; i < 40; ++i) {
      ids.push_back(static_cast<int32_t>(random() % 2 == 0 ? random() % 256 : random() % 50256));
      bytes += Gpt2().TokenBytes(ids.back(), false);
    }
    const std::vector<std::string> stops = {bytes.substr(bytes.size() / 2, 2) + "e", "e ",
                                            "\uFFFDa"};
    std::vector<std::string> whole;
    for (const std::string& stop : stops) {
      if (FirstIllFormedByte(stop) < 0) whole.push_back(stop);
    }
    Detokenizer by_token(&Gpt2(), whole, false, false);
    Detokenizer by_byte(&Gpt2(), whole, false, false);
    std::string a, b;
    for (const int32_t id : ids) {
      const std::string text = by_token.Push(id);
      EXPECT_LT(FirstIllFormedByte(text), 0);
      a += text;
    }
    a += by_token.Flush();
    b = Joined(PushBytes(&by_byte, bytes));
    b += by_byte.Flush();
    EXPECT_EQ(a, b);
    EXPECT_EQ(by_token.stop(), by_byte.stop());
    if (by_token.stop() < 0) {
      EXPECT_EQ(a, MendUtf8(bytes));
    }
  }
}

}  // namespace
}  // namespace vernier
