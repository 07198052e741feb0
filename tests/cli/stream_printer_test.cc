#include "cli/stream_printer.h"

#include <gtest/gtest.h>

#include <sstream>

namespace vernier::cli {
namespace {

v1::Delta DeltaOf(uint32_t index, const std::string& text, std::vector<uint32_t> ids = {}) {
  v1::Delta delta;
  delta.set_index(index);
  delta.set_text(text);
  delta.mutable_token_ids()->Assign(ids.begin(), ids.end());
  return delta;
}

v1::Finish FinishOf(uint32_t index) {
  v1::Finish finish;
  finish.set_index(index);
  return finish;
}

TEST(StreamPrinterTest, TextComesAsItIsMade) {
  std::ostringstream out;
  StreamPrinter printer(&out, 1, {});
  printer.Add(DeltaOf(0, "a\x1b"));
  EXPECT_EQ(out.str(), "a\x1b");
  printer.Add(DeltaOf(0, "b"));
  printer.Finish(FinishOf(0));
  EXPECT_EQ(out.str(),
            "a\x1b"
            "b\n");
}

TEST(StreamPrinterTest, OnATerminalControlCharactersAreHarmless) {
  std::ostringstream out;
  StreamPrinter printer(&out, 1, {.neutralize = true});
  printer.Add(DeltaOf(0, "\x1b]0;title\x07"));
  EXPECT_EQ(out.str(), "␛]0;title␇");
}

TEST(StreamPrinterTest, SamplesDoNotMix) {
  std::ostringstream out;
  StreamPrinter printer(&out, 2, {});
  printer.Add(DeltaOf(1, "second"));
  printer.Add(DeltaOf(0, "first"));
  printer.Finish(FinishOf(1));
  printer.Finish(FinishOf(0));
  EXPECT_EQ(out.str(), "--- sample 0\nfirst\n\n--- sample 1\nsecond\n");
}

TEST(StreamPrinterTest, WithoutATokenizerIdsAreShown) {
  std::ostringstream out;
  StreamPrinter printer(&out, 1, {.ids = true});
  printer.Add(DeltaOf(0, "", {4, 5}));
  printer.Add(DeltaOf(0, "", {6}));
  printer.Finish(FinishOf(0));
  EXPECT_EQ(out.str(), "4 5 6\n");
}

TEST(StreamPrinterTest, AnIndexOutsideIsIgnored) {
  std::ostringstream out;
  StreamPrinter printer(&out, 1, {});
  printer.Add(DeltaOf(7, "x"));
  printer.Finish(FinishOf(7));
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace vernier::cli
