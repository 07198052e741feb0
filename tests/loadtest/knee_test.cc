#include "loadtest/report/knee.h"

#include <gtest/gtest.h>

#include <vector>

namespace vernier::loadtest {
namespace {

// The rates that a sweep runs against a server that holds up to `capacity`.
std::vector<SweepPoint> SweepOf(double capacity, const SweepOptions& options) {
  std::vector<SweepPoint> points;
  while (const auto rate = NextRate(points, options)) {
    points.push_back({*rate, *rate <= capacity ? 1.0 : 0.5});
    if (points.size() > 100) break;
  }
  return points;
}

TEST(KneeTest, AHeldRateAboveAFailedOneCountsForNothing) {
  const std::vector<SweepPoint> points = {{1, 1}, {2, 0.995}, {4, 0.9}, {8, 1}};
  const Knee knee = FindKnee(points, 0.99);
  EXPECT_EQ(knee.held, 2);
  EXPECT_EQ(knee.fails, 4);
}

TEST(KneeTest, OneSideMayBeUnknown) {
  const std::vector<SweepPoint> good = {{1, 1}}, bad = {{1, 0}};
  EXPECT_FALSE(FindKnee(good, 0.99).fails.has_value());
  EXPECT_FALSE(FindKnee(bad, 0.99).held.has_value());
  EXPECT_FALSE(FindKnee({}, 0.99).held.has_value());
}

TEST(KneeTest, TheSweepBracketsTheCapacity) {
  for (const double capacity : {0.07, 3.0, 37.0, 900.0}) {
    const SweepOptions options{.precision = 1.1, .max_runs = 30};
    const auto points = SweepOf(capacity, options);
    const Knee knee = FindKnee(points, options.attainment);
    ASSERT_TRUE(knee.held.has_value() && knee.fails.has_value()) << capacity;
    EXPECT_LE(*knee.held, capacity);
    EXPECT_GT(*knee.fails, capacity);
    EXPECT_LE(*knee.fails / *knee.held, 1.1 + 1e-9);
    EXPECT_LT(points.size(), 20u);
  }
}

TEST(KneeTest, TheSweepEndsWhenItsRunsAreSpent) {
  EXPECT_EQ(SweepOf(1e9, {.max_runs = 5}).size(), 5u);
  EXPECT_EQ(SweepOf(0, {.max_runs = 5}).size(), 5u);
}

}  // namespace
}  // namespace vernier::loadtest
