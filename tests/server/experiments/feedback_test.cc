// Feedback as a report has it: joined whichever comes first, counted once, and by units.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "server/experiments/report.h"
#include "tests/server/experiments/records.h"

namespace vernier {
namespace {

using Kind = FeedbackMetric::Kind;
using testing::Bound;
using testing::IdOf;
using testing::kCanary;
using testing::kControl;

constexpr int kThumb = 0, kStars = 1, kComment = 2, kBetter = 3;

ReportOptions Options() {
  return {.feedback = {{.name = "thumb"},
                       {.name = "stars", .kind = Kind::kFloat, .low = 1, .high = 5},
                       {.name = "comment", .kind = Kind::kText},
                       {.name = "better", .kind = Kind::kPreference}}};
}

class FeedbackTest : public ::testing::Test {
 protected:
  void Say(uint64_t exposure, int metric, double value, uint64_t micros = 1, uint64_t source = 0) {
    builder_.AddFeedback({.exposure_id = IdOf(exposure),
                          .metric = metric,
                          .value = value,
                          .unix_micros = micros,
                          .source_hash = source});
  }
  void Prefer(uint64_t exposure, uint64_t over, double value = 1, uint64_t micros = 1) {
    builder_.AddFeedback({.exposure_id = IdOf(exposure),
                          .metric = kBetter,
                          .value = value,
                          .unix_micros = micros,
                          .over = IdOf(over)});
  }
  void Expose(uint64_t number, uint8_t arm) { builder_.Add(Bound(number, arm, 100 + number)); }
  // Canary against control.
  ArmComparison Of(int metric) const {
    for (const ArmComparison& comparison : builder_.Build().comparisons) {
      if (comparison.metric == kNumReportMetrics + metric) return comparison;
    }
    ADD_FAILURE() << "no comparison of " << metric;
    return {};
  }

  ReportBuilder builder_{testing::CanaryPlan(), testing::kExperiment, 0, Options()};
};

TEST_F(FeedbackTest, CountsForTheArmOfItsExposureWhicheverComesFirst) {
  Expose(1, kCanary);
  Say(1, kThumb, 1);
  Say(2, kThumb, 1);
  EXPECT_EQ(builder_.Build().feedback_orphans, 1);
  EXPECT_EQ(Of(kThumb).treatment.count(), 1);
  Expose(2, kCanary);
  Say(3, kThumb, 0);
  Expose(3, kControl);
  EXPECT_EQ(Of(kThumb).treatment.count(), 2);
  EXPECT_EQ(Of(kThumb).treatment.mean(), 1);
  EXPECT_EQ(Of(kThumb).control.count(), 1);
  EXPECT_EQ(Of(kThumb).control.mean(), 0);
  EXPECT_EQ(builder_.Build().feedback_orphans, 0);
  EXPECT_EQ(builder_.Build().feedback, 3);
}

TEST_F(FeedbackTest, TheLastOfAnExposureMetricAndSourceCounts) {
  Expose(1, kCanary);
  Say(1, kThumb, 1, 10);
  Say(1, kThumb, 1, 10);
  Say(1, kThumb, 0, 20);
  Say(1, kThumb, 1, 15);  // late
  EXPECT_EQ(Of(kThumb).treatment.count(), 1);
  EXPECT_EQ(Of(kThumb).treatment.mean(), 0);
  EXPECT_EQ(builder_.Build().feedback, 1);
  Say(1, kThumb, 1, 5, /*source=*/9);  // somebody else: both count, for one unit
  EXPECT_EQ(builder_.Build().feedback, 2);
  EXPECT_EQ(Of(kThumb).treatment.count(), 1);
  EXPECT_EQ(Of(kThumb).treatment.mean(), 0.5);
}

TEST_F(FeedbackTest, StaysWithinADeclaredRangeAndPassesOverWhatIsNot) {
  Expose(1, kCanary);
  Say(1, kStars, 1e300);
  EXPECT_NEAR(Of(kStars).treatment.mean(), 5, 1e-9);
  Say(1, kStars, -INFINITY, 2);
  EXPECT_NEAR(Of(kStars).treatment.mean(), 1, 1e-9);
  Say(1, kStars, NAN, 3);
  Say(1, 4, 1);
  Say(1, -1, 1);
  EXPECT_EQ(builder_.Build().feedback, 1);
}

TEST_F(FeedbackTest, ATextIsCountedAndNotCompared) {
  Expose(1, kCanary);
  Say(1, kComment, 0);
  EXPECT_EQ(builder_.Build().feedback, 1);
  EXPECT_EQ(builder_.Build().feedback_orphans, 0);
  for (const ArmComparison& comparison : builder_.Build().comparisons) {
    EXPECT_NE(comparison.metric, kNumReportMetrics + kComment);
  }
}

TEST_F(FeedbackTest, OnAForcedRequestIsNoOrphanAndCountsForNoArm) {
  ExposureRecord forced = Bound(1, kNoArm, 1);
  forced.reason = ServedReason::kForced;
  builder_.Add(forced);
  Say(1, kThumb, 1);
  EXPECT_EQ(builder_.Build().feedback_orphans, 0);
  EXPECT_EQ(Of(kThumb).treatment.count() + Of(kThumb).control.count(), 0);
}

TEST_F(FeedbackTest, PrefersAnArmByPairsOfAnswersTiesLeftOut) {
  for (uint64_t i = 0; i < 60; ++i) Expose(i, i % 2 == 0 ? kControl : kCanary);
  Prefer(1, 0);
  Prefer(3, 2);
  Prefer(4, 5);               // the control's
  Prefer(7, 6, /*value=*/0);  // a tie
  Prefer(9, 11);              // of one arm
  Prefer(13, 900);            // an orphan
  for (uint64_t i = 20; i < 60; i += 2) Prefer(i + 1, i);
  const ExperimentReport report = builder_.Build();
  ASSERT_EQ(report.preferences.size(), 1u);
  const ArmPreference& preference = report.preferences[0];
  EXPECT_EQ(preference.arm, kCanary);
  EXPECT_EQ(preference.wins, 22);
  EXPECT_EQ(preference.losses, 1);
  EXPECT_EQ(preference.ties, 1);
  EXPECT_LT(preference.p, 0.001);
  EXPECT_GT(preference.win_rate.low, 0.5);
  EXPECT_LT(preference.win_rate.high, 1);
  EXPECT_EQ(report.feedback_orphans, 1);
}

TEST_F(FeedbackTest, APreferenceMayBeTakenBackAndMayComeBeforeBoth) {
  Prefer(1, 0, 1, 10);
  Prefer(1, 2, 1, 20);
  Prefer(1, 0, 0, 30);  // in the end, a tie with the first
  Expose(1, kCanary);
  Expose(2, kControl);
  EXPECT_TRUE(builder_.Build().preferences.empty());
  Expose(0, kControl);
  ASSERT_EQ(builder_.Build().preferences.size(), 1u);
  EXPECT_EQ(builder_.Build().preferences[0].ties, 1);
  EXPECT_EQ(builder_.Build().preferences[0].wins, 0);
}

TEST(FeedbackLimitsTest, ForgetsTheOldestExposuresAndLeavesOutValuesBeyondTheLimit) {
  ReportOptions options = Options();
  options.max_exposures = 10;
  options.max_feedback = 5;
  ReportBuilder builder(testing::CanaryPlan(), testing::kExperiment, 0, options);
  for (uint64_t i = 0; i < 25; ++i) builder.Add(Bound(i, kCanary, 1 + i));
  for (const uint64_t exposure : {0, 14, 15, 24, 24, 23, 22}) {
    builder.AddFeedback({.exposure_id = IdOf(exposure), .metric = kThumb, .value = 1});
  }
  const ExperimentReport report = builder.Build();
  EXPECT_EQ(report.exposures_forgotten, 15);
  EXPECT_EQ(report.feedback, 5);
  EXPECT_EQ(report.feedback_orphans, 2);  // 0 and 14
  EXPECT_EQ(report.feedback_left_out, 1);
}

TEST(FeedbackLimitsTest, ARangeMayBeAnything) {
  for (const double high : {0.0, 1e308, static_cast<double>(INFINITY), static_cast<double>(NAN)}) {
    ReportBuilder builder(
        testing::CanaryPlan(), testing::kExperiment, 0,
        {.feedback = {{.name = "x", .kind = Kind::kFloat, .low = 0, .high = high}}});
    for (uint64_t i = 0; i < 4; ++i) {
      builder.Add(Bound(i, static_cast<uint8_t>(i % 2), 1 + i));
      builder.AddFeedback({.exposure_id = IdOf(i), .value = i < 2 ? 1e300 : -1e300});
    }
    for (const ArmComparison& comparison : builder.Build().comparisons) {
      EXPECT_TRUE(std::isfinite(comparison.difference.mean)) << high;
      EXPECT_TRUE(std::isfinite(comparison.difference.standard_error)) << high;
    }
  }
}

TEST(FindMetricTest, KnowsWhatCanBeCompared) {
  const ReportOptions options = Options();
  EXPECT_EQ(FindMetric("errors", options.feedback), static_cast<int>(ReportMetric::kErrors));
  EXPECT_EQ(FindMetric("stars", options.feedback), kNumReportMetrics + kStars);
  for (const char* name : {"comment", "better", "none", ""}) {
    EXPECT_EQ(FindMetric(name, options.feedback), -1) << name;
  }
}

}  // namespace
}  // namespace vernier
