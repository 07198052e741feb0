#include "loadtest/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace vernier::loadtest {
namespace {

std::vector<double> GapsOf(const std::vector<double>& times) {
  std::vector<double> gaps;
  double last = 0;
  for (const double at : times) {
    gaps.push_back(at - last);
    last = at;
  }
  return gaps;
}

// Standard deviation over mean.
double VariationOf(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size())) / mean;
}

// 20,000 arrivals: the standard error of their number is sqrt(20,000) = 141, and 5 of them are
// 3.6 % of it; of the variation of exponential gaps it is sqrt(2 / 20,000) = 1 %.
TEST(ArrivalsTest, PoissonHasItsRateAndVariation) {
  const auto times = Arrivals({.rate = 100, .seconds = 200, .seed = 7});
  EXPECT_NEAR(static_cast<double>(times.size()), 20'000, 5 * 141);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  EXPECT_LT(times.back(), 200);
  EXPECT_NEAR(VariationOf(GapsOf(times)), 1, 0.05);
}

TEST(ArrivalsTest, GammaHasItsRateAndBursts) {
  ArrivalOptions options{.process = ArrivalProcess::kGamma, .rate = 100, .variation = 3};
  options.seconds = 1000;
  const auto times = Arrivals(options);
  // The number's standard error is the variation times the square root.
  EXPECT_NEAR(static_cast<double>(times.size()), 100'000, 5 * 3 * 316);
  EXPECT_NEAR(VariationOf(GapsOf(times)), 3, 0.15);
}

TEST(ArrivalsTest, UniformGapsAreAlike) {
  const auto times = Arrivals({.process = ArrivalProcess::kUniform, .rate = 4, .seconds = 1.1});
  EXPECT_EQ(times, (std::vector<double>{0.25, 0.5, 0.75, 1.0}));
}

TEST(ArrivalsTest, TheSameSeedGivesTheSameTimes) {
  for (const ArrivalProcess process : {ArrivalProcess::kPoisson, ArrivalProcess::kGamma}) {
    ArrivalOptions options{.process = process, .rate = 10, .variation = 2, .seconds = 10};
    const auto first = Arrivals(options);
    EXPECT_EQ(first, Arrivals(options));
    options.seed = 2;
    EXPECT_NE(first, Arrivals(options));
  }
}

TEST(ArrivalsTest, StopsAtTheMostRequests) {
  EXPECT_EQ(Arrivals({.rate = 100, .seconds = 100, .max_requests = 17}).size(), 17u);
}

}  // namespace
}  // namespace vernier::loadtest
