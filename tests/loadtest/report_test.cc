#include "loadtest/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "loadtest/report/chart.h"

namespace vernier::loadtest {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<Outcome> Outcomes(int count) {
  std::vector<Outcome> outcomes;
  for (int i = 0; i < count; ++i) {
    Outcome& outcome = outcomes.emplace_back();
    outcome.scheduled = outcome.sent = i * 0.1;
    outcome.first = outcome.scheduled + 0.01 * (i + 1);
    outcome.last = outcome.ended = outcome.first + 0.05;
    outcome.ending = Ending::kCompleted;
    outcome.tenant = i % 2;
    outcome.output_tokens = 6;
    outcome.gaps = {0.01f, 0.04f};
  }
  return outcomes;
}

Report SomeReport(double rate, int count) {
  Report report{.date = "2026-01-02", .processor = "a <processor>", .server = "m & co"};
  report.runs.push_back(BuildRun({.label = "rate \"1\", first",
                                  .offered = rate,
                                  .window = {0, 10},
                                  .tenants = {"a", "b"},
                                  .variants = {"fp16"}},
                                 Outcomes(count), {{.at = 1, .running = 3}, {.at = 2}}));
  return report;
}

TEST(ReportTest, GroupsAreThereWhereThereAreTwo) {
  const RunReport run = SomeReport(1, 10).runs[0];
  ASSERT_EQ(run.tenants.size(), 2u);
  EXPECT_EQ(run.tenants[0].summary.sent + run.tenants[1].summary.sent, run.all.sent);
  EXPECT_TRUE(run.variants.empty());
  EXPECT_EQ(TenantJainIndex(run), 1);
}

TEST(ReportTest, JsonHasEveryFigure) {
  const auto json = nlohmann::json::parse(ToJson(SomeReport(1, 10)));
  const auto& figures = json["runs"][0]["figures"];
  EXPECT_EQ(figures.size(), SummaryFields().size());
  EXPECT_EQ(figures["completed"], 10);
  EXPECT_EQ(json["runs"][0]["timeline"][0]["running"], 3);
  EXPECT_EQ(json["runs"][0]["tenants"].size(), 2u);
  EXPECT_EQ(json["knee"]["held_per_second"], 1.0);
  EXPECT_TRUE(json["knee"]["fails_per_second"].is_null());
}

TEST(ReportTest, CsvQuotesWhatNeedsIt) {
  const std::string csv = ToCsv(SomeReport(1, 10));
  EXPECT_THAT(csv, HasSubstr("\n\"rate \"\"1\"\", first\",all,"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 4) << "a header, the run, two tenants";
}

TEST(ReportTest, HtmlIsOnePageAndEscapes) {
  Report report = SomeReport(1, 10);
  report.runs.push_back(SomeReport(2, 20).runs[0]);
  report.runs[1].offered = 2;
  const std::string html = ToHtml(report);
  EXPECT_THAT(html, HasSubstr("m &amp; co"));
  EXPECT_THAT(html, HasSubstr("a &lt;processor&gt;"));
  EXPECT_THAT(html, HasSubstr("Time to first token"));
  EXPECT_THAT(html, HasSubstr("KV pool"));
  for (const char* fetched : {"src=", "href=", "@import", "url("}) {
    EXPECT_THAT(html, Not(HasSubstr(fetched)));
  }
}

TEST(ReportTest, ComparisonSaysWhatIsBetter) {
  const std::string before = ToJson(SomeReport(1, 10)), after = ToJson(SomeReport(1, 20));
  const auto table = CompareReports(before, after);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(*table, HasSubstr("+100.0 % better"));  // completed
  EXPECT_THAT(*table, HasSubstr("worse"));            // time to first token
  EXPECT_THAT(*CompareReports(before, before), Not(HasSubstr("%")));
}

TEST(ReportTest, WhatIsNoReportIsRefused) {
  const std::string good = ToJson(SomeReport(1, 10));
  Report other = SomeReport(1, 10);
  other.runs[0].label = "rate 2";
  nlohmann::json broken = nlohmann::json::parse(good);
  broken["runs"][0]["figures"]["sent"] = "many";
  for (const std::string& bad :
       {std::string(), std::string("[]"), std::string("{\"format\": 1}"),
        std::string(R"({"format": "vernier-loadtest/1", "runs": []})"),
        std::string(R"({"format": "vernier-loadtest/1", "runs": [7]})"), good.substr(0, 900),
        broken.dump(), ToJson(other), ToJson(Report{})}) {
    EXPECT_EQ(CompareReports(good, bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(ChartTest, TicksAreRoundAndInside) {
  EXPECT_THAT(AxisTicks(0, 10, false), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(AxisTicks(1, 10, true), ElementsAre(1, 2, 5, 10));
  EXPECT_TRUE(AxisTicks(3, 3, false).empty());
}

TEST(ChartTest, PointsThatALogarithmCannotShowAreLeftOut) {
  const std::string chart = RenderChart(
      {.title = "t", .series = {{"s", {{1, 0}, {2, 5}, {3, NAN}, {4, 50}}}}, .log_y = true});
  EXPECT_EQ(std::count(chart.begin(), chart.end(), 'M'), 1);
  EXPECT_THAT(chart, Not(HasSubstr("nan")));
  EXPECT_THAT(chart, Not(HasSubstr("inf")));
  EXPECT_THAT(RenderChart({.title = "t"}), HasSubstr("Not measured"));
}

}  // namespace
}  // namespace vernier::loadtest
