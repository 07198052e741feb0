#include "cli/interval_chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cli/display_text.h"

namespace vernier::cli {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(IntervalChartTest, ZeroStandsInTheMiddle) {
  EXPECT_EQ(IntervalChart({0.2, 0.4, 0.6, {}}, 1, 21), "··········│·├─●─┤····");
  EXPECT_EQ(IntervalChart({-0.6, -0.4, -0.2, {}}, 1, 21), "····├─●─┤·│··········");
  EXPECT_EQ(IntervalChart({-0.5, -0.2, 0.5, {}}, 1, 21), "·····├──●─┼────┤·····");
}

TEST(IntervalChartTest, TheMarkStandsInsideAndOutside) {
  EXPECT_EQ(IntervalChart({-0.5, 0.2, 0.5, -0.8}, 1, 21), "··◇··├────┼─●──┤·····");
  EXPECT_EQ(IntervalChart({-0.5, 0.2, 0.5, -0.3}, 1, 21), "·····├─◇──┼─●──┤·····");
}

TEST(IntervalChartTest, WhatReachesFurtherEndsInAnArrow) {
  EXPECT_EQ(IntervalChart({-kInf, -0.2, 0.5, {}}, 1, 21), "◄───────●─┼────┤·····");
  EXPECT_EQ(IntervalChart({-kInf, kNan, kInf, {}}, 1, 21), "◄─────────┼─────────►");
  EXPECT_EQ(IntervalChart({2, 3, 4, {}}, 1, 21), "··········│·········►");
}

TEST(IntervalChartTest, WithoutBoundsOnlyTheAxisIsThere) {
  EXPECT_EQ(IntervalChart({kNan, kNan, kNan, kNan}, 1, 9), "····│····");
}

TEST(IntervalChartTest, WidthHoldsWhateverTheFigures) {
  const double figures[] = {-kInf, -1e300, -1, 0, 1e-300, 1, 1e300, kInf, kNan};
  for (const double low : figures) {
    for (const double high : figures) {
      for (const double value : figures) {
        EXPECT_EQ(DisplayWidth(IntervalChart({low, value, high, value}, 0.5, 14)), 13);
      }
    }
  }
  EXPECT_EQ(DisplayWidth(IntervalChart({-1, 0, 1, {}}, 1, 0)), 3);
}

}  // namespace
}  // namespace vernier::cli
