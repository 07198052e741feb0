// The verdict of a report: by the margin, in the metric's direction, by pairs or by units, and
// never against a stratum.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/experiments/report.h"
#include "tests/server/experiments/records.h"
#include "tests/server/experiments/simulations.h"

namespace vernier {
namespace {

using testing::Bound;
using testing::DecideByPairs;
using testing::Done;
using ::testing::HasSubstr;
using testing::IdOf;
using testing::kCanary;
using testing::kControl;
using testing::Uniform;

constexpr int kThumb = kNumReportMetrics;

ReportOptions Deciding(DecisionRule rule, double tuned_count = 5000) {
  return {
      .sequence = {.tuned_count = tuned_count}, .decision = rule, .feedback = {{.name = "thumb"}}};
}

ReportBuilder BuilderOf(const ReportOptions& options) {
  return ReportBuilder(testing::CanaryPlan(), testing::kExperiment, 0, options);
}

struct Thumbs {
  double control = 0.8, canary = 0.8;
  double long_canary = 0.8;  // of prompts of 4000 tokens, every fifth
  int requests = 40000;
};

Verdict VerdictOf(const Thumbs& thumbs, double margin) {
  ReportBuilder builder = BuilderOf(Deciding({.metric = kThumb, .margin = margin}));
  Uniform uniform(11);
  for (int i = 0; i < thumbs.requests; ++i) {
    const auto arm = static_cast<uint8_t>(i % 2);
    ExposureRecord record = Bound(i, arm, 1 + i);
    const bool is_long = i % 10 < 2;
    record.prompt_tokens = is_long ? 4000 : 20;
    const double rate = arm == kControl ? thumbs.control
                        : is_long       ? thumbs.long_canary
                                        : thumbs.canary;
    builder.Add(record);
    builder.AddFeedback({.exposure_id = IdOf(i), .value = uniform() < rate ? 1.0 : 0.0});
  }
  const ExperimentReport report = builder.Build();
  EXPECT_EQ(report.verdicts.size(), 1u);
  return report.verdicts.at(0);
}

TEST(DecisionTest, JudgesByTheMargin) {
  const Verdict equal = VerdictOf({}, 0.05);
  EXPECT_EQ(equal.verdict, NonInferiority::kNonInferior);
  EXPECT_NEAR(equal.needed, 1096, 60);  // 8.56 * 2 * 0.8 * 0.2 / 0.05^2
  EXPECT_THAT(equal.reason, HasSubstr("margin 0.05"));
  EXPECT_EQ(VerdictOf({.canary = 0.7, .long_canary = 0.7}, 0.05).verdict,
            NonInferiority::kInferior);
  EXPECT_EQ(VerdictOf({.requests = 500}, 0.02).verdict, NonInferiority::kUndecided);
  const Verdict few = VerdictOf({.control = 1, .canary = 0.99, .requests = 150}, 0.9);
  EXPECT_EQ(few.verdict, NonInferiority::kUndecided);
  EXPECT_THAT(few.reason, HasSubstr("fewer than 300"));
}

TEST(DecisionTest, AnInferiorStratumBlocksAGoodMean) {
  const Thumbs mixed{.canary = 0.84, .long_canary = 0.65};  // as good as the control in the mean
  const Verdict verdict = VerdictOf(mixed, 0.05);
  EXPECT_EQ(verdict.verdict, NonInferiority::kUndecided);
  EXPECT_THAT(verdict.reason, HasSubstr("inferior for long prompts"));
}

TEST(DecisionTest, KnowsWhichDirectionIsGood) {
  for (const bool longer : {false, true}) {
    ReportBuilder builder = BuilderOf(
        Deciding({.metric = static_cast<int>(ReportMetric::kOutputTokens), .margin = 10}));
    Uniform uniform(5);
    for (int i = 0; i < 4000; ++i) {
      const auto arm = static_cast<uint8_t>(i % 2);
      const uint32_t more = arm == kCanary ? 40 : 0;
      const auto tokens = static_cast<uint32_t>(100 + 50 * uniform());
      builder.Add(Done(i, arm, 1 + i, longer ? tokens + more : tokens - more));
    }
    EXPECT_EQ(builder.Build().verdicts.at(0).verdict,
              longer ? NonInferiority::kInferior : NonInferiority::kNonInferior);
    EXPECT_EQ(builder.Build().verdicts.at(0).needed, 0);
  }
}

TEST(DecisionTest, PairsOfFourPercentDiscordanceDecideWithinNineHundred) {
  std::vector<int64_t> pairs;
  int wrong = 0;
  for (int run = 0; run < 201; ++run) {
    const testing::Decided decided = DecideByPairs(0.02, 0.02, 10000, 50 + run);
    pairs.push_back(decided.pairs);
    wrong += decided.verdict == NonInferiority::kInferior ? 1 : 0;
  }
  EXPECT_LE(testing::QuantileOf(pairs, 0.5), 900);
  EXPECT_LE(wrong, 10);
}

TEST(DecisionTest, ALossOfTheMarginIsHardlyEverTakenForNone) {
  int wrong = 0;
  for (int run = 0; run < 400; ++run) {
    wrong += DecideByPairs(0.03, 0.01, 1500, 900 + run).verdict == NonInferiority::kNonInferior;
  }
  EXPECT_LE(wrong, 20);
}

TEST(DecisionTest, AnAATestEndsWithoutADecision) {
  ExperimentPlan plan = testing::CanaryPlan();
  plan.arms[1].variant = plan.arms[0].variant;
  ReportBuilder builder(plan, testing::kExperiment, 0, Deciding({.metric = kThumb, .margin = 0.5}));
  for (int i = 0; i < 4000; ++i) {
    builder.Add(Bound(i, static_cast<uint8_t>(i % 2), 1 + i));
    builder.AddFeedback({.exposure_id = IdOf(i), .value = i % 3 == 0 ? 1.0 : 0.0});
  }
  const Verdict verdict = builder.Build().verdicts.at(0);
  EXPECT_EQ(verdict.verdict, NonInferiority::kUndecided);
  EXPECT_THAT(verdict.reason, HasSubstr("A/A"));
}

}  // namespace
}  // namespace vernier
