#include "cli/experiment_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cli/display_text.h"
#include "tests/cli/experiment_fixture.h"
#include "tests/testing/test_data.h"

namespace vernier::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Render(const v1::ExperimentReport& report, int columns = 100) {
  return RenderExperiment(report, {.columns = columns});
}

int WidestLine(const std::string& text) {
  int widest = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n'))
    widest = std::max(widest, DisplayWidth(line));
  return widest;
}

std::string Content(const std::string& path) {
  std::ifstream file(vernier::testing::TestDataPath(path));
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

TEST(ExperimentReportTest, LooksAsRecorded) {
  EXPECT_EQ(Render(CanaryReport()), Content("../cli/experiment.golden"));
}

TEST(ExperimentReportTest, TheReadmeShowsIt) {
  EXPECT_THAT(Content("../../README.md"), HasSubstr(Content("../cli/experiment.golden")));
}

TEST(ExperimentReportTest, OfPairsThereAreNoMeansByArm) {
  v1::ExperimentReport report;
  AddMetric("score_kl", "nf4", 0, 0.03, 0.01, &report)->set_paired(true);
  EXPECT_THAT(Render(report),
              ::testing::ContainsRegex("score_kl  nf4 +- +- +1370 +1355 +0.31  paired\n"));
}

TEST(ExperimentReportTest, AMetricWithoutValuesIsNotShown) {
  v1::ExperimentReport report;
  v1::MetricReport* empty = report.add_metrics();
  empty->set_metric("score_kl");
  empty->set_arm("nf4");
  EXPECT_THAT(Render(report), Not(HasSubstr("score_kl")));
}

TEST(ExperimentReportTest, AVerdictHasItsReason) {
  v1::ExperimentReport report = CanaryReport();
  report.mutable_verdicts(0)->set_reason("fewer than 300 pairs");
  EXPECT_THAT(Render(report), HasSubstr("fewer than 300 pairs"));
}

TEST(ExperimentReportTest, WhatHoldsTheRampIsSaid) {
  v1::ExperimentReport report = CanaryReport();
  v1::GateReport* hold = report.add_holds();
  hold->set_gate("first_token");
  hold->set_reason("nf4: 1.4 times the control's");
  EXPECT_THAT(Render(report), HasSubstr("HOLDS the ramp: first_token: nf4: 1.4 times"));
}

TEST(ExperimentReportTest, BehindAFailedGateEverythingIsInvalid) {
  v1::ExperimentReport report = CanaryReport();
  report.mutable_gates(0)->set_passed(false);
  report.mutable_gates(0)->set_reason("4400 to 3840: ln Bayes factor 15.2, limit 6.9");
  report.mutable_verdicts(0)->set_verdict("non_inferior");
  for (const bool server_agrees : {false, true}) {
    report.set_valid(!server_agrees);
    const std::string out = Render(report);
    EXPECT_THAT(out, HasSubstr("!!!!! INVALID !!!!!"));
    EXPECT_LT(out.find("INVALID"), out.find("requests"));
    EXPECT_THAT(out, HasSubstr("sample ratio: 4400 to 3840: ln Bayes factor 15.2, limit 6.9\n"));
    EXPECT_THAT(out, HasSubstr("FAILED sample ratio"));
    EXPECT_THAT(out, HasSubstr("hold at every look (INVALID)"));
    EXPECT_THAT(out, HasSubstr("INVALID: a gate failed"));
    EXPECT_THAT(out, Not(HasSubstr("NON-INFERIOR")));
    // Nor does a colour say what the words may not.
    EXPECT_THAT(RenderExperiment(report, {.columns = 100, .colour = true}), Not(HasSubstr("m├")));
    EXPECT_THAT(RenderExperiment(report, {.columns = 100, .colour = true}),
                HasSubstr("\x1b[1;97;41m!!!"));
  }
  EXPECT_THAT(Render(CanaryReport()), Not(HasSubstr("INVALID")));
}

TEST(ExperimentReportTest, AReportThatSaysNothingOfGatesIsInvalid) {
  v1::ExperimentReport report = CanaryReport();
  report.clear_gates();
  report.set_valid(false);
  EXPECT_THAT(Render(report), HasSubstr("!! INVALID !!"));
}

TEST(ExperimentReportTest, LatencyIsThatOfTheMixture) {
  const std::string out = Render(CanaryReport());
  EXPECT_THAT(out, HasSubstr("latency of the mixture"));
  EXPECT_THAT(out, HasSubstr("no property of a variant"));
}

TEST(ExperimentReportTest, TheMarginStandsOnTheSideOfTheLoss) {
  v1::ExperimentReport report = CanaryReport();
  const auto chart_of = [&] {
    const std::vector<std::string> lines = absl::StrSplit(Render(report), '\n');
    for (const std::string& line : lines) {
      if (absl::StrContains(line, "thumbs_up") && absl::StrContains(line, "│")) return line;
      if (absl::StrContains(line, "thumbs_up") && absl::StrContains(line, "┼")) return line;
    }
    return std::string();
  };
  EXPECT_LT(chart_of().find("◇"), chart_of().find("┼"));
  report.mutable_experiment()->mutable_metrics(0)->set_smaller_is_better(true);
  EXPECT_GT(chart_of().find("◇"), chart_of().find("┼"));
}

TEST(ExperimentReportTest, ColoursSayCertainlyWorseAndCertainlyGoodEnough) {
  v1::ExperimentReport report = CanaryReport();
  report.clear_metrics();
  const auto painted = [&](const std::string& metric, double difference) {
    report.clear_metrics();
    AddMetric(metric, "nf4", 0.5, difference, 0.01, &report);
    const std::string out = RenderExperiment(report, {.columns = 100, .colour = true});
    const size_t chart = out.find(metric, out.find("differences from"));
    const std::string line = out.substr(chart, out.find('\n', chart) - chart);
    return absl::StrContains(line, "\x1b[31m")   ? "red"
           : absl::StrContains(line, "\x1b[32m") ? "green"
                                                 : "plain";
  };
  EXPECT_STREQ(painted("thumbs_up", -0.04), "red");
  EXPECT_STREQ(painted("thumbs_up", -0.02), "plain");
  EXPECT_STREQ(painted("thumbs_up", -0.005), "green") << "what it loses is less than the margin";
  EXPECT_STREQ(painted("errors", 0.02), "red");
  EXPECT_STREQ(painted("errors", -0.02), "green");
  EXPECT_STREQ(painted("errors", 0.005), "plain");
}

TEST(ExperimentReportTest, WithoutColourNothingEscapes) {
  v1::ExperimentReport report = CanaryReport();
  report.mutable_experiment()->set_state_reason("\x1b[31mred");
  report.mutable_gates(0)->set_reason("\x1b[31mred");
  report.mutable_metrics(0)->set_metric("\x1b[31mred");
  EXPECT_THAT(Render(report), Not(HasSubstr("\x1b")));
  EXPECT_THAT(RenderExperiment(report, {.columns = 100, .colour = true}),
              Not(HasSubstr("\x1b[31mred")));
}

TEST(ExperimentReportTest, EightArmsAndLongNamesStayWithinTheTerminal) {
  v1::ExperimentReport report = CanaryReport();
  report.mutable_experiment()->set_id(std::string(64, 'i'));
  for (int i = 2; i < 8; ++i) {
    const std::string name = absl::StrCat(std::string(60, 'a'), "-", i);
    AddArm(name, std::string(64, 'v'), &report);
    AddMetric(std::string(64, 'm'), name, 0.5, -123456.789, 1e6, &report);
    AddMetric("thumbs_up", name, 0.8, -0.012, std::numeric_limits<double>::infinity(), &report);
    AddShadow(name, &report);
    v1::ExperimentReport::Verdict* verdict = report.add_verdicts();
    verdict->set_arm(name);
    verdict->set_verdict("undecided");
  }
  report.mutable_gates(1)->set_reason(std::string(300, 'x'));
  report.set_log_dropped(5);
  for (int columns = 60; columns <= 240; columns += 3) {
    for (const bool valid : {true, false}) {
      report.set_valid(valid);
      const std::string out = Render(report, columns);
      EXPECT_LE(WidestLine(out), columns) << out;
      for (int i = 2; i < 8; ++i) EXPECT_THAT(out, HasSubstr(absl::StrCat("a-", i))) << columns;
    }
  }
}

TEST(ExperimentReportTest, ChartsStandBesideTheTableOrBelowIt) {
  EXPECT_THAT(Render(CanaryReport(), 100), HasSubstr("[-0.041, +0.017]  ·"));
  const std::string narrow = Render(CanaryReport(), 60);
  EXPECT_THAT(narrow, HasSubstr("thumbs_up, nf4\n·├"));
  EXPECT_LE(WidestLine(narrow), 60);
}

TEST(ExperimentReportTest, WhatWasNotMeasuredIsADash) {
  v1::ExperimentReport report = CanaryReport();
  report.mutable_arms(1)->Clear();
  report.mutable_arms(1)->set_arm("nf4");
  report.mutable_shadows(0)->set_scored(0);
  v1::MetricReport* metric = report.mutable_metrics(0);
  metric->set_low(-std::numeric_limits<double>::infinity());
  metric->set_high(std::numeric_limits<double>::infinity());
  metric->set_p(std::numeric_limits<double>::quiet_NaN());
  const std::string out = Render(report);
  EXPECT_THAT(out, Not(HasSubstr("nan")));
  EXPECT_THAT(out, Not(HasSubstr("inf,")));
  EXPECT_THAT(out, HasSubstr("none yet"));
}

TEST(ExperimentReportTest, StatesAndDecisionsAreNamed) {
  v1::ExperimentReport report = CanaryReport();
  report.mutable_experiment()->set_state(v1::Experiment::ROLLED_BACK);
  report.mutable_experiment()->set_state_reason("errors of nf4: 9 of 80");
  report.mutable_verdicts(0)->set_verdict("non_inferior");
  EXPECT_THAT(Render(report), HasSubstr("nf4-canary: ROLLED_BACK\n"));
  EXPECT_THAT(Render(report), HasSubstr("last change: errors of nf4: 9 of 80\n"));
  EXPECT_THAT(Render(report), HasSubstr("guardrails, after the roll back\n"));
  EXPECT_THAT(Render(report), HasSubstr("nf4: NON-INFERIOR"));
  report.mutable_experiment()->clear_decision();
  report.clear_verdicts();
  EXPECT_THAT(Render(report), HasSubstr("None: the experiment has no primary metric"));
  report.mutable_experiment()->mutable_guardrails()->set_off(true);
  EXPECT_THAT(Render(report), HasSubstr("guardrails: off, but for NaN logits\n"));
  for (auto& arm : *report.mutable_experiment()->mutable_arms()) arm.set_variant("fp16");
  EXPECT_THAT(Render(report), HasSubstr("an A/A test"));
}

TEST(ExperimentReportTest, AnEmptyReportIsNoTrouble) {
  EXPECT_THAT(Render({}), HasSubstr("INVALID"));
  RenderExperiment({}, {.columns = 0});
}

TEST(ExperimentReportTest, TheExtremesOfFiguresAreDrawn) {
  v1::ExperimentReport report = CanaryReport();
  for (const double figure : {0.0, 1e-320, std::numeric_limits<double>::max()}) {
    v1::MetricReport* metric = report.mutable_metrics(0);
    metric->set_low(-figure);
    metric->set_difference(0);
    metric->set_high(figure);
    report.mutable_experiment()->mutable_decision()->set_margin(figure);
    EXPECT_LE(WidestLine(Render(report)), 100);
  }
}

TEST(ExperimentListTest, IsALineEach) {
  v1::ListExperimentsResponse reply;
  EXPECT_THAT(RenderExperiments(reply, {}), HasSubstr("none yet"));
  *reply.add_experiments() = CanaryReport().experiment();
  reply.add_experiments()->set_id("draft");
  EXPECT_EQ(RenderExperiments(reply, {}),
            "experiment              state  arms  take part    primary  margin  version\n"
            "nf4-canary            RUNNING     2     50.0 %  thumbs_up    0.02        7\n"
            "draft       STATE_UNSPECIFIED     0          -          -       -        0\n");
}

}  // namespace
}  // namespace vernier::cli
