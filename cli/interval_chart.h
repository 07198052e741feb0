// An interval around zero, drawn in one line of a terminal.
//
// Pure, any thread.
#pragma once

#include <optional>
#include <string>

namespace vernier::cli {

struct Interval {
  double low = 0;  // -inf and +inf: no bound on that side
  double value = 0;
  double high = 0;
  std::optional<double> mark;
};

// The zero stands in the middle, so charts of one width stand in line; `extent` > 0 is the value at
// either end. What lies outside ends in an arrow. `columns` characters of width 1, one less where
// that is even, and at least 3; the axis alone where a bound is NaN.
//
//   ········◇·├───●────┼──┤·············
std::string IntervalChart(const Interval& interval, double extent, int columns);

inline constexpr char kChartLegend[] = "├─●─┤ bounds and difference, │ none, ◇ the margin";

}  // namespace vernier::cli
