#include "server/experiments/exact_moments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/server/experiments/records.h"

namespace vernier {
namespace {

ExactMoments Sum(const std::vector<double>& values, FixedPoint scale) {
  ExactMoments moments;
  for (const double value : values) moments.Add(scale.Of(value));
  return moments;
}

TEST(FixedPointTest, HoldsItsLimitsAndCountsWhatIsBeyondAsTheEnd) {
  const FixedPoint scale(100);
  for (const double value : {0.0, 1.0, -1.0, 99.5, -100.0, 1e-9}) {
    EXPECT_NEAR(scale.ValueOf(static_cast<double>(scale.Of(value))), value, 0x1p-37) << value;
  }
  EXPECT_EQ(scale.ValueOf(static_cast<double>(scale.Of(1e300))), 128);
  EXPECT_EQ(scale.Of(std::numeric_limits<double>::infinity()), scale.Of(128));
  EXPECT_EQ(scale.Of(-std::numeric_limits<double>::infinity()), scale.Of(-128));
}

TEST(ExactMomentsTest, AreThoseOfWelfordAndEqualToTheBitInAnyOrder) {
  testing::Uniform uniform(1);
  const FixedPoint scale(1 << 24);
  std::vector<double> values;
  Moments welford;
  for (int i = 0; i < 2000; ++i) {
    // Far from 0, and both signs: what cancels in a sum of squares.
    values.push_back(i % 2 == 0 ? 1e7 + uniform() : -3 * uniform());
    welford.Add(values.back());
  }
  const Moments exact = Sum(values, scale).In(scale);
  EXPECT_EQ(exact.count(), 2000);
  EXPECT_NEAR(exact.mean(), welford.mean(), 1e-6);
  EXPECT_NEAR(exact.Variance() / welford.Variance(), 1, 1e-9);
  for (int seed = 0; seed < 20; ++seed) {
    std::shuffle(values.begin(), values.end(), std::mt19937_64(seed));
    const Moments again = Sum(values, scale).In(scale);
    EXPECT_EQ(again.mean(), exact.mean());
    EXPECT_EQ(again.Variance(), exact.Variance());
  }
}

TEST(ExactMomentsTest, NothingCancelsWhereTheSpreadIsSmall) {
  const FixedPoint scale(1 << 24);
  const Moments moments = Sum({1e7, 1e7 + 1, 1e7 + 2}, scale).In(scale);
  EXPECT_DOUBLE_EQ(moments.mean(), 1e7 + 1);
  EXPECT_DOUBLE_EQ(moments.Variance(), 1);
  const Moments negative = Sum({-5, -7}, FixedPoint(8)).In(FixedPoint(8));
  EXPECT_DOUBLE_EQ(negative.mean(), -6);
  EXPECT_DOUBLE_EQ(negative.Variance(), 2);
  EXPECT_EQ(Sum({3, 3, 3}, FixedPoint(8)).In(FixedPoint(8)).Variance(), 0);
}

TEST(ExactMomentsTest, WhatIsTakenOutWasNeverThere) {
  const FixedPoint scale(1);
  ExactMoments moments = Sum({0.25, -0.5}, scale);
  moments.Add(scale.Of(0.1));
  moments.Remove(scale.Of(0.1));
  EXPECT_EQ(moments.In(scale).mean(), Sum({0.25, -0.5}, scale).In(scale).mean());
  EXPECT_EQ(moments.In(scale).Variance(), Sum({0.25, -0.5}, scale).In(scale).Variance());
  EXPECT_EQ(ExactMoments().In(scale).count(), 0);
}

TEST(ExactMomentsTest, HoldTheLargestValuesAlternating) {
  const FixedPoint scale(1);
  ExactMoments moments;
  for (int i = 0; i < 1 << 20; ++i) moments.Add(scale.Of(i % 2 == 0 ? 1e9 : -1e9));
  // frexp(1) is 0.5 * 2^1, so the ends are 2 and -2.
  EXPECT_EQ(moments.In(scale).mean(), 0);
  EXPECT_NEAR(moments.In(scale).Variance(), 4, 1e-5);
}

}  // namespace
}  // namespace vernier
