#include "loadtest/report/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace vernier::loadtest {
namespace {

constexpr double kWidth = 560, kHeight = 280;  // of the viewBox
constexpr double kLeft = 64, kRight = 16, kTop = 12, kBottom = 44;

// One axis: from values to places in the picture.
struct Axis {
  double low = 0, high = 1;  // of the values, or of their logarithms
  bool logarithmic = false;
  double from = 0, to = 1;  // in the picture

  bool Shows(double value) const { return std::isfinite(value) && (!logarithmic || value > 0); }
  double Of(double value) const { return logarithmic ? std::log10(value) : value; }
  double At(double value) const { return from + (Of(value) - low) / (high - low) * (to - from); }
};

Axis MakeAxis(const ChartSpec& spec, bool is_x) {
  Axis axis;
  axis.logarithmic = is_x ? spec.log_x : spec.log_y;
  axis.from = is_x ? kLeft : kHeight - kBottom;
  axis.to = is_x ? kWidth - kRight : kTop;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const ChartSeries& series : spec.series) {
    for (const auto& [x, y] : series.points) {
      const double value = is_x ? x : y;
      if (!axis.Shows(value)) continue;
      low = std::min(low, axis.Of(value));
      high = std::max(high, axis.Of(value));
    }
  }
  if (low > high) return axis;
  if (!axis.logarithmic && low > 0) low = 0;
  if (high - low < 1e-12) high = low + std::max(1.0, std::abs(low) * 0.1);
  const double margin = is_x ? 0 : 0.04 * (high - low);
  axis.low = low;
  axis.high = high + margin;
  return axis;
}

std::string Gridlines(const Axis& axis, bool is_x) {
  const auto value_of = [&](double at) { return axis.logarithmic ? std::pow(10, at) : at; };
  std::string out;
  for (const double tick : AxisTicks(value_of(axis.low), value_of(axis.high), axis.logarithmic)) {
    const double at = axis.At(tick);
    if (is_x) {
      absl::StrAppendFormat(&out,
                            "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                            "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>",
                            at, at, kTop, kHeight - kBottom, at, kHeight - kBottom + 16,
                            ShortNumber(tick));
    } else {
      absl::StrAppendFormat(&out,
                            "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                            "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
                            kLeft, kWidth - kRight, at, at, kLeft - 6, at + 4, ShortNumber(tick));
    }
  }
  return out;
}

std::string Line(const ChartSeries& series, size_t color, const Axis& x, const Axis& y,
                 bool marks) {
  std::string path, dots;
  for (const auto& [px, py] : series.points) {
    if (!x.Shows(px) || !y.Shows(py)) continue;
    absl::StrAppendFormat(&path, "%s%.1f %.1f", path.empty() ? "M" : "L", x.At(px), y.At(py));
    if (!marks) continue;
    absl::StrAppendFormat(
        &dots,
        "<circle class=\"s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>%s: %s, %s</title></circle>",
        static_cast<int>(color), x.At(px), y.At(py), EscapeHtml(series.name), ShortNumber(px),
        ShortNumber(py));
  }
  if (path.empty()) return "";
  return absl::StrCat("<path class=\"s", color, "\" d=\"", path, "\"/>", dots);
}

bool HasPoints(const ChartSpec& spec) {
  return std::any_of(spec.series.begin(), spec.series.end(),
                     [](const ChartSeries& series) { return !series.points.empty(); });
}

}  // namespace

std::string EscapeHtml(const std::string& text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::string ShortNumber(double value) {
  if (!std::isfinite(value)) return "-";
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-3 || size >= 1e7)) return absl::StrFormat("%.2e", value);
  if (size >= 100 || value == std::round(value)) return absl::StrFormat("%.0f", value);
  return absl::StrFormat("%.3g", value);
}

std::vector<double> AxisTicks(double low, double high, bool logarithmic) {
  std::vector<double> ticks;
  if (!(high > low)) return ticks;
  if (logarithmic) {
    const bool few = std::log10(high / low) < 3;
    for (double power = std::floor(std::log10(low)); power <= std::log10(high); ++power) {
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double tick = digit * std::pow(10, power);
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9) && (digit == 1 || few)) {
          ticks.push_back(tick);
        }
      }
    }
    return ticks;
  }
  const double rough = (high - low) / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double digit : {5.0, 2.0, 1.0}) {
    if (digit * power >= rough) step = digit * power;
  }
  for (double tick = std::ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9;
       tick += step) {
    ticks.push_back(std::abs(tick) < step * 1e-9 ? 0 : tick);
  }
  return ticks;
}

std::string RenderChart(const ChartSpec& spec) {
  std::string out = absl::StrCat("<figure><figcaption>", EscapeHtml(spec.title), "</figcaption>");
  if (!HasPoints(spec)) return absl::StrCat(out, "<p>Not measured.</p></figure>\n");
  const Axis x = MakeAxis(spec, true), y = MakeAxis(spec, false);
  absl::StrAppendFormat(&out, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\">", kWidth, kHeight);
  absl::StrAppend(&out, Gridlines(x, true), Gridlines(y, false));
  for (size_t i = 0; i < spec.series.size(); ++i) {
    absl::StrAppend(&out, Line(spec.series[i], i, x, y, spec.marks));
  }
  absl::StrAppendFormat(&out,
                        "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>"
                        "<text transform=\"translate(14 %.0f) rotate(-90)\" "
                        "text-anchor=\"middle\">%s</text></svg>",
                        (kLeft + kWidth - kRight) / 2, kHeight - 8, EscapeHtml(spec.x_label),
                        (kTop + kHeight - kBottom) / 2, EscapeHtml(spec.y_label));
  absl::StrAppend(&out, "<div class=\"legend\">");
  for (size_t i = 0; i < spec.series.size(); ++i) {
    absl::StrAppend(&out, "<span class=\"s", i, "\">", EscapeHtml(spec.series[i].name), "</span> ");
  }
  return absl::StrCat(out, "</div></figure>\n");
}

}  // namespace vernier::loadtest
