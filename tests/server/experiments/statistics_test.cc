// The statistics against closed forms, and against many simulated experiments: what they promise
// is a rate of wrong decisions, so that is what is counted.
#include "server/experiments/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/server/experiments/records.h"
#include "tests/server/experiments/simulations.h"

namespace vernier {
namespace {

using testing::Uniform;

TEST(MomentsTest, AreThoseOfTheValuesHoweverTheyAreDivided) {
  Uniform uniform(1);
  Moments all, left, right;
  double sum = 0, squares = 0;
  for (int i = 0; i < 1000; ++i) {
    const double value = 1e6 + uniform();
    all.Add(value);
    (i % 3 == 0 ? left : right).Add(value);
    sum += value - 1e6;
    squares += (value - 1e6) * (value - 1e6);
  }
  const double mean = sum / 1000;
  EXPECT_NEAR(all.mean(), 1e6 + mean, 1e-9);
  EXPECT_NEAR(all.Variance(), (squares - 1000 * mean * mean) / 999, 1e-9);
  left.Merge(right);
  left.Merge(Moments());
  EXPECT_EQ(left.count(), 1000);
  EXPECT_NEAR(left.mean(), all.mean(), 1e-9);
  EXPECT_NEAR(left.Variance(), all.Variance(), 1e-9);
}

TEST(SequenceTest, KnowsNothingOfTooFewValues) {
  Moments one, other;
  EXPECT_TRUE(std::isinf(ConfidenceSequence(DifferenceOf(one, other), {}).high));
  one.Add(1);
  other.Add(2);
  EXPECT_TRUE(std::isinf(OneSidedSequences(DifferenceOf(one, other), {}).low));
  EXPECT_EQ(AnytimeP(DifferenceOf(one, other), {}), 1);
  EXPECT_FALSE(NaiveTestRejects(DifferenceOf(one, other), 0.05));
}

// The ratios of the table that was computed for this design: 1.97, 1.55 and 1.65 times the interval
// of one look.
TEST(SequenceTest, IsNarrowestAtTheCountItIsTunedTo) {
  const std::vector<std::pair<int64_t, double>> rows = {{500, 1.97}, {5000, 1.55}, {50000, 1.65}};
  for (const auto& [count, ratio] : rows) {
    const Difference difference{.standard_error = 1, .count = count};
    EXPECT_NEAR(ConfidenceSequence(difference, {}).high / 1.959964, ratio, 0.01) << count;
  }
}

TEST(SequenceTest, AnytimePIsTheLevelAtWhichTheSequenceLeavesZeroOut) {
  const Difference difference{.mean = 3.5, .standard_error = 1, .count = 5000};
  const double p = AnytimeP(difference, {.alpha = 0.05});
  // rho is fixed by the options' alpha, so compare through the evidence at that level.
  const Bounds bounds = ConfidenceSequence(difference, {.alpha = 0.05});
  EXPECT_EQ(p<0.05, bounds.low> 0);
  const Difference weaker{.mean = 1.0, .standard_error = 1, .count = 5000};
  EXPECT_EQ(AnytimeP(weaker, {.alpha = 0.05}) < 0.05,
            ConfidenceSequence(weaker, {.alpha = 0.05}).low > 0);
  EXPECT_GT(AnytimeP(weaker, {}), p);
}

// One simulated split of two arms with rates p and q, looked at every `every` values of both.
template <class Look>
void Simulate(double p, double q, int64_t values, int64_t every, uint64_t seed, const Look& look) {
  Uniform uniform(seed);
  Moments control, treatment;
  for (int64_t i = 1; i <= values; ++i) {
    const bool second = uniform() < 0.5;
    (second ? treatment : control).Add(uniform() < (second ? q : p) ? 1 : 0);
    if (i % every == 0 && !look(control, treatment)) return;
  }
}

// tests/bench/experiments_bench has 2,000 of them.
TEST(SequenceTest, EqualArmsLookedAtTwoHundredTimesDifferInFewerThanFivePercent) {
  constexpr int kRuns = 200;
  int sequence = 0, naive = 0;
  for (int run = 0; run < kRuns; ++run) {
    const testing::NullRun looked = testing::LookAtEqualArms(static_cast<uint64_t>(run));
    sequence += looked.by_sequence ? 1 : 0;
    naive += looked.by_naive_test ? 1 : 0;
  }
  EXPECT_LE(sequence, kRuns * 5 / 100);
  EXPECT_GE(naive, kRuns * 30 / 100);  // what peeking does to a test of one look
}

TEST(SequenceTest, FindsAFivePointLossSoon) {
  std::vector<int64_t> found;
  for (int run = 0; run < 100; ++run) {
    int64_t at = 20001;
    Simulate(0.8, 0.75, 20000, 100, 1000 + static_cast<uint64_t>(run),
             [&](const auto& c, const auto& t) {
               if (ConfidenceSequence(DifferenceOf(c, t), {}).high >= 0) return true;
               at = c.count() + t.count();
               return false;
             });
    found.push_back(at);
  }
  std::sort(found.begin(), found.end());
  EXPECT_LE(found.back(), 20000);
  EXPECT_LE(found[50], 3000);
}

TEST(NonInferiorityTest, JudgesByTheMarginAlone) {
  const Difference difference{.mean = -0.01, .standard_error = 0.001, .count = 5000};
  EXPECT_EQ(JudgeNonInferiority(difference, 0.02, {}), NonInferiority::kNonInferior);
  EXPECT_EQ(JudgeNonInferiority(difference, 0.002, {}), NonInferiority::kInferior);
  EXPECT_EQ(JudgeNonInferiority(difference, 0.01, {}), NonInferiority::kUndecided);
}

TEST(NonInferiorityTest, PairsNeedHundredsWhereASplitNeedsThousands) {
  EXPECT_NEAR(PairedSampleSize(0.04, 0.02, 0.05, 0.9), 857, 1);
  EXPECT_NEAR(SplitSampleSize(0.8, 0.02, 0.05, 0.9), 6852, 2);
}

TEST(SampleRatioTest, AgreesWithChiSquaredTables) {
  const std::vector<double> even = {0.5, 0.5};
  EXPECT_NEAR(SampleRatioP(std::vector<int64_t>{550, 450}, even), 0.001565, 1e-6);
  EXPECT_EQ(SampleRatioP(std::vector<int64_t>{0, 0}, even), 1);
  EXPECT_NEAR(SampleRatioLnBayesFactor(std::vector<int64_t>{0, 0}, even), 0, 1e-9);
}

TEST(SampleRatioTest, FindsFortyEightToFiftyTwoAndHardlyEverAnEvenSplit) {
  std::vector<int64_t> noticed;
  for (int run = 0; run < 200; ++run) {
    noticed.push_back(testing::UnevenAt(0.48, 60000, 100 + run));
  }
  EXPECT_LE(testing::QuantileOf(noticed, 0.5), 10500);
  int false_alarms = 0;
  for (int run = 0; run < 1000; ++run)
    false_alarms += testing::UnevenAt(0.5, 10000, 9000 + run) <= 10000;
  EXPECT_LE(false_alarms, 1);
}

TEST(ErrorProcessTest, IsTheMeanOfLikelihoodRatios) {
  ErrorProcess process(0.3);  // alternatives: 0.5 alone
  EXPECT_NEAR(process.LnEvidence(), 0, 1e-12);
  process.Add(true);
  process.Add(false);
  EXPECT_NEAR(process.LnEvidence(), std::log(0.5 / 0.3 * 0.5 / 0.7), 1e-12);
}

TEST(ErrorProcessTest, HasAnAlternativeAboveEveryLimit) {
  ErrorProcess process(0.9);
  for (int i = 0; i < 1000; ++i) process.Add(true);
  EXPECT_GT(process.LnEvidence(), std::log(1000.0));
}

TEST(MeanProcessTest, GainsAboveItsLimitAndLosesBelow) {
  MeanProcess above(0.1), below(0.1), at(0.1), once(0.1);
  EXPECT_NEAR(above.LnEvidence(), 0, 1e-12);
  for (int i = 0; i < 100; ++i) {
    above.Add(0.2);
    below.Add(-1);  // as 0
    at.Add(0.1);
  }
  EXPECT_GT(above.LnEvidence(), std::log(1000.0));
  EXPECT_LT(below.LnEvidence(), -2);
  EXPECT_NEAR(at.LnEvidence(), 0, 1e-12);
  once.Add(0.3);  // shares of 0.02 to 0.7, mean 0.245, of twice the limit
  EXPECT_NEAR(once.LnEvidence(), std::log(1 + 2 * 0.245), 1e-12);
}

TEST(QuantileRanksTest, HoldAtEveryLook) {
  EXPECT_EQ(QuantileRanks(1, 0.95, 0.05).low, 0);
  EXPECT_EQ(QuantileRanks(100, 0.95, 0.05).high, 1);
  int missed = 0;
  for (int run = 0; run < 200; ++run) {
    Uniform uniform(40 + static_cast<uint64_t>(run));
    int64_t below = 0;
    bool out = false;
    for (int64_t i = 1; i <= 5000; ++i) {
      below += uniform() < 0.95 ? 1 : 0;
      const Bounds ranks = QuantileRanks(i, 0.95, 0.05);
      const double rank = static_cast<double>(below) / static_cast<double>(i);
      out |= rank < ranks.low || rank > ranks.high;
    }
    missed += out ? 1 : 0;
  }
  EXPECT_LE(missed, 10);
}

TEST(PairsTest, WinRatesHoldAtEveryLook) {
  EXPECT_EQ(WinRateSequence(0, 0, 0.05).low, 0);
  EXPECT_EQ(WinRateSequence(0, 0, 0.05).high, 1);
  const Bounds even = WinRateSequence(50, 50, 0.05);
  EXPECT_NEAR(even.low + even.high, 1, 1e-9);
  EXPECT_LT(even.low, 0.5);
  // The bound is where the evidence against it is 20.
  const Bounds all = WinRateSequence(10, 0, 0.05);
  EXPECT_NEAR(all.high, 1, 1e-9);
  EXPECT_NEAR(std::pow(all.low, 10), 1 / (11 * 20.0), 1e-9);
  int missed = 0;
  for (int run = 0; run < 200; ++run) {
    Uniform uniform(90 + static_cast<uint64_t>(run));
    int64_t wins = 0;
    bool out = false;
    for (int64_t i = 1; i <= 400; ++i) {
      wins += uniform() < 0.6 ? 1 : 0;
      const Bounds rates = WinRateSequence(wins, i - wins, 0.05);
      out |= rates.low > 0.6 || rates.high < 0.6;
    }
    missed += out ? 1 : 0;
  }
  EXPECT_LE(missed, 10);
}

TEST(PairsTest, CountOnlyWhereAnswersDiffer) {
  EXPECT_EQ(McNemarP(0, 0), 1);
  EXPECT_NEAR(McNemarP(0, 5), 0.0625, 1e-12);
  EXPECT_NEAR(McNemarP(6, 1), 0.125, 1e-12);
  EXPECT_EQ(McNemarP(3, 3), 1);
  EXPECT_NEAR(LnPreferenceEvidence(0, 0), 0, 1e-12);
  EXPECT_LT(LnPreferenceEvidence(10, 10), 0);
  EXPECT_GT(LnPreferenceEvidence(30, 5), std::log(1000.0));
}

}  // namespace
}  // namespace vernier
