#include "server/experiments/guardrails.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/server/experiments/records.h"
#include "tests/server/experiments/simulations.h"

namespace vernier {
namespace {

using testing::Bound;
using testing::Done;
using ::testing::HasSubstr;
using testing::kCanary;
using testing::kControl;
using testing::KlFoundAt;
using testing::QuantileOf;
using testing::RevertedAt;
using testing::Uniform;

Guardrails Of(const GuardrailLimits& limits = {}) {
  return Guardrails(limits, {"control", "canary"}, 0);
}

ExposureRecord Failed(uint8_t arm) {
  ExposureRecord record = Done(1, arm, 1);
  record.grpc_status = testing::kInternal;
  return record;
}

ExposureRecord Scored(double kl) {
  ExposureRecord record = Bound(1, kCanary, 1);
  record.kind = ExposureKind::kScored;
  record.score_tokens = 50;
  record.score_kl = static_cast<float>(kl);
  return record;
}

// What crosses after `record` has come at most `times`; empty: nothing.
std::string CrossedBy(const ExposureRecord& record, int times, const GuardrailLimits& limits = {}) {
  Guardrails guardrails = Of(limits);
  for (int i = 0; i < times; ++i) {
    if (const auto crossing = guardrails.Add(record)) return crossing->guardrail;
  }
  return "";
}

TEST(GuardrailsTest, NameTheArmTheFigureAndTheLimitOnce) {
  Guardrails guardrails = Of();
  std::optional<Crossing> crossing;
  int requests = 0;
  while (!crossing && requests < 100) {
    ++requests;
    crossing = guardrails.Add(Failed(kCanary));
  }
  ASSERT_TRUE(crossing.has_value());
  EXPECT_LE(requests, 5);
  EXPECT_EQ(crossing->arm, kCanary);
  EXPECT_STREQ(crossing->guardrail, "errors");
  EXPECT_THAT(crossing->reason, HasSubstr("canary: "));
  EXPECT_THAT(crossing->reason, HasSubstr("(100.00 %), limit 0.30 %"));
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(guardrails.Add(Failed(kCanary)));
}

TEST(GuardrailsTest, RevertAtTheFirstLogitThatIsNotFiniteEvenWhereTheyAreOff) {
  ExposureRecord record = Done(1, kCanary, 1);
  record.not_finite = 1;
  EXPECT_EQ(CrossedBy(record, 1), "not_finite");
  EXPECT_EQ(CrossedBy(record, 1, {.off = true}), "not_finite");
  record.reason = ServedReason::kShadow;
  EXPECT_EQ(CrossedBy(record, 1), "not_finite");
  record.arm = kControl;
  EXPECT_EQ(CrossedBy(record, 1), "");
  EXPECT_EQ(CrossedBy(Failed(kCanary), 1000, {.off = true}), "");
}

TEST(GuardrailsTest, PassOverWhatIsNoFaultOfATreatment) {
  EXPECT_EQ(CrossedBy(Failed(kControl), 1000), "");
  ExposureRecord forced = Failed(kCanary);
  forced.reason = ServedReason::kForced;
  EXPECT_EQ(CrossedBy(forced, 1000), "");
  ExposureRecord unknown = Failed(9);
  EXPECT_EQ(CrossedBy(unknown, 1000), "");
  for (const uint8_t status : {1, 3, 4, 8, 14}) {
    ExposureRecord record = Failed(kCanary);
    record.grpc_status = status;
    EXPECT_EQ(CrossedBy(record, 1000), "") << int{status};
  }
  EXPECT_EQ(CrossedBy(Done(1, kCanary, 1), 1000), "");
}

TEST(GuardrailsTest, TakeAnswersOfAnotherVariantForFailuresOfTheArm) {
  ExposureRecord fallback = Done(1, kCanary, 1);
  fallback.served = kControl;
  fallback.reason = ServedReason::kFallbackError;
  EXPECT_EQ(CrossedBy(fallback, 10), "errors");
}

TEST(GuardrailsTest, SeeEmptyAndLoopingAnswers) {
  EXPECT_EQ(CrossedBy(Done(1, kCanary, 1, 0), 10), "broken");
  ExposureRecord loop = Done(1, kCanary, 1, 400);
  loop.loop_rate = 0.9f;
  EXPECT_EQ(CrossedBy(loop, 10), "broken");
}

TEST(GuardrailsTest, HoldKlOnlyWhereALimitIsGiven) {
  EXPECT_EQ(CrossedBy(Scored(5), 1000), "");
  EXPECT_EQ(CrossedBy(Scored(0.5), 20, {.max_kl = 0.1}), "kl");
  EXPECT_EQ(CrossedBy(Scored(0.1), 10000, {.max_kl = 0.1}), "");
  EXPECT_EQ(CrossedBy(Scored(std::numeric_limits<double>::quiet_NaN()), 100, {.max_kl = 0.1}), "");
  EXPECT_EQ(CrossedBy(Scored(5), 1000, {.max_kl = 0.1, .off = true}), "");
}

TEST(GuardrailsTest, RevertFivePercentOfErrorsWithinNinetyCanaryRequests) {
  std::vector<int64_t> reverted;
  for (int run = 0; run < 501; ++run) reverted.push_back(RevertedAt(0.05, 0, 5000, 200 + run));
  EXPECT_LE(QuantileOf(reverted, 0.5), 90);
  EXPECT_LE(QuantileOf(reverted, 0.95), 230);
}

TEST(GuardrailsTest, HardlyEverRevertACanaryAtItsLimits) {
  int false_reverts = 0;
  for (int run = 0; run < 1000; ++run) {
    false_reverts += RevertedAt(0.003, 0.02, 2000, 7000 + run) <= 2000 ? 1 : 0;
  }
  EXPECT_LE(false_reverts, 2);  // 1/1000 for each of the two
}

// KL is skewed: most answers are close, some are far. Its mean is what is limited.
TEST(GuardrailsTest, FindTwiceTheKlWithinFiftyAnswersAndHardlyEverTheLimit) {
  std::vector<int64_t> found;
  for (int run = 0; run < 201; ++run) found.push_back(KlFoundAt(0.06, 5000, 300 + run));
  EXPECT_LE(QuantileOf(found, 0.5), 50);
  int false_reverts = 0;
  for (int run = 0; run < 500; ++run) false_reverts += KlFoundAt(0.03, 1000, 900 + run) <= 1000;
  EXPECT_LE(false_reverts, 1);
}

// A report of equal arms but for what `change` makes of the canary's requests.
template <class Change>
std::vector<GateResult> HeldBy(const Change& change) {
  ReportBuilder builder(testing::CanaryPlan(), testing::kExperiment, 0, {});
  Uniform uniform(4);
  for (uint64_t i = 0; i < 4000; ++i) {
    const auto arm = static_cast<uint8_t>(i % 2);
    ExposureRecord record = Done(i, arm, 1 + i, static_cast<uint32_t>(50 + 100 * uniform()));
    record.first_token_micros = static_cast<uint32_t>(20000 * (1 + uniform()));
    if (arm == kCanary) change(&record);
    builder.Add(record);
  }
  return HoldingGates(builder.Build());
}

TEST(HoldingGatesTest, LetEqualArmsPassAndHoldSlowOrRamblingOnes) {
  const auto equal = HeldBy([](ExposureRecord*) {});
  ASSERT_EQ(equal.size(), 2u);
  EXPECT_TRUE(equal[0].passed && equal[1].passed) << equal[0].reason << equal[1].reason;
  const auto slow = HeldBy([](ExposureRecord* record) { record->first_token_micros *= 2; });
  EXPECT_FALSE(slow[0].passed);
  EXPECT_TRUE(slow[1].passed);
  EXPECT_THAT(slow[0].reason, HasSubstr("limit 120 %"));
  const auto longer = HeldBy([](ExposureRecord* record) { record->output_tokens += 50; });
  EXPECT_TRUE(longer[0].passed);
  EXPECT_FALSE(longer[1].passed);
  const auto shorter = HeldBy([](ExposureRecord* record) { record->output_tokens /= 2; });
  EXPECT_FALSE(shorter[1].passed);
}

TEST(HoldingGatesTest, PassWhileNothingIsKnown) {
  const ReportBuilder builder(testing::CanaryPlan(), testing::kExperiment, 0, {});
  for (const GateResult& gate : HoldingGates(builder.Build())) EXPECT_TRUE(gate.passed);
}

}  // namespace
}  // namespace vernier
