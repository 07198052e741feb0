#include "engine/step_costs.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace vernier {
namespace {

double Milliseconds(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }

// 10 ms for the weights, 1 ms a row.
absl::Duration Linear(int64_t rows) { return absl::Milliseconds(10 + rows); }

TEST(StepCostsTest, WithoutMeasurementTheProportionsAreThoseOfAPassAndItsRows) {
  const StepCosts costs;
  EXPECT_DOUBLE_EQ(Milliseconds(costs.Predict(0, 48)) / Milliseconds(costs.Predict(0, 16)), 2);
  EXPECT_EQ(costs.Predict(0, 48), costs.Predict(7, 48));
}

TEST(StepCostsTest, BetweenMeasuredRowsIsTheirLine) {
  StepCosts costs;
  for (const int64_t rows : {1, 32, 256}) costs.Observe(2, rows, Linear(rows));
  for (const int64_t rows : {1, 2, 20, 32, 100, 256}) {
    EXPECT_NEAR(Milliseconds(costs.Predict(2, rows)), Milliseconds(Linear(rows)), 1e-6) << rows;
  }
  EXPECT_GT(costs.Predict(2, 512), Linear(400)) << "beyond the last it grows on";
}

TEST(StepCostsTest, NeverFallsAsRowsGrowHoweverNoisyTheMeasurements) {
  StepCosts costs;
  costs.Observe(0, 1, absl::Milliseconds(30));
  costs.Observe(0, 8, absl::Milliseconds(10));
  costs.Observe(0, 64, absl::Milliseconds(50));
  absl::Duration before;
  for (int64_t rows = 1; rows < 200; ++rows) {
    EXPECT_GE(costs.Predict(0, rows), before) << rows;
    before = costs.Predict(0, rows);
  }
}

TEST(StepCostsTest, FollowsWhatIsMeasuredLater) {
  StepCosts costs;
  costs.Observe(0, 16, absl::Milliseconds(10));
  for (int i = 0; i < 100; ++i) costs.Observe(0, 16, absl::Milliseconds(40));
  EXPECT_NEAR(Milliseconds(costs.Predict(0, 16)), 40, 0.1);
}

// The first large step pays for what later ones find ready; nobody plans another while it counts.
TEST(StepCostsTest, WhatWasNotMeasuredForLongIsForgotten) {
  StepCosts costs;
  costs.Observe(0, 1000, absl::Seconds(3));
  costs.Observe(1, 1000, absl::Seconds(3));
  costs.Observe(0, 50, absl::Milliseconds(8));
  EXPECT_LT(costs.RowsWithin(0, absl::Milliseconds(100), 1000), 100);
  for (int i = 0; i < 500; ++i) costs.Observe(0, 50, absl::Milliseconds(8));
  EXPECT_GT(costs.RowsWithin(0, absl::Milliseconds(100), 1000), 500);
  costs.Observe(0, 1000, absl::Milliseconds(80));
  EXPECT_NEAR(Milliseconds(costs.Predict(0, 1000)), 80, 0.1);
  EXPECT_NEAR(Milliseconds(costs.Predict(1, 1000)), 3000, 0.1) << "of another variant";
}

TEST(StepCostsTest, RowsWithinIsTheMostThatFits) {
  StepCosts costs;
  for (const int64_t rows : {1, 32, 256}) costs.Observe(0, rows, Linear(rows));
  EXPECT_EQ(costs.RowsWithin(0, absl::Milliseconds(110), 256), 100);
  EXPECT_EQ(costs.RowsWithin(0, absl::Milliseconds(110), 64), 64);
  EXPECT_EQ(costs.RowsWithin(0, absl::Milliseconds(5), 256), 0);
}

TEST(StepCostsTest, AStepTooShortForTheClockSaysNothing) {
  StepCosts costs;
  costs.Observe(0, 16, absl::ZeroDuration());
  EXPECT_GT(costs.Predict(0, 16), absl::ZeroDuration());
  costs.Observe(0, int64_t{1} << 40, absl::Hours(1));
  EXPECT_GT(costs.Predict(0, int64_t{1} << 40), absl::ZeroDuration());
}

}  // namespace
}  // namespace vernier
