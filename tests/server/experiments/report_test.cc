#include "server/experiments/report.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/experiments/exposure_log.h"
#include "server/experiments/report_message.h"
#include "tests/server/experiments/records.h"

namespace vernier {
namespace {

using testing::Bound;
using testing::CanaryPlan;
using testing::Done;
using testing::IdOf;
using testing::kCanary;
using testing::kControl;
using testing::kExperiment;
using testing::ShadowScore;
using testing::Uniform;

constexpr uint64_t kUnits = 10000;

struct Traffic {
  int requests = 20000;
  double canary_error_rate = 0.01;
  double canary_share = 0.5;      // of the units, whatever the plan says
  double fallback_rate = 0;       // canary requests that the control's variant served
  bool canary_is_longer = false;  // by 5 of about 100 tokens
};

// Records as a server would leave them: each bound, then ended; every tenth scored.
std::vector<ExposureRecord> Records(const Traffic& traffic) {
  Uniform uniform(1);
  std::vector<ExposureRecord> records;
  for (int i = 0; i < traffic.requests; ++i) {
    const uint64_t unit = 1 + uniform.Below(kUnits);
    const bool canary = static_cast<double>(unit) <= kUnits * traffic.canary_share;
    ExposureRecord record = Bound(static_cast<uint64_t>(i), canary ? kCanary : kControl, unit);
    if (canary && uniform() < traffic.fallback_rate) record.served = kControl;
    records.push_back(record);
    record.kind = ExposureKind::kDone;
    record.finish = testing::kEos;
    record.output_tokens =
        static_cast<uint32_t>(50 + 100 * uniform()) + (canary && traffic.canary_is_longer ? 5 : 0);
    const double error_rate = canary ? traffic.canary_error_rate : 0.01;
    record.grpc_status = uniform() < error_rate ? testing::kInternal : 0;
    record.first_token_micros = static_cast<uint32_t>(10000 + 90000 * uniform());
    record.mean_logprob = static_cast<float>(-1 - uniform());
    records.push_back(record);
    if (i % 10 != 0) continue;
    record.kind = ExposureKind::kScored;
    record.score_tokens = record.output_tokens;
    record.score_kl = static_cast<float>(canary ? 0.03 * uniform() : 0.001 * uniform());
    record.score_top1 = static_cast<float>(canary ? 0.93 : 0.99);
    records.push_back(record);
  }
  return records;
}

ExperimentReport ReportOf(const std::vector<ExposureRecord>& records) {
  ReportBuilder builder(CanaryPlan(), kExperiment, 0, {});
  for (const ExposureRecord& record : records) builder.Add(record);
  return builder.Build();
}

const ArmComparison& Of(const ExperimentReport& report, ReportMetric metric) {
  return *std::find_if(
      report.comparisons.begin(), report.comparisons.end(),
      [&](const ArmComparison& c) { return c.metric == static_cast<int>(metric); });
}

TEST(ReportTest, EqualArmsAreValidAndUndecided) {
  const ExperimentReport report = ReportOf(Records({}));
  EXPECT_TRUE(report.valid);
  EXPECT_EQ(report.arms[0].bound + report.arms[1].bound, 20000);
  EXPECT_NEAR(report.arms[0].first_token.Quantile(0.5), 55000, 2000);
  for (const ReportMetric metric :
       {ReportMetric::kOutputTokens, ReportMetric::kErrors, ReportMetric::kMeanLogprob}) {
    const Bounds bounds = Of(report, metric).bounds;
    EXPECT_TRUE(bounds.low < 0 && bounds.high > 0) << static_cast<int>(metric);
  }
  // What scores say of NF4 is a difference, and no verdict on answers.
  EXPECT_GT(Of(report, ReportMetric::kScoreKl).bounds.low, 0);
}

TEST(ReportTest, FindsAnArmThatFailsOrRambles) {
  const ExperimentReport failing = ReportOf(Records({.canary_error_rate = 0.05}));
  EXPECT_GT(Of(failing, ReportMetric::kErrors).bounds.low, 0);
  EXPECT_LT(Of(failing, ReportMetric::kErrors).p, 0.05);
  const ExperimentReport longer = ReportOf(Records({.canary_is_longer = true}));
  EXPECT_GT(Of(longer, ReportMetric::kOutputTokens).bounds.low, 0);
}

TEST(ReportTest, AnUnevenSplitMakesEveryResultInvalid) {
  const ExperimentReport report =
      ReportOf(Records({.canary_error_rate = 0.05, .canary_share = 0.45}));
  EXPECT_FALSE(report.valid);
  EXPECT_FALSE(report.gates[0].passed);
}

TEST(ReportTest, FallbacksAreCountedForTheArmThatWasAssignedAndStopTheReport) {
  const ExperimentReport report = ReportOf(Records({.fallback_rate = 0.02}));
  EXPECT_NEAR(static_cast<double>(report.arms[1].bound), 10000, 300);
  EXPECT_FALSE(report.valid);
  EXPECT_FALSE(report.gates[2].passed);
}

TEST(ReportTest, AUnitInTwoArmsIsSeen) {
  std::vector<ExposureRecord> records = Records({});
  for (size_t i = 0; i < 2000; ++i) records[i].unit_hash = 2 + i % 20;
  const ExperimentReport report = ReportOf(records);
  EXPECT_FALSE(report.gates[1].passed);
}

TEST(ReportTest, LeavesOutOtherExperimentsForcedAndShadowRequests) {
  std::vector<ExposureRecord> records = Records({.requests = 300});
  const int64_t before = ReportOf(records).arms[0].bound;
  ExposureRecord other = records[0];
  other.experiment = kExperiment + 1;
  records.push_back(other);
  ExposureRecord forced = records[0];
  forced.reason = ServedReason::kForced;
  records.push_back(forced);
  ExposureRecord shadow = records[0];
  shadow.reason = ServedReason::kShadow;
  shadow.arm = 0;
  records.push_back(shadow);
  ExposureRecord unknown = records[0];
  unknown.arm = 9;
  records.push_back(unknown);
  const ExperimentReport report = ReportOf(records);
  EXPECT_EQ(report.arms[0].bound, before);
  EXPECT_EQ(report.forced, 1);
  EXPECT_TRUE(report.shadows.empty());  // the control has none of its own
}

// Everything that a report can have, units beyond the limit among it.
struct Everything {
  std::vector<ExposureRecord> records;
  std::vector<FeedbackValue> feedback;
};

Everything AllOf(int requests) {
  Everything all{.records = Records({.requests = requests, .canary_is_longer = true})};
  Uniform uniform(9);
  for (int i = 0; i < requests; ++i) {
    const auto number = static_cast<uint64_t>(i);
    if (i % 7 == 0) {
      ExposureRecord shadow = ShadowScore(number, all.records[number].unit_hash);
      shadow.score_kl = static_cast<float>(uniform.Exponential(0.03));
      shadow.output_tokens = static_cast<uint32_t>(50 + 100 * uniform());
      all.records.push_back(shadow);
    }
    if (i % 11 == 0) all.records.push_back(Done(number, kCanary, 0));
    const double value = uniform() < 0.8 ? 1 : 0;
    all.feedback.push_back({.exposure_id = IdOf(number),
                            .metric = 0,
                            .value = value,
                            .unix_micros = uniform.Below(5)});
    all.feedback.push_back({.exposure_id = IdOf(number / 2),
                            .metric = 0,
                            .value = uniform(),
                            .unix_micros = uniform.Below(5),
                            .source_hash = 3});
    all.feedback.push_back({.exposure_id = IdOf(number),
                            .metric = 1,
                            .value = value,
                            .unix_micros = uniform.Below(5),
                            .over = IdOf(uniform.Below(static_cast<uint64_t>(requests)))});
  }
  return all;
}

std::string BytesOf(const ReportBuilder& builder) {
  return ReportMessage(builder.Build()).SerializeAsString();
}

ReportBuilder BuilderOfAll() {
  return ReportBuilder(CanaryPlan(), kExperiment, 0,
                       {.decision = DecisionRule{.metric = kNumReportMetrics, .margin = 0.05},
                        .feedback = {{.name = "thumb"},
                                     {.name = "better", .kind = FeedbackMetric::Kind::kPreference}},
                        .max_units = 700});
}

TEST(ReportTest, IsTheSameToTheBitInAnyOrder) {
  Everything all = AllOf(3000);
  ReportBuilder first = BuilderOfAll();
  for (const ExposureRecord& record : all.records) first.Add(record);
  for (const FeedbackValue& value : all.feedback) first.AddFeedback(value);
  EXPECT_LT(first.Build().unit_share, 1);
  for (int seed = 0; seed < 5; ++seed) {
    std::mt19937_64 generator(seed);
    std::shuffle(all.records.begin(), all.records.end(), generator);
    std::shuffle(all.feedback.begin(), all.feedback.end(), generator);
    ReportBuilder again = BuilderOfAll();
    size_t record = 0, value = 0;
    while (record < all.records.size() || value < all.feedback.size()) {
      const bool next_is_record =
          value == all.feedback.size() || (record < all.records.size() && generator() % 2 == 0);
      if (next_is_record) again.Add(all.records[record++]);
      if (!next_is_record) again.AddFeedback(all.feedback[value++]);
    }
    EXPECT_EQ(BytesOf(first), BytesOf(again)) << "seed " << seed;
  }
}

TEST(ReportTest, IsTheSameToTheBitFromTheLog) {
  const std::vector<ExposureRecord> records = Records({.requests = 3000});
  const std::string folder = absl::StrCat(::testing::TempDir(), "report.", getpid());
  std::filesystem::remove_all(folder);
  ReportBuilder live = BuilderOfAll(), rebuilt = BuilderOfAll();
  {
    auto log = ExposureLog::Open({.folder = folder});
    ASSERT_TRUE(log.ok()) << log.status();
    for (const ExposureRecord& record : records) {
      live.Add(record);
      (*log)->Append(record);
    }
    EXPECT_EQ((*log)->Dropped(), 0);
  }
  const auto reading =
      ReadExposures(folder, [&](const ExposureRecord& record) { rebuilt.Add(record); });
  ASSERT_TRUE(reading.ok()) << reading.status();
  std::filesystem::remove_all(folder);
  EXPECT_EQ(BytesOf(live), BytesOf(rebuilt));
}

TEST(ReportTest, ARequestWithoutAUnitIsCountedAndNotCompared) {
  ReportBuilder builder(CanaryPlan(), kExperiment, 0, {});
  for (uint64_t i = 0; i < 10; ++i) {
    builder.Add(Bound(i, kCanary, i < 3 ? 0 : 1 + i % 2));
    builder.Add(Done(i, kCanary, i < 3 ? 0 : 1 + i % 2));
  }
  const ExperimentReport report = builder.Build();
  EXPECT_EQ(report.arms[kCanary].bound, 10);
  EXPECT_EQ(report.without_unit, 3);
  EXPECT_EQ(report.arms[kCanary].units, 2);
  ReportBuilder by_request(CanaryPlan(), kExperiment, 0, {.unit_is_request = true});
  for (uint64_t i = 0; i < 10; ++i) {
    by_request.Add(Bound(i, kCanary, 0));
    by_request.Add(Done(i, kCanary, 0));
  }
  EXPECT_EQ(by_request.Build().without_unit, 0);
  EXPECT_EQ(by_request.Build().arms[kCanary].units, 10);
}

// Sessions differ in length: their requests are no independent draws of a split.
TEST(ReportTest, TheSampleRatioIsOfUnitsAndNotOfTheirRequests) {
  ReportBuilder builder(CanaryPlan(), kExperiment, 0, {});
  uint64_t number = 0;
  for (uint64_t unit = 1; unit <= 400; ++unit) {
    const auto arm = static_cast<uint8_t>(unit % 2);
    for (int i = 0; i < (unit == 1 ? 2000 : 5); ++i) builder.Add(Bound(number++, arm, unit));
  }
  EXPECT_TRUE(builder.Build().gates[0].passed);
}

TEST(ReportTest, CountsBrokenAnswers) {
  ReportBuilder builder(CanaryPlan(), kExperiment, 0, {});
  builder.Add(Done(1, kCanary, 1, /*tokens=*/0));
  builder.Add(Done(2, kCanary, 2));
  EXPECT_EQ(builder.Build().arms[kCanary].broken, 1);
  EXPECT_EQ(builder.Build().arms[kControl].broken, 0);
}

TEST(ReportTest, ARequestThatEndedBeforeItsFirstTokenHasNoTimeToIt) {
  ReportBuilder builder(CanaryPlan(), kExperiment, 0, {});
  builder.Add(Done(1, kCanary, 1, /*tokens=*/0));
  builder.Add(Done(2, kCanary, 2, /*tokens=*/1));
  const ArmSummary canary = builder.Build().arms[kCanary];
  EXPECT_EQ(canary.total.count(), 2);
  EXPECT_EQ(canary.first_token.count(), 1);
  EXPECT_EQ(canary.token_p50.count(), 0);
}

TEST(ReportTest, ShadowsArePairsOfTheSameRequests) {
  ReportBuilder builder(CanaryPlan(), kExperiment, 0, {});
  Uniform uniform(2);
  for (uint64_t i = 0; i < 500; ++i) {
    ExposureRecord shadow = ShadowScore(i, i % 2 == 0 ? 0 : i);  // with and without a unit
    shadow.output_tokens = 110;
    shadow.score_kl = static_cast<float>(0.02 + 0.02 * uniform());
    shadow.same_tokens = static_cast<uint32_t>(i % 101);
    shadow.equal = i % 4 == 0 ? 1 : 0;
    builder.Add(shadow);
    shadow.kind = ExposureKind::kBound;
    builder.Add(shadow);
    shadow.kind = ExposureKind::kDone;
    shadow.finish = testing::kEos;
    shadow.grpc_status = i % 100 == 0   ? testing::kResourceExhausted
                         : i % 100 == 1 ? testing::kInternal
                                        : 0;
    builder.Add(shadow);
  }
  const ExperimentReport report = builder.Build();
  EXPECT_EQ(report.arms[kCanary].bound + report.arms[kControl].bound, 0);
  ASSERT_EQ(report.shadows.size(), 1u);
  const ShadowSummary& shadow = report.shadows[0];
  EXPECT_EQ(shadow.arm, kCanary);
  EXPECT_EQ(shadow.mirrored, 500);
  EXPECT_EQ(shadow.dropped, 5);
  EXPECT_EQ(shadow.failed, 5);
  EXPECT_EQ(shadow.scored, 500);
  EXPECT_EQ(shadow.equal, 125);
  EXPECT_NEAR(shadow.kl.mean(), 0.03, 0.001);
  EXPECT_LT(shadow.kl_bounds.low, shadow.kl.mean());
  EXPECT_NEAR(shadow.kl_bounds.high, 0.03, 0.003);
  EXPECT_NEAR(shadow.top1_mean, 0.97, 1e-6);
  EXPECT_NEAR(shadow.length_ratio.mean(), 1.1, 1e-6);
  EXPECT_NEAR(shadow.same_tokens.Quantile(0.5) - 1, 50, 2);

  const auto paired = [&](ReportMetric metric) {
    for (const ArmComparison& comparison : report.comparisons) {
      if (comparison.paired && comparison.metric == static_cast<int>(metric)) return comparison;
    }
    return ArmComparison();
  };
  EXPECT_EQ(paired(ReportMetric::kOutputTokens).treatment.count(), 500);
  EXPECT_NEAR(paired(ReportMetric::kOutputTokens).difference.mean, 10, 1e-6);
  EXPECT_EQ(paired(ReportMetric::kErrors).treatment.count(), 495);  // the dropped are no pairs
  EXPECT_NEAR(paired(ReportMetric::kErrors).difference.mean, 5.0 / 495, 1e-9);
  EXPECT_NEAR(paired(ReportMetric::kScoreTop1).difference.mean, -0.03, 1e-6);
}

TEST(ReportTest, AnExperimentWithoutRecordsIsEmptyAndValid) {
  const ExperimentReport report = ReportOf({});
  EXPECT_TRUE(report.valid);
  EXPECT_TRUE(std::isnan(report.arms[0].total.Quantile(0.5)));
}

TEST(QuantileSketchTest, IsWithinOnePercentOfTheValueAndAddsUp) {
  QuantileSketch all, left, right;
  std::vector<double> values;
  std::mt19937_64 generator(3);
  for (int i = 0; i < 10001; ++i) {
    const double value = std::exp(static_cast<double>(generator() >> 11) * 0x1p-53 * 15);
    values.push_back(value);
    all.Add(value);
    (i % 2 == 0 ? left : right).Add(value);
  }
  std::sort(values.begin(), values.end());
  left.Merge(right);
  for (const double q : {0.0, 0.01, 0.5, 0.95, 0.99, 1.0}) {
    const double exact = values[static_cast<size_t>(q * 10000)];
    EXPECT_NEAR(all.Quantile(q), exact, 0.0101 * exact) << q;
    EXPECT_EQ(left.Quantile(q), all.Quantile(q)) << q;
  }
  QuantileSketch small;
  small.Add(0);
  small.Add(std::nan(""));
  EXPECT_EQ(small.count(), 1);
  EXPECT_EQ(small.Quantile(0.5), 1);
}

}  // namespace
}  // namespace vernier
