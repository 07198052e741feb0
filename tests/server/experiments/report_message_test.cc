#include "server/experiments/report_message.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/server/experiments/records.h"

namespace vernier {
namespace {

using testing::Bound;
using testing::Done;
using testing::kCanary;
using testing::kControl;

ReportBuilder Filled() {
  ReportBuilder builder(
      testing::CanaryPlan(), testing::kExperiment, 0,
      {.decision = DecisionRule{.metric = static_cast<int>(ReportMetric::kErrors), .margin = 0.02},
       .feedback = {{.name = "thumb"},
                    {.name = "better", .kind = FeedbackMetric::Kind::kPreference}}});
  for (uint64_t i = 0; i < 20; ++i) {
    const auto arm = static_cast<uint8_t>(i % 2);
    builder.Add(Bound(i, arm, 1 + i));
    ExposureRecord done = Done(i, arm, 1 + i, static_cast<uint32_t>(100 + i));
    done.queue_micros = 1000;
    done.first_token_micros = 20000;
    done.token_p50_micros = 3000;
    done.total_micros = 400000;
    builder.Add(done);
  }
  ExposureRecord shadow = testing::ShadowScore(0, 1);
  shadow.same_tokens = 40;
  shadow.output_tokens = 150;
  builder.Add(shadow);
  shadow.kind = ExposureKind::kBound;
  builder.Add(shadow);
  shadow.kind = ExposureKind::kDone;
  shadow.grpc_status = testing::kResourceExhausted;
  builder.Add(shadow);
  builder.AddFeedback({.exposure_id = testing::IdOf(1), .metric = 0, .value = 1});
  builder.AddFeedback(
      {.exposure_id = testing::IdOf(1), .metric = 1, .value = 1, .over = testing::IdOf(0)});
  builder.AddFeedback({.exposure_id = testing::IdOf(99), .metric = 0, .value = 1});
  return builder;
}

TEST(ReportMessageTest, HasEveryPartInTheUnitsOfTheProtocol) {
  const v1::ExperimentReport message = ReportMessage(Filled().Build());
  ASSERT_EQ(message.arms_size(), 2);
  EXPECT_EQ(message.arms(1).arm(), "canary");
  EXPECT_EQ(message.arms(1).variant(), "nf4");
  EXPECT_EQ(message.arms(1).requests(), 10u);
  EXPECT_EQ(message.arms(1).ended(), 10u);
  EXPECT_EQ(message.arms(1).units(), 10u);
  EXPECT_NEAR(message.arms(1).queue().p50(), 0.001, 1e-5);
  EXPECT_NEAR(message.arms(1).first_token().p99(), 0.02, 2e-4);
  EXPECT_NEAR(message.arms(1).inter_token().p50(), 0.003, 3e-5);
  EXPECT_NEAR(message.arms(1).total().p90(), 0.4, 4e-3);
  EXPECT_EQ(message.arms(1).total().count(), 10u);
  EXPECT_TRUE(message.valid());
  ASSERT_EQ(message.gates_size(), 3);
  EXPECT_EQ(message.gates(0).gate(), "sample_ratio");
  ASSERT_EQ(message.holds_size(), 2);
  EXPECT_EQ(message.holds(0).gate(), "first_token");

  const v1::MetricReport& tokens = message.metrics(0);
  EXPECT_EQ(tokens.metric(), "output_tokens");
  EXPECT_EQ(tokens.arm(), "canary");
  EXPECT_EQ(tokens.control_count(), 10u);
  EXPECT_DOUBLE_EQ(tokens.control_mean(), 109);
  EXPECT_DOUBLE_EQ(tokens.treatment_mean(), 110);
  EXPECT_DOUBLE_EQ(tokens.difference(), 1);
  EXPECT_LT(tokens.low(), 1);
  EXPECT_FALSE(tokens.paired());
  int paired = 0;
  for (const v1::MetricReport& metric : message.metrics()) paired += metric.paired() ? 1 : 0;
  EXPECT_EQ(paired, kNumReportMetrics);

  ASSERT_EQ(message.shadows_size(), 1);
  const v1::ShadowReport& shadow = message.shadows(0);
  EXPECT_EQ(shadow.arm(), "canary");
  EXPECT_EQ(shadow.mirrored(), 1u);
  EXPECT_EQ(shadow.dropped(), 1u);
  EXPECT_EQ(shadow.scored(), 1u);
  EXPECT_NEAR(shadow.kl_mean(), 0.01, 1e-6);
  EXPECT_TRUE(std::isinf(shadow.kl_high()));
  EXPECT_NEAR(shadow.top1_mean(), 0.97, 1e-6);
  EXPECT_NEAR(shadow.first_divergence_p50(), 40, 0.5);
  EXPECT_DOUBLE_EQ(shadow.length_ratio_mean(), 1.5);

  ASSERT_EQ(message.preferences_size(), 1);
  EXPECT_EQ(message.preferences(0).metric(), "better");
  EXPECT_EQ(message.preferences(0).wins(), 1u);
  ASSERT_EQ(message.verdicts_size(), 1);
  EXPECT_EQ(message.verdicts(0).verdict(), "undecided");
  EXPECT_EQ(message.verdicts(0).arm(), "canary");
  EXPECT_EQ(message.feedback(), 3u);
  EXPECT_EQ(message.feedback_orphans(), 1u);
  EXPECT_EQ(message.unit_share(), 1);
}

TEST(ReportMessageTest, WhatWasNotMeasuredHasNoQuantiles) {
  const ReportBuilder builder(testing::CanaryPlan(), testing::kExperiment, 0, {});
  const v1::ExperimentReport message = ReportMessage(builder.Build());
  EXPECT_EQ(message.arms(0).total().count(), 0u);
  EXPECT_EQ(message.arms(0).total().p50(), 0);
  EXPECT_EQ(message.shadows_size(), 0);
  EXPECT_EQ(message.verdicts_size(), 0);
}

}  // namespace
}  // namespace vernier
