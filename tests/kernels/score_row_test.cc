// Scoring one row, and the reductions over a row that scoring and sampling share.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/row_statistics.h"
#include "kernels/sample_row.h"

namespace vernier {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> RandomLogits(size_t vocab, uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

ScoreResult Score(const std::vector<float>& logits, const std::vector<float>& reference,
                  const ScoreRow& row, int overlap_k = 10) {
  SampleScratch scratch;
  return ScoreRowFromLogits(logits, reference, row, overlap_k, &scratch);
}

long double LogSumExpOf(const std::vector<float>& logits) {
  long double sum = 0;
  for (const float v : logits) sum += std::exp(static_cast<long double>(v));
  return std::log(sum);
}

long double Divergence(const std::vector<float>& from, const std::vector<float>& to) {
  const long double from_sum = LogSumExpOf(from);
  const long double to_sum = LogSumExpOf(to);
  long double sum = 0;
  for (size_t i = 0; i < from.size(); ++i) {
    const long double p = std::exp(from[i] - from_sum);
    sum += p * ((from[i] - from_sum) - (to[i] - to_sum));
  }
  return sum;
}

TEST(ExpNonPositiveTest, IsWithinTwoUnitsInTheLastPlace) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> wide(-708, 0);
  std::uniform_real_distribution<double> narrow(-2, 0);
  for (int i = 0; i < 200000; ++i) {
    const double x = i % 2 == 0 ? wide(random) : narrow(random);
    const long double exact = std::exp(static_cast<long double>(x));
    ASSERT_LE(std::fabs(ExpNonPositive(x) - exact), 2 * DBL_EPSILON * exact) << x;
  }
  EXPECT_EQ(ExpNonPositive(0), 1);
  EXPECT_EQ(ExpNonPositive(-0.0), 1);
  EXPECT_EQ(ExpNonPositive(-709), 0);
  EXPECT_EQ(ExpNonPositive(-std::numeric_limits<double>::infinity()), 0);
}

TEST(PortableLogTest, IsWithinTwoUnitsInTheLastPlace) {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> exponent(-40, 40);
  for (int i = 0; i < 200000; ++i) {
    // Half of the values lie close to 1, where the result is small.
    const double x = i % 2 == 0 ? std::exp2(exponent(random)) : 1 + exponent(random) * 0x1p-20;
    const long double exact = std::log(static_cast<long double>(x));
    ASSERT_LE(std::fabs(PortableLog(x) - exact), 2 * DBL_EPSILON * std::fabs(exact)) << x;
  }
  EXPECT_EQ(PortableLog(1), 0);
}

TEST(SelectTopTest, EqualsTheFullSort) {
  for (const float spread : {0.0f, 1.0f}) {
    std::vector<float> values = RandomLogits(1000, 7, spread);
    for (size_t i = 0; i < values.size(); i += 3) values[i] = std::round(values[i]);  // ties
    values[10] = values[500] = -kInf;
    std::vector<Candidate> sorted;
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] > -kInf) sorted.push_back({values[i], static_cast<int32_t>(i)});
    }
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const Candidate& a, const Candidate& b) { return a.value > b.value; });
    for (const int64_t k : {0, 1, 2, 31, 32, 33, 64, 500, 998, 1000, 5000}) {
      std::vector<Candidate> top;
      SelectTop(values, k, -kInf, &top);
      ASSERT_EQ(top.size(), std::min<size_t>(k, sorted.size())) << k;
      for (size_t i = 0; i < top.size(); ++i) ASSERT_EQ(top[i].id, sorted[i].id) << k << " " << i;
    }
  }
}

TEST(SelectTopTest, LowestIsIncluded) {
  std::vector<Candidate> top;
  SelectTop(std::vector<float>{-1, -2, -3, -2}, 4, -2, &top);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[1].id, 1);
  EXPECT_EQ(top[2].id, 3);
}

TEST(ScoreRowTest, LogprobTopAndMarginAreOfTheSoftmax) {
  for (const size_t vocab : {2, 7, 8, 9, 1000, 49152}) {
    const std::vector<float> logits = RandomLogits(vocab, 11, 4.0f);
    const long double sum = LogSumExpOf(logits);
    std::vector<float> sorted = logits;
    std::sort(sorted.rbegin(), sorted.rend());
    const auto target = static_cast<int32_t>(vocab / 2);
    const ScoreResult result = Score(logits, {}, {.target = target, .top_logprobs = 2});
    EXPECT_EQ(result.status, RowStatus::kOk);
    const long double logprob = logits[target] - sum;
    EXPECT_NEAR(result.logprob, logprob, 1e-6 * std::fabs(logprob)) << vocab;  // one fp32 rounding
    EXPECT_EQ(logits[result.top1], sorted[0]);
    EXPECT_EQ(result.margin, sorted[0] - sorted[1]);
    ASSERT_EQ(result.top.count, 2);
    EXPECT_EQ(result.top.entries[0].id, result.top1);
    EXPECT_EQ(logits[result.top.entries[1].id], sorted[1]);
    EXPECT_EQ(result.reference_logprob, 0) << "no reference was given";
  }
}

TEST(ScoreRowTest, DivergencesAreOverTheFullVocabulary) {
  const std::vector<float> logits = RandomLogits(5003, 13, 3.0f);
  std::vector<float> reference = logits;
  const std::vector<float> noise = RandomLogits(5003, 14, 0.05f);
  for (size_t i = 0; i < reference.size(); ++i) reference[i] += noise[i];
  const ScoreResult result = Score(logits, reference, {.target = 4});
  EXPECT_NEAR(result.kl_from_reference, Divergence(reference, logits), 1e-9);
  EXPECT_NEAR(result.kl_to_reference, Divergence(logits, reference), 1e-9);
  EXPECT_GT(result.kl_from_reference, 0);
  EXPECT_NE(result.kl_from_reference, result.kl_to_reference);
  EXPECT_NEAR(result.reference_logprob, reference[4] - LogSumExpOf(reference), 1e-5);
}

TEST(ScoreRowTest, ARowDoesNotDivergeFromItself) {
  const std::vector<float> logits = RandomLogits(49152, 17, 5.0f);
  const ScoreResult result = Score(logits, logits, {.target = 9});
  EXPECT_EQ(result.kl_from_reference, 0);
  EXPECT_EQ(result.kl_to_reference, 0);
  EXPECT_EQ(result.top_k_overlap, 1);
  EXPECT_EQ(result.logprob, result.reference_logprob);
  EXPECT_EQ(result.top1, result.reference_top1);
  EXPECT_EQ(result.margin, result.reference_margin);
}

TEST(ScoreRowTest, AConstantShiftIsNoDivergence) {
  const std::vector<float> logits = RandomLogits(1000, 19, 2.0f);
  std::vector<float> reference = logits;
  for (float& v : reference) v += 8;  // rounds the low bits: some 1e-7 of divergence remain
  EXPECT_NEAR(Score(logits, reference, {}).kl_from_reference, 0, 1e-7);
}

TEST(ScoreRowTest, RuledOutTokensAddNothingOrMakeItInfinite) {
  const std::vector<float> narrow = {0, 0, -kInf, -kInf};
  const std::vector<float> wide = {0, 0, -kInf, 0};
  const ScoreResult result = Score(narrow, wide, {.target = 0});
  EXPECT_EQ(result.kl_from_reference, kInf);  // the reference gives token 3 a third
  EXPECT_NEAR(result.kl_to_reference, std::log(1.5), 1e-6);
  EXPECT_EQ(Score(narrow, wide, {.target = 2}).logprob, -kInf);
  EXPECT_EQ(Score(narrow, narrow, {.target = 0}).kl_from_reference, 0);
}

TEST(ScoreRowTest, OverlapCountsSharedIds) {
  const std::vector<float> logits = {9, 8, 7, 6, 0, 0};
  const std::vector<float> reference = {7, 0, 9, 0, 8, 6};
  EXPECT_FLOAT_EQ(Score(logits, reference, {}, 1).top_k_overlap, 0);
  EXPECT_FLOAT_EQ(Score(logits, reference, {}, 3).top_k_overlap, 2.0f / 3);  // 0 and 2
  EXPECT_FLOAT_EQ(Score(logits, reference, {}, 6).top_k_overlap, 1);
  EXPECT_FLOAT_EQ(Score(logits, reference, {}, 100).top_k_overlap, 1)
      << "k is cut at the vocabulary";
  EXPECT_EQ(Score(logits, reference, {}, 0).top_k_overlap, 0);
}

TEST(ScoreRowTest, OverlapDoesNotDependOnHowManyLogprobsAreAsked) {
  const std::vector<float> logits = RandomLogits(300, 23, 1.0f);
  const std::vector<float> reference = RandomLogits(300, 24, 1.0f);
  const float expected = Score(logits, reference, {}, 10).top_k_overlap;
  EXPECT_EQ(Score(logits, reference, {.top_logprobs = 20}, 10).top_k_overlap, expected);
  EXPECT_EQ(Score(logits, reference, {.top_logprobs = 3}, 10).top_k_overlap, expected);
}

TEST(ScoreRowTest, EachSideHasItsStatus) {
  const std::vector<float> good = {1, 2, 3};
  const std::vector<float> nan = {1, kNan, 3};
  const std::vector<float> inf = {1, kInf, 3};
  const ScoreResult own_bad = Score(nan, good, {.target = 1});
  EXPECT_EQ(own_bad.status, RowStatus::kNan);
  EXPECT_EQ(own_bad.logprob, 0);
  EXPECT_EQ(own_bad.reference_status, RowStatus::kOk);
  EXPECT_EQ(own_bad.reference_top1, 2);
  EXPECT_EQ(own_bad.kl_from_reference, 0);
  const ScoreResult reference_bad = Score(good, inf, {.target = 1});
  EXPECT_EQ(reference_bad.status, RowStatus::kOk);
  EXPECT_EQ(reference_bad.top1, 2);
  EXPECT_EQ(reference_bad.reference_status, RowStatus::kInf);
  EXPECT_EQ(reference_bad.kl_to_reference, 0);
}

TEST(ScoreRowTest, OneTokenHasNoSecond) {
  const ScoreResult result = Score({3}, {3}, {.target = 0});
  EXPECT_EQ(result.logprob, 0);
  EXPECT_EQ(result.margin, FLT_MAX);
  EXPECT_EQ(result.top_k_overlap, 1);
}

}  // namespace
}  // namespace vernier
