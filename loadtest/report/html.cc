// The page of a report: figures and plots in one file, nothing fetched.
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "loadtest/report/chart.h"
#include "loadtest/report/report.h"

namespace vernier::loadtest {
namespace {

constexpr char kHead[] = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>vernier-loadtest</title><style>
:root{--ink:#1d2430;--soft:#667085;--line:#e4e7ec;--page:#fff;
--c0:#2a6fdb;--c1:#d97706;--c2:#c0265a;--c3:#0f8a6b;--c4:#7c4dbd;--c5:#6b7280}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2c3442;--page:#12161d;
--c0:#6ea8ff;--c1:#f5a94a;--c2:#f472a0;--c3:#4fd1ab;--c4:#b794f4;--c5:#9aa3b2}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:2rem auto;
max-width:75rem;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}p{color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(26rem,1fr));gap:1.5rem}
figure{margin:0}figcaption{font-weight:600}svg{width:100%;height:auto}
svg text{font-size:11px;fill:var(--soft)}.grid{stroke:var(--line)}
path{fill:none;stroke-width:2}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}
.s4{stroke:var(--c4)}.s5{stroke:var(--c5)}
circle.s0,span.s0::before{fill:var(--c0);background:var(--c0)}
circle.s1,span.s1::before{fill:var(--c1);background:var(--c1)}
circle.s2,span.s2::before{fill:var(--c2);background:var(--c2)}
circle.s3,span.s3::before{fill:var(--c3);background:var(--c3)}
circle.s4,span.s4::before{fill:var(--c4);background:var(--c4)}
circle.s5,span.s5::before{fill:var(--c5);background:var(--c5)}
.legend span{margin-right:1rem;color:var(--soft);font-size:.85rem}
.legend span::before{content:"";display:inline-block;width:.8rem;height:.2rem;margin-right:.4rem;
vertical-align:middle}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.25rem .7rem;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
</style></head><body>
)";

using Figure = std::function<double(const Summary&)>;

ChartSeries OverRates(const Report& report, const std::string& name, const Figure& figure) {
  ChartSeries series{name, {}};
  for (const RunReport& run : report.runs) {
    if (run.offered > 0) series.points.emplace_back(run.offered, figure(run.all));
  }
  std::sort(series.points.begin(), series.points.end());
  return series;
}

std::string PercentileChart(const Report& report, const std::string& title,
                            Percentiles Summary::*member) {
  ChartSpec spec{.title = title, .x_label = "requests/s offered", .y_label = "seconds"};
  spec.log_x = spec.log_y = true;
  const auto add = [&](const char* name, double Percentiles::*figure) {
    spec.series.push_back(
        OverRates(report, name, [=](const Summary& s) { return s.*member.*figure; }));
  };
  add("p50", &Percentiles::p50);
  add("p90", &Percentiles::p90);
  add("p99", &Percentiles::p99);
  return RenderChart(spec);
}

std::string RateCharts(const Report& report) {
  ChartSpec goodput{.title = "Throughput under offered load",
                    .x_label = "requests/s offered",
                    .y_label = "requests/s"};
  goodput.log_x = true;
  goodput.series = {
      OverRates(report, "within the SLO", [](const Summary& s) { return s.Goodput(); }),
      OverRates(report, "completed", [](const Summary& s) { return s.PerSecond(s.completed); }),
      OverRates(report, "refused", [](const Summary& s) { return s.PerSecond(s.refused); })};
  return absl::StrCat(
      "<h2>By offered load</h2><div class=\"charts\">", RenderChart(goodput),
      PercentileChart(report, "Time to first token", &Summary::first_token),
      PercentileChart(report, "Time per output token", &Summary::per_token),
      PercentileChart(report, "Between two messages with tokens", &Summary::inter_token),
      PercentileChart(report, "Until a refusal", &Summary::refusal), "</div>\n");
}

ChartSeries OverTime(const RunReport& run, const std::string& name, double TimelinePoint::*member,
                     double scale) {
  ChartSeries series{name, {}};
  for (const TimelinePoint& point : run.timeline) {
    series.points.emplace_back(point.at, point.*member * scale);
  }
  return series;
}

std::string TimelineCharts(const RunReport& run) {
  const auto chart = [&](const char* title, const char* unit, std::vector<ChartSeries> series) {
    return RenderChart({.title = title,
                        .x_label = "seconds",
                        .y_label = unit,
                        .series = std::move(series),
                        .marks = false});
  };
  return absl::StrCat(
      "<h2>", EscapeHtml(run.label), ", over time</h2><div class=\"charts\">",
      chart("Requests in the server", "requests",
            {OverTime(run, "waiting", &TimelinePoint::waiting, 1),
             OverTime(run, "running", &TimelinePoint::running, 1)}),
      chart("KV pool", "% used", {OverTime(run, "used", &TimelinePoint::kv_usage, 100)}),
      chart("Resident memory", "MiB",
            {OverTime(run, "resident", &TimelinePoint::resident_bytes, 1.0 / (1 << 20))}),
      "</div>\n");
}

std::string Row(const std::string& name, const Summary& s) {
  std::string out = absl::StrCat("<tr><td>", EscapeHtml(name), "</td>");
  const auto cell = [&](double value) {
    absl::StrAppend(&out, "<td>", ShortNumber(value), "</td>");
  };
  for (const int64_t count : {s.sent, s.completed, s.refused, s.deadline, s.failed, s.unfinished}) {
    cell(static_cast<double>(count));
  }
  cell(s.Goodput());
  cell(s.Attained() * 100);
  cell(s.OutputRate());
  for (const Percentiles* p : {&s.first_token, &s.per_token, &s.inter_token}) {
    cell(p->p50 * 1e3);
    cell(p->p99 * 1e3);
  }
  cell(s.refusal.p99 * 1e3);
  cell(s.send_delay.p99 * 1e3);
  return absl::StrCat(out, "</tr>\n");
}

std::string Table(const Report& report) {
  std::string out =
      "<h2>Figures</h2><div class=\"scroll\"><table><tr><th>run</th><th>sent</th>"
      "<th>completed</th><th>refused</th><th>deadline</th><th>failed</th><th>unfinished</th>"
      "<th>goodput/s</th><th>in SLO, %</th><th>tokens/s</th><th>TTFT p50, ms</th><th>p99</th>"
      "<th>TPOT p50, ms</th><th>p99</th><th>ITL p50, ms</th><th>p99</th>"
      "<th>refusal p99, ms</th><th>client late p99, ms</th></tr>\n";
  for (const RunReport& run : report.runs) {
    absl::StrAppend(&out, Row(run.label, run.all));
    for (const auto* groups : {&run.tenants, &run.variants}) {
      for (const NamedSummary& group : *groups) {
        absl::StrAppend(&out, Row(absl::StrCat(run.label, ", ", group.name), group.summary));
      }
    }
  }
  return absl::StrCat(out, "</table></div>\n");
}

}  // namespace

std::string ToHtml(const Report& report) {
  std::string out = absl::StrCat(
      kHead, "<h1>Load test of ", EscapeHtml(report.server), "</h1><p>",
      EscapeHtml(absl::StrCat(report.date, " · ", report.processor, " · ", report.workload)),
      "<br>");
  absl::StrAppendFormat(&out, "SLO: first token %s s, per token %s s",
                        ShortNumber(report.slo.first_token_seconds),
                        ShortNumber(report.slo.per_token_seconds));
  const Knee knee = KneeOf(report);
  if (knee.held.has_value()) {
    absl::StrAppendFormat(&out, " · held by %s %% of requests up to %s requests/s",
                          ShortNumber(report.attainment * 100), ShortNumber(*knee.held));
  }
  absl::StrAppend(&out, "</p>\n", Table(report));
  if (report.runs.size() > 1) absl::StrAppend(&out, RateCharts(report));
  for (const RunReport& run : report.runs) {
    if (!run.timeline.empty()) absl::StrAppend(&out, TimelineCharts(run));
  }
  return absl::StrCat(out, "</body></html>\n");
}

}  // namespace vernier::loadtest
