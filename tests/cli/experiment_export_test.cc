#include "cli/experiment_export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/cli/experiment_fixture.h"

namespace vernier::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ExperimentExportTest, CsvHasOneFigureALine) {
  const std::string csv = ReportCsv(CanaryReport());
  EXPECT_THAT(csv, StartsWith("section,arm,metric,figure,value\r\n"
                              "experiment,,,id,nf4-canary\r\n"
                              "experiment,,,version,7\r\n"
                              "experiment,,,state,RUNNING\r\n"));
  EXPECT_THAT(csv, HasSubstr("\r\nexperiment,,,valid,true\r\n"));
  EXPECT_THAT(csv, HasSubstr("\r\narms,nf4,,requests,4120\r\n"));
  EXPECT_THAT(csv, HasSubstr("\r\narms,nf4,,first_token.p50,0.0637\r\n"));
  EXPECT_THAT(csv, HasSubstr("\r\nmetrics,nf4,thumbs_up,difference,-0.012\r\n"));
  EXPECT_THAT(csv, HasSubstr("\r\nmetrics,nf4,thumbs_up,paired,false\r\n"));
  EXPECT_THAT(csv, HasSubstr("\r\nshadows,nf4,,scored,203\r\n"));
  EXPECT_THAT(csv, HasSubstr("\r\nverdicts,nf4,,verdict,undecided\r\n"));
}

TEST(ExperimentExportTest, CsvQuotesWhatWouldLeaveItsField) {
  v1::ExperimentReport report = CanaryReport();
  report.mutable_gates(0)->set_reason("a, \"b\"\nc");
  EXPECT_THAT(ReportCsv(report), HasSubstr("gates,,sample ratio,reason,\"a, \"\"b\"\"\nc\"\r\n"));
}

TEST(ExperimentExportTest, WhatWasNotMeasuredIsNullAndEmpty) {
  v1::ExperimentReport report = CanaryReport();
  report.mutable_arms(0)->mutable_queue()->Clear();
  report.mutable_arms(1)->clear_queue();
  report.mutable_shadows(0)->set_scored(0);
  report.mutable_verdicts(0)->set_needed(0);
  report.mutable_metrics(0)->set_low(std::numeric_limits<double>::quiet_NaN());
  report.mutable_metrics(0)->set_high(std::numeric_limits<double>::infinity());
  report.mutable_metrics(1)->set_paired(true);
  const auto json = ReportJson(report);
  EXPECT_TRUE(json["metrics"][1]["control_mean"].is_null());
  EXPECT_EQ(json["metrics"][1]["difference"], 9.4);
  EXPECT_TRUE(json["arms"][0]["queue"]["p50"].is_null());
  EXPECT_TRUE(json["arms"][1]["queue"].is_null());
  EXPECT_EQ(json["arms"][0]["total"]["p50"], 1.25);
  EXPECT_TRUE(json["shadows"][0]["kl_mean"].is_null());
  EXPECT_EQ(json["shadows"][0]["dropped"], 9);
  EXPECT_TRUE(json["verdicts"][0]["needed"].is_null());
  EXPECT_TRUE(json["metrics"][0]["low"].is_null());
  EXPECT_EQ(json["metrics"][0]["high"], "Infinity");
  EXPECT_THAT(ReportCsv(report), HasSubstr("\r\nshadows,nf4,,kl_mean,\r\n"));
  EXPECT_THAT(ReportCsv(report), HasSubstr("\r\nmetrics,nf4,thumbs_up,high,Infinity\r\n"));
}

}  // namespace
}  // namespace vernier::cli
