#include "cli/interval_chart.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace vernier::cli {
namespace {

// The column of `value`, kept within [0, 2 * half].
int ColumnOf(double value, double extent, int half) {
  const double at = std::clamp(value / extent, -1.0, 1.0);
  return half + static_cast<int>(std::lround(at * half));
}

}  // namespace

std::string IntervalChart(const Interval& interval, double extent, int columns) {
  const int half = (std::max(columns, 3) - 1) / 2;
  std::vector<const char*> cells(2 * half + 1, "·");
  const double low = interval.low;
  const double high = interval.high;
  if (!std::isnan(low) && !std::isnan(high)) {
    const int from = ColumnOf(low, extent, half);
    const int to = ColumnOf(high, extent, half);
    for (int i = from; i < to; ++i) cells[i] = "─";
    cells[from] = low < -extent ? "◄" : "├";
    cells[to] = high > extent ? "►" : "┤";
  }
  cells[half] = low < 0 && high > 0 ? "┼" : "│";
  if (interval.mark && std::isfinite(*interval.mark))
    cells[ColumnOf(*interval.mark, extent, half)] = "◇";
  if (!std::isnan(interval.value) && std::abs(interval.value) <= extent) {
    cells[ColumnOf(interval.value, extent, half)] = "●";
  }
  std::string out;
  for (const char* cell : cells) out += cell;
  return out;
}

}  // namespace vernier::cli
