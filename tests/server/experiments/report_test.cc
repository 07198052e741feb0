#include "server/experiments/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/experiments/exposure_log.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint32_t kExperiment = 7;

ExperimentPlan Plan() {
  ExperimentPlan plan{.id = "nf4-canary", .salt = "nf4-canary"};
  plan.arms = {{"control", "fp16", 0.5}, {"canary", "nf4", 0.5}};
  return plan;
}

struct Traffic {
  int requests = 20000;
  double canary_error_rate = 0.01;
  double canary_share = 0.5;      // of what is bound, whatever the plan says
  double fallback_rate = 0;       // canary requests that the control's variant served
  bool canary_is_longer = false;  // by 5 of about 100 tokens
};

// Records as a server would leave them: each bound, then ended; every tenth scored.
std::vector<ExposureRecord> Records(const Traffic& traffic) {
  std::mt19937_64 generator(1);
  const auto uniform = [&] { return static_cast<double>(generator() >> 11) * 0x1p-53; };
  std::vector<ExposureRecord> records;
  for (int i = 0; i < traffic.requests; ++i) {
    ExposureRecord record;
    record.experiment = kExperiment;
    const uint64_t id = generator();
    std::memcpy(record.request_id.data() + 8, &id, sizeof(id));
    const bool canary = uniform() < traffic.canary_share;
    record.arm = canary ? 1 : 0;
    record.assigned = record.served = record.arm;
    if (canary && uniform() < traffic.fallback_rate) record.served = 0;
    record.unit_hash = 2 * (generator() % 5000) + record.arm + 2;
    records.push_back(record);
    record.kind = ExposureKind::kDone;
    record.output_tokens =
        static_cast<uint32_t>(50 + 100 * uniform()) + (canary && traffic.canary_is_longer ? 5 : 0);
    record.grpc_status = uniform() < (canary ? traffic.canary_error_rate : 0.01) ? 13 : 0;
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
  ReportBuilder builder(Plan(), kExperiment, 0);
  for (const ExposureRecord& record : records) builder.Add(record);
  return builder.Build({.alpha = 0.05, .tuned_count = 5000});
}

const ArmComparison& Of(const ExperimentReport& report, ReportMetric metric) {
  return *std::find_if(report.comparisons.begin(), report.comparisons.end(),
                       [&](const ArmComparison& c) { return c.metric == metric; });
}

TEST(ReportTest, EqualArmsAreValidAndUndecided) {
  const ExperimentReport report = ReportOf(Records({}));
  EXPECT_TRUE(report.valid);
  EXPECT_EQ(report.arms[0].bound + report.arms[1].bound, 20000);
  EXPECT_NEAR(report.arms[0].first_token.Quantile(0.5), 55000, 2000);
  for (const ReportMetric metric :
       {ReportMetric::kOutputTokens, ReportMetric::kErrors, ReportMetric::kMeanLogprob}) {
    const Bounds bounds = Of(report, metric).bounds;
    EXPECT_TRUE(bounds.low < 0 && bounds.high > 0) << ReportMetricName(metric);
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
  const std::string text = RenderReport(report, 0);
  EXPECT_THAT(text, HasSubstr("FAIL sample ratio"));
  EXPECT_THAT(text, HasSubstr("INVALID"));
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
  records.push_back(shadow);
  ExposureRecord unknown = records[0];
  unknown.arm = 9;
  records.push_back(unknown);
  const ExperimentReport report = ReportOf(records);
  EXPECT_EQ(report.arms[0].bound, before);
  EXPECT_EQ(report.forced, 1);
  EXPECT_EQ(report.shadow, 1);
}

TEST(ReportTest, IsTheSameToTheBitInAnyOrderAndFromTheLog) {
  std::vector<ExposureRecord> records = Records({.requests = 3000, .canary_is_longer = true});
  const ExperimentReport first = ReportOf(records);

  const std::string folder = absl::StrCat(::testing::TempDir(), "report.", getpid());
  std::filesystem::remove_all(folder);
  std::shuffle(records.begin(), records.end(), std::mt19937_64(2));
  {
    auto log = ExposureLog::Open({.folder = folder});
    ASSERT_TRUE(log.ok()) << log.status();
    for (const ExposureRecord& record : records) (*log)->Append(record);
    EXPECT_EQ((*log)->Dropped(), 0);
  }
  ReportBuilder builder(Plan(), kExperiment, 0);
  const auto reading =
      ReadExposures(folder, [&](const ExposureRecord& record) { builder.Add(record); });
  ASSERT_TRUE(reading.ok()) << reading.status();
  const ExperimentReport again = builder.Build({.alpha = 0.05, .tuned_count = 5000});
  std::filesystem::remove_all(folder);

  ASSERT_EQ(again.comparisons.size(), first.comparisons.size());
  for (size_t i = 0; i < first.comparisons.size(); ++i) {
    EXPECT_EQ(std::memcmp(&first.comparisons[i].difference, &again.comparisons[i].difference,
                          sizeof(Difference)),
              0);
  }
  EXPECT_EQ(RenderReport(first, 0), RenderReport(again, 0));
}

TEST(ReportTest, SaysWhatItsLatencyIs) {
  const std::string text = RenderReport(ReportOf(Records({.requests = 200})), 0);
  EXPECT_THAT(text, HasSubstr("under the mixture"));
  EXPECT_THAT(text, HasSubstr("(control)"));
  EXPECT_THAT(text, Not(HasSubstr("INVALID")));
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
