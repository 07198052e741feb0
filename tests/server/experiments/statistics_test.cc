// The statistics against closed forms, and against many simulated experiments: what they promise
// is a rate of wrong decisions, so that is what is counted.
#include "server/experiments/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace vernier {
namespace {

// Uniform in [0, 1), the same on every machine.
class Uniform {
 public:
  explicit Uniform(uint64_t seed) : generator_(seed) {}
  double operator()() { return static_cast<double>(generator_() >> 11) * 0x1p-53; }

 private:
  std::mt19937_64 generator_;
};

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

TEST(SequenceTest,
     TwoThousandNullExperimentsLookedAtTwoHundredTimesDecideWronglyInFewerThanFivePercent) {
  constexpr int kRuns = 2000;
  int sequence = 0, naive = 0;
  for (int run = 0; run < kRuns; ++run) {
    bool by_sequence = false, by_naive = false;
    Simulate(0.8, 0.8, 10000, 50, static_cast<uint64_t>(run), [&](const auto& c, const auto& t) {
      const Difference difference = DifferenceOf(c, t);
      const Bounds bounds = ConfidenceSequence(difference, {});
      by_sequence |= bounds.low > 0 || bounds.high < 0;
      by_naive |= NaiveTestRejects(difference, 0.05);
      return true;
    });
    sequence += by_sequence ? 1 : 0;
    naive += by_naive ? 1 : 0;
  }
  RecordProperty("sequence_percent", std::to_string(100.0 * sequence / kRuns));
  RecordProperty("naive_percent", std::to_string(100.0 * naive / kRuns));
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

// Pairs whose outcomes differ in 4 % of cases, both ways alike; a margin of 2 points.
TEST(NonInferiorityTest, PairsDecideWithAFewHundredWhereASplitNeedsThousands) {
  EXPECT_NEAR(PairedSampleSize(0.04, 0.02, 0.05, 0.9), 857, 1);
  EXPECT_NEAR(SplitSampleSize(0.8, 0.02, 0.05, 0.9), 6852, 2);
  const double tuned = PairedSampleSize(0.04, 0.02, 0.05, 0.9);
  std::vector<int64_t> decided;
  int wrong = 0;
  for (int run = 0; run < 500; ++run) {
    Uniform uniform(5000 + static_cast<uint64_t>(run));
    Moments pairs;
    int64_t at = 100000;
    for (int64_t i = 1; i <= 20000; ++i) {
      const double u = uniform();
      pairs.Add(u < 0.02 ? 1 : u < 0.04 ? -1 : 0);
      if (i % 20 != 0 || i < 100) continue;
      const NonInferiority judged =
          JudgeNonInferiority(DifferenceOf(pairs), 0.02, {.alpha = 0.05, .tuned_count = tuned});
      if (judged == NonInferiority::kUndecided) continue;
      wrong += judged == NonInferiority::kInferior ? 1 : 0;
      at = i;
      break;
    }
    decided.push_back(at);
  }
  std::sort(decided.begin(), decided.end());
  RecordProperty("median_pairs", std::to_string(decided[250]));
  EXPECT_LE(decided[250], 900);
  EXPECT_LE(wrong, 25);
}

TEST(SampleRatioTest, AgreesWithChiSquaredTables) {
  const std::vector<double> even = {0.5, 0.5};
  EXPECT_NEAR(SampleRatioP(std::vector<int64_t>{550, 450}, even), 0.001565, 1e-6);
  EXPECT_EQ(SampleRatioP(std::vector<int64_t>{0, 0}, even), 1);
  EXPECT_NEAR(SampleRatioLnBayesFactor(std::vector<int64_t>{0, 0}, even), 0, 1e-9);
}

// When a split of `rate` is noticed, in exposures; `limit` + 1 where it is not.
int64_t NoticedAt(double rate, int64_t limit, uint64_t seed) {
  Uniform uniform(seed);
  std::vector<int64_t> counts(2);
  const std::vector<double> even = {0.5, 0.5};
  for (int64_t i = 1; i <= limit; ++i) {
    ++counts[uniform() < rate ? 0 : 1];
    if (i % 50 == 0 && SampleRatioLnBayesFactor(counts, even) > std::log(1000.0)) return i;
  }
  return limit + 1;
}

TEST(SampleRatioTest, FindsFortyEightToFiftyTwoAndHardlyEverAnEvenSplit) {
  std::vector<int64_t> noticed;
  for (int run = 0; run < 200; ++run) noticed.push_back(NoticedAt(0.48, 60000, 100 + run));
  std::sort(noticed.begin(), noticed.end());
  RecordProperty("median_exposures", std::to_string(noticed[100]));
  EXPECT_LE(noticed[100], 10500);
  int false_alarms = 0;
  for (int run = 0; run < 1000; ++run) false_alarms += NoticedAt(0.5, 10000, 9000 + run) <= 10000;
  EXPECT_LE(false_alarms, 1);
}

// Requests until errors at `rate` against a limit of 0.3 % are evidence of 1000; `limit` + 1:
// never.
int64_t RevertedAt(double rate, int64_t limit, uint64_t seed) {
  Uniform uniform(seed);
  ErrorProcess process(0.003);
  for (int64_t i = 1; i <= limit; ++i) {
    process.Add(uniform() < rate);
    if (process.LnEvidence() > std::log(1000.0)) return i;
  }
  return limit + 1;
}

TEST(ErrorProcessTest, RevertsFivePercentWithinNinetyRequestsAndHardlyEverTheLimit) {
  std::vector<int64_t> reverted;
  for (int run = 0; run < 501; ++run) reverted.push_back(RevertedAt(0.05, 5000, 200 + run));
  std::sort(reverted.begin(), reverted.end());
  RecordProperty("median_requests", std::to_string(reverted[250]));
  RecordProperty("p95_requests", std::to_string(reverted[475]));
  EXPECT_LE(reverted[250], 90);
  EXPECT_LE(reverted[475], 230);
  int false_reverts = 0;
  for (int run = 0; run < 1000; ++run) false_reverts += RevertedAt(0.003, 3000, 7000 + run) <= 3000;
  EXPECT_LE(false_reverts, 1);
}

TEST(ErrorProcessTest, HasAnAlternativeAboveEveryLimit) {
  ErrorProcess process(0.9);
  for (int i = 0; i < 1000; ++i) process.Add(true);
  EXPECT_GT(process.LnEvidence(), std::log(1000.0));
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
