#include "cli/table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace vernier::cli {
namespace {

TEST(TableTest, ColumnsAlignByDisplayWidth) {
  const Table table = {{"variant", "memory"}, {{"fp16", "12.0 MiB"}, {"世", "1 B"}}};
  EXPECT_EQ(RenderTable(table),
            "variant    memory\n"
            "fp16     12.0 MiB\n"
            "世            1 B\n");
}

TEST(TableTest, CellsStayOnTheirLine) {
  EXPECT_EQ(RenderTable({{"a"}, {{"x\ny\x1b"}}}), "a\nx y␛\n");
}

TEST(TableTest, ATableThatFitsIsAsItIs) {
  const Table table = {{"variant", "memory"}, {{"fp16", "12.0 MiB"}}};
  EXPECT_EQ(RenderTableWithin(table, 17), RenderTable(table));
}

TEST(TableTest, NamesGiveWayBeforeValues) {
  const Table table = {{"arm", "a", "b"}, {{"a-name-of-twenty-two-x", "1", "2"}}};
  EXPECT_EQ(RenderTableWithin(table, 18),
            "arm           a  b\n"
            "a-name…two-x  1  2\n");
}

TEST(TableTest, ValuesThatFindNoRoomStandBelowUnderTheSameNames) {
  const Table table = {{"arm", "a", "b"}, {{"nf4", "123456789", "987654321"}}};
  EXPECT_EQ(RenderTableWithin(table, 20),
            "arm          a\n"
            "nf4  123456789\n"
            "\n"
            "arm          b\n"
            "nf4  987654321\n");
}

TEST(TableTest, UnitsFitTheSize) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(uint64_t{128} << 20), "128.0 MiB");
  EXPECT_EQ(FormatBytes(~uint64_t{0}), "16.0 EiB");
  EXPECT_EQ(FormatSeconds(0.00085), "850 µs");
  EXPECT_EQ(FormatSeconds(0.0123), "12.3 ms");
  EXPECT_EQ(FormatSeconds(1.234), "1.23 s");
  EXPECT_EQ(FormatPercent(0.9341), "93.4 %");
}

TEST(TableTest, NotMeasuredIsADash) {
  EXPECT_EQ(FormatNumber(std::nan(""), 3), "-");
  EXPECT_EQ(FormatPercent(std::nan("")), "-");
  EXPECT_EQ(FormatSeconds(std::nan("")), "-");
  EXPECT_EQ(FormatNumber(5.1919, 3), "5.192");
}

}  // namespace
}  // namespace vernier::cli
