// Line charts as SVG text, for a page that needs nothing else.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace vernier::loadtest {

struct ChartSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;  // by ascending x
};

struct ChartSpec {
  std::string title;
  std::string x_label, y_label;
  std::vector<ChartSeries> series;    // at most 6
  bool log_x = false, log_y = false;  // points at or below 0 are left out then
  bool marks = true;                  // a dot a point, which shows its values
};

// Text of <, >, & and quotes, safe in HTML.
std::string EscapeHtml(const std::string& text);

// A value on an axis or in a table: three significant digits, no exponent where it is short.
std::string ShortNumber(double value);

// Ascending, within [low, high]: 3 to 8 round numbers (1, 2 or 5 times a power of ten), or the
// powers of ten (and 2 and 5 times them where those are few) of a logarithmic axis.
std::vector<double> AxisTicks(double low, double high, bool logarithmic);

// One <figure>: the title, the chart and its legend. No points: a figure that says so.
std::string RenderChart(const ChartSpec& spec);

}  // namespace vernier::loadtest
