// Sampling one row of logits: noise, penalties, truncation, and the distribution that results.
#include "kernels/sample_row.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/row_statistics.h"

namespace vernier {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

SampleResult Sample(const std::vector<float>& logits, const SampleRow& row) {
  SampleScratch scratch;
  return SampleRowFromLogits(logits, row, &scratch);
}

std::vector<float> RandomLogits(size_t vocab, uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

// The ids drawn at `count` positions.
std::set<int32_t> Drawn(const std::vector<float>& logits, SampleRow row, int count) {
  SampleScratch scratch;
  std::set<int32_t> ids;
  for (int i = 0; i < count; ++i) {
    row.position = i;
    ids.insert(SampleRowFromLogits(logits, row, &scratch).id);
  }
  return ids;
}

TEST(PhiloxTest, KnownAnswers) {  // Random123, kat_vectors: philox4x32 10
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(GumbelNoiseTest, IsTheQuantileFunctionAndBounded) {
  std::mt19937 random(1);
  for (int i = 0; i < 100000; ++i) {
    const auto word = static_cast<uint32_t>(random() >> (i % 32)) ^ (i % 2 == 0 ? 0u : ~0u);
    const double u = (word + 0.5) / 4294967296.0;
    // log1p on u - 1, which is exact: log alone would lose what lies close to 1.
    const double expected = -std::log(-std::log1p(u - 1));
    ASSERT_NEAR(GumbelNoise(word), expected, 1e-14 * (1 + std::fabs(expected))) << word;
  }
  EXPECT_LE(GumbelNoise(0xffffffff), kMaxGumbelNoise);
  EXPECT_GT(GumbelNoise(0xffffffff), kMaxGumbelNoise - 1e-3);
  EXPECT_GT(GumbelNoise(0), -3.14);
}

TEST(SampleRowTest, TemperatureZeroIsTheArgmaxWithTiesToTheLowerId) {
  EXPECT_EQ(Sample({1, 3, 2}, {}).id, 1);
  EXPECT_EQ(Sample({1, 3, 3, 3}, {}).id, 1);
  EXPECT_EQ(Sample({-kInf, -5, -5}, {}).id, 1);
  std::vector<float> logits(1000, 0.0f);
  logits[777] = logits[999] = 1;
  EXPECT_EQ(Sample(logits, {.seed = 5, .position = 9}).id, 777);
  EXPECT_EQ(Sample({42}, {}).id, 0);
}

TEST(SampleRowTest, RowsThatAreNotNumbersSaySo) {
  for (size_t place = 0; place < 40; ++place) {
    std::vector<float> logits(40, 1.0f);
    logits[place] = kNan;
    EXPECT_EQ(Sample(logits, {}).status, RowStatus::kNan) << place;
    logits[place] = kInf;
    EXPECT_EQ(Sample(logits, {.temperature = 1}).status, RowStatus::kInf) << place;
    logits[(place + 1) % 40] = kNan;
    EXPECT_EQ(Sample(logits, {}).status, RowStatus::kNan) << place;
    logits.assign(40, 1.0f);
    logits[place] = -kInf;
    EXPECT_EQ(Sample(logits, {}).status, RowStatus::kOk) << place;
  }
  EXPECT_EQ(Sample({-kInf, -kInf}, {}).status, RowStatus::kInf);
}

TEST(SampleRowTest, BanningEveryTokenIsNotADraw) {
  const int32_t banned[] = {0, 1};
  EXPECT_EQ(Sample({1, 2}, {.banned = banned}).status, RowStatus::kInf);
}

// The penalties decide between two tokens: token 0 wins by `lead` before them.
int32_t WinnerAfter(float lead, const SampleRow& row) { return Sample({1 + lead, 1}, row).id; }

TEST(SampleRowTest, FrequencyPenaltyIsTimesTheGeneratedCount) {
  const TokenCount counts[] = {{.id = 0, .prompt = 9, .generated = 3}};
  const SampleRow row = {.frequency_penalty = 0.5f, .counts = counts};
  EXPECT_EQ(WinnerAfter(1.51f, row), 0);
  EXPECT_EQ(WinnerAfter(1.49f, row), 1);
}

TEST(SampleRowTest, PresencePenaltyIsPaidOnceAndNotForThePrompt) {
  const TokenCount generated[] = {{.id = 0, .prompt = 0, .generated = 7}};
  const TokenCount prompt[] = {{.id = 0, .prompt = 7, .generated = 0}};
  SampleRow row = {.presence_penalty = 1.0f, .counts = generated};
  EXPECT_EQ(WinnerAfter(1.01f, row), 0);
  EXPECT_EQ(WinnerAfter(0.99f, row), 1);
  row.counts = prompt;
  EXPECT_EQ(WinnerAfter(0.01f, row), 0);
}

TEST(SampleRowTest, NegativePenaltiesReward) {
  const TokenCount counts[] = {{.id = 1, .prompt = 0, .generated = 2}};
  EXPECT_EQ(WinnerAfter(0.99f, {.frequency_penalty = -0.5f, .counts = counts}), 1);
  EXPECT_EQ(WinnerAfter(1.01f, {.frequency_penalty = -0.5f, .counts = counts}), 0);
}

TEST(SampleRowTest, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  const TokenCount counts[] = {{.id = 0, .prompt = 1, .generated = 0}};
  const SampleRow row = {.repetition_penalty = 2.0f, .counts = counts};
  EXPECT_EQ(Sample({4.0f, 1.9f}, row).id, 0);  // 4 / 2 = 2
  EXPECT_EQ(Sample({4.0f, 2.1f}, row).id, 1);
  EXPECT_EQ(Sample({-1.0f, -1.9f}, row).id, 1);  // -1 * 2 = -2
  EXPECT_EQ(Sample({-1.0f, -2.1f}, row).id, 0);
}

TEST(SampleRowTest, RepetitionComesBeforeTheSubtractedPenaltiesAndBiasAfterThem) {
  const TokenCount counts[] = {{.id = 0, .prompt = 0, .generated = 1}};
  SampleRow row = {.frequency_penalty = 1.0f,
                   .presence_penalty = 0.5f,
                   .repetition_penalty = 2.0f,
                   .counts = counts};
  // 4 / 2 - 1 - 0.5 = 0.5; the other order would give (4 - 1.5) / 2 = 1.25.
  EXPECT_EQ(Sample({4.0f, 0.45f}, row).id, 0);
  EXPECT_EQ(Sample({4.0f, 0.55f}, row).id, 1);
  const LogitBias biases[] = {{.id = 0, .bias = 2}};
  row.biases = biases;  // 0.5 + 2 = 2.5; before the repetition penalty it would be 1.5
  EXPECT_EQ(Sample({4.0f, 2.45f}, row).id, 0);
  EXPECT_EQ(Sample({4.0f, 2.55f}, row).id, 1);
}

TEST(SampleRowTest, BiasCannotRaiseABannedToken) {
  const LogitBias biases[] = {{.id = 0, .bias = 100}};
  const int32_t banned[] = {0};
  EXPECT_EQ(Sample({9, 1, 2}, {.biases = biases, .banned = banned}).id, 2);
}

TEST(SampleRowTest, IdsBeyondTheVocabularyAreIgnored) {
  const TokenCount counts[] = {{.id = 5, .prompt = 1, .generated = 1}, {.id = -1}};
  const LogitBias biases[] = {{.id = 3, .bias = 100}, {.id = -7, .bias = 100}};
  const int32_t banned[] = {2147483647, -2147483647 - 1, 3};
  EXPECT_EQ(Sample({1, 3, 2},
                   {.presence_penalty = 2, .counts = counts, .biases = biases, .banned = banned})
                .id,
            1);
}

TEST(SampleRowTest, PenaltiesCannotOverflowARow) {
  const TokenCount counts[] = {{.id = 0, .prompt = 1, .generated = 2000000000}};
  const LogitBias biases[] = {{.id = 1, .bias = FLT_MAX}};
  for (const float repetition : {1e-38f, 1e38f}) {
    const SampleResult result = Sample({FLT_MAX, FLT_MAX, -1}, {.temperature = 1e-30f,
                                                                .frequency_penalty = 2,
                                                                .repetition_penalty = repetition,
                                                                .counts = counts,
                                                                .biases = biases});
    EXPECT_EQ(result.status, RowStatus::kOk);
    EXPECT_LT(result.id, 2);
  }
}

TEST(SampleRowTest, TopKKeepsExactlyKWithTiesToTheLowerId) {
  const std::vector<float> logits = {0, 1, 1, 1, 0.5f, 1};
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .top_k = 2}, 300), (std::set<int32_t>{1, 2}));
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .top_k = 1}, 50), (std::set<int32_t>{1}));
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .top_k = 6}, 900).size(), 6u);
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .top_k = 7}, 900).size(), 6u);
}

TEST(SampleRowTest, TopPKeepsTheShortestPrefixThatHoldsIt) {
  const std::vector<float> uniform(4, 2.0f);  // cumulative 0.25, 0.5, 0.75, 1: exact in binary
  EXPECT_EQ(Drawn(uniform, {.temperature = 1, .top_p = 0.5f}, 400), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(Drawn(uniform, {.temperature = 1, .top_p = 0.5001f}, 400),
            (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(Drawn(uniform, {.temperature = 1, .top_p = 1e-9f}, 100), (std::set<int32_t>{0}));
  EXPECT_EQ(Drawn(uniform, {.temperature = 1, .top_p = 0.0f}, 100), (std::set<int32_t>{0}));
  EXPECT_EQ(Drawn(uniform, {.temperature = 1, .top_p = 1.0f}, 400).size(), 4u);
  EXPECT_EQ(Drawn({7}, {.temperature = 1, .top_p = 0.3f}, 5), (std::set<int32_t>{0}));
}

TEST(SampleRowTest, TopPOfAWideNucleusNeedsNoSmallVocabulary) {
  // 5000 equal tokens among 20000: the nucleus of half of the mass is 2500 of them, more than the
  // first looks take.
  std::vector<float> logits(20000, -100.0f);
  for (int i = 0; i < 5000; ++i) logits[i * 4] = 3;
  const std::set<int32_t> ids = Drawn(logits, {.temperature = 1, .top_p = 0.5f}, 3000);
  EXPECT_GT(ids.size(), 1000u);
  for (const int32_t id : ids) EXPECT_TRUE(id % 4 == 0 && id < 2500 * 4) << id;
}

TEST(SampleRowTest, TopPIsOfWhatTopKLeft) {
  const std::vector<float> logits = LogitsOf({0.4, 0.3, 0.2, 0.1});
  // Of the best two, 0.4 / 0.7 = 0.571: that alone holds 0.57 but not 0.58.
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .top_k = 2, .top_p = 0.57f}, 200),
            (std::set<int32_t>{0}));
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .top_k = 2, .top_p = 0.58f}, 200),
            (std::set<int32_t>{0, 1}));
}

TEST(SampleRowTest, MinPIsRelativeToTheBestAndBeforeTopP) {
  const std::vector<float> logits = LogitsOf({0.5, 0.26, 0.14, 0.1});
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .min_p = 0.25f}, 500), (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .min_p = 0.3f}, 500), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .min_p = 1.0f}, 100), (std::set<int32_t>{0}));
  // Of the two left by min_p the first holds 0.658; of all four only 0.5.
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .top_p = 0.65f, .min_p = 0.3f}, 200),
            (std::set<int32_t>{0}));
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .top_p = 0.65f}, 200), (std::set<int32_t>{0, 1}));
}

TEST(SampleRowTest, MinPIsTakenAfterTheTemperature) {
  const std::vector<float> logits = {2, 0};
  // e^-2 = 0.135 at temperature 1, e^-1 = 0.368 at temperature 2.
  EXPECT_EQ(Drawn(logits, {.temperature = 1, .min_p = 0.2f}, 300), (std::set<int32_t>{0}));
  EXPECT_EQ(Drawn(logits, {.temperature = 2, .min_p = 0.2f}, 300), (std::set<int32_t>{0, 1}));
}

// The slow definition: key of every token, no skipping.
int32_t BruteForce(const std::vector<float>& logits, const SampleRow& row) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double best = -std::numeric_limits<double>::infinity();
  int32_t best_id = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const float scaled = (logits[i] - largest) / row.temperature;
    const double key = scaled + GumbelNoise(NoiseWords(row.seed, row.position, id)[id % 4]);
    if (key > best) {
      best = key;
      best_id = id;
    }
  }
  return best_id;
}

TEST(SampleRowTest, SkippingTokensThatCannotWinChangesNothing) {
  SampleScratch scratch;
  for (const size_t vocab : {1, 2, 3, 5, 64, 515, 3000}) {
    for (const float spread : {0.0f, 0.5f, 3.0f, 30.0f}) {
      const std::vector<float> logits = RandomLogits(vocab, 17, spread);
      for (uint64_t position = 0; position < 20; ++position) {
        const SampleRow row = {.temperature = 0.8f, .seed = 99, .position = position};
        ASSERT_EQ(SampleRowFromLogits(logits, row, &scratch).id, BruteForce(logits, row))
            << "vocab " << vocab << " spread " << spread << " position " << position;
      }
    }
  }
}

TEST(SampleRowTest, TruncationsThatKeepAllDrawTheSameToken) {
  const std::vector<float> logits = RandomLogits(2000, 23, 2.0f);
  SampleScratch scratch;
  for (uint64_t position = 0; position < 50; ++position) {
    const SampleRow all = {.temperature = 1, .seed = 3, .position = position};
    SampleRow loose = all;
    loose.top_k = 1999;
    SampleRow nucleus = all;
    nucleus.top_p = 0.9999999f;
    SampleRow floor = all;
    floor.min_p = 1e-30f;
    const int32_t expected = SampleRowFromLogits(logits, all, &scratch).id;
    EXPECT_EQ(SampleRowFromLogits(logits, loose, &scratch).id, expected);
    EXPECT_EQ(SampleRowFromLogits(logits, nucleus, &scratch).id, expected);
    EXPECT_EQ(SampleRowFromLogits(logits, floor, &scratch).id, expected);
  }
}

TEST(SampleRowTest, SeedAndPositionAloneChooseTheNoise) {
  const std::vector<float> logits = RandomLogits(500, 29, 1.0f);
  std::set<int32_t> by_seed, by_position, by_high_bits;
  for (uint64_t i = 0; i < 60; ++i) {
    by_seed.insert(Sample(logits, {.temperature = 1, .seed = i}).id);
    by_position.insert(Sample(logits, {.temperature = 1, .position = i}).id);
    by_high_bits.insert(Sample(logits, {.temperature = 1, .seed = i << 32}).id);
    EXPECT_EQ(Sample(logits, {.logit_index = 0, .temperature = 1, .seed = i}).id,
              Sample(logits, {.logit_index = 31, .temperature = 1, .seed = i}).id);
  }
  EXPECT_GT(by_seed.size(), 20u);
  EXPECT_GT(by_position.size(), 20u);
  EXPECT_GT(by_high_bits.size(), 20u);
}

// Pearson's statistic of draws at positions 0..count against `probabilities`.
double ChiSquare(const std::vector<double>& probabilities, const SampleRow& row, int count) {
  const std::vector<float> logits = LogitsOf(probabilities);
  SampleScratch scratch;
  std::vector<int> seen(probabilities.size());
  SampleRow at = row;
  for (int i = 0; i < count; ++i) {
    at.position = i;
    ++seen[SampleRowFromLogits(logits, at, &scratch).id];
  }
  double statistic = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    const double expected = probabilities[i] * count;
    statistic += (seen[i] - expected) * (seen[i] - expected) / expected;
  }
  return statistic;
}

TEST(SampleRowTest, DrawsFollowTheSoftmax) {
  std::vector<double> probabilities;
  for (int i = 1; i <= 20; ++i) probabilities.push_back(i / 210.0);
  // 19 degrees of freedom: above 43.8 once in a thousand seeds.
  for (const uint64_t seed : {1, 2, 3, 0x7fffffff}) {
    EXPECT_LT(ChiSquare(probabilities, {.temperature = 1, .seed = seed}, 100000), 43.8) << seed;
  }
}

TEST(SampleRowTest, TemperatureReshapesTheDistribution) {
  // p^(1/T) of p at T = 1/2 is p^2: draw at temperature 1/2 from the square roots.
  const std::vector<double> probabilities = {0.5, 0.25, 0.15, 0.1};
  std::vector<double> roots;
  for (const double p : probabilities) roots.push_back(std::sqrt(p));
  const std::vector<float> logits = LogitsOf(roots);
  SampleScratch scratch;
  std::vector<int> seen(4);
  constexpr int kDraws = 100000;
  for (int i = 0; i < kDraws; ++i) {
    const SampleRow row = {.temperature = 0.5f, .seed = 8, .position = static_cast<uint64_t>(i)};
    ++seen[SampleRowFromLogits(logits, row, &scratch).id];
  }
  for (int i = 0; i < 4; ++i) {
    const double p = probabilities[i];  // four standard deviations of the binomial
    EXPECT_NEAR(seen[i] / double{kDraws}, p, 4 * std::sqrt(p * (1 - p) / kDraws)) << i;
  }
}

TEST(SampleRowTest, LogprobsAreOfTheRawLogits) {
  const std::vector<float> logits = LogitsOf({0.125, 0.5, 0.25, 0.125});
  const LogitBias biases[] = {{.id = 3, .bias = 50}};
  const SampleResult result =
      Sample(logits, {.temperature = 0.1f, .top_logprobs = 3, .biases = biases});
  EXPECT_EQ(result.id, 3);
  EXPECT_NEAR(result.logprob, std::log(0.125), 1e-6);
  ASSERT_EQ(result.top.count, 3);
  EXPECT_EQ(result.top.entries[0].id, 1);
  EXPECT_EQ(result.top.entries[1].id, 2);
  EXPECT_EQ(result.top.entries[2].id, 0) << "ties by lower id";
  EXPECT_NEAR(result.top.entries[1].logprob, std::log(0.25), 1e-6);
}

TEST(SampleRowTest, TopLogprobsAreOnlyWhatIsAskedAndPossible) {
  const std::vector<float> logits = {0, 1, -kInf};
  EXPECT_EQ(Sample(logits, {.top_logprobs = -1}).logprob, 0);
  EXPECT_EQ(Sample(logits, {.top_logprobs = 0}).top.count, 0);
  EXPECT_LT(Sample(logits, {.top_logprobs = 0}).logprob, 0);
  EXPECT_EQ(Sample(logits, {.top_logprobs = 3}).top.count, 2)
      << "a ruled-out token is no candidate";
  EXPECT_EQ(Sample(RandomLogits(100, 1, 1), {.top_logprobs = 500}).top.count, kMaxTopLogprobs);
}

TEST(SampleRowTest, NothingIsAllocatedOnceTheScratchIsSized) {
  const std::vector<float> logits = RandomLogits(4096, 31, 1.0f);
  SampleScratch scratch;
  scratch.Reserve(4096);
  const auto places = [&] {
    return std::vector<const void*>{scratch.adjusted.data(), scratch.scaled.data(),
                                    scratch.top.data(), scratch.reference_top.data()};
  };
  const std::vector<const void*> before = places();
  const int32_t banned[] = {3};
  for (const float top_p : {0.01f, 0.5f, 0.999f, 1.0f}) {
    for (const int top_k : {0, 1, 50, 4095}) {
      const SampleRow row = {
          .temperature = 1, .top_k = top_k, .top_p = top_p, .top_logprobs = 20, .banned = banned};
      SampleRowFromLogits(logits, row, &scratch);
      ScoreRowFromLogits(logits, logits, {.target = 1, .top_logprobs = 20}, 4096, &scratch);
    }
  }
  EXPECT_EQ(places(), before);
}

}  // namespace
}  // namespace vernier
