#include "server/experiments/unit_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/server/experiments/records.h"

namespace vernier {
namespace {

const FixedPoint kScale(1024);

struct Row {
  uint64_t unit;
  int arm;
  double value;
};

std::vector<Row> Rows(uint64_t units) {
  testing::Uniform uniform(3);
  std::vector<Row> rows;
  for (uint64_t i = 0; i < 20000; ++i) {
    const uint64_t unit = 1 + uniform.Below(units);
    rows.push_back({unit, static_cast<int>(unit % 2), 100 * uniform()});
  }
  return rows;
}

UnitTable TableOf(const std::vector<Row>& rows, size_t max_units) {
  UnitTable table(2, 1, max_units);
  for (const Row& row : rows) {
    table.Bind(row.unit, row.arm);
    table.Add(row.unit, row.arm, 0, kScale.Of(row.value));
  }
  return table;
}

TEST(UnitTableTest, AUnitCountsOnceByTheMeanOfItsValues) {
  UnitTable table(2, 1, 100);
  for (const double value : {1.0, 2.0, 6.0}) table.Add(1, 0, 0, kScale.Of(value));
  table.Add(2, 0, 0, kScale.Of(5));
  table.AddAlone(0, 0, kScale.Of(7));
  const Moments moments = table.Of(0, 0).In(kScale);
  EXPECT_EQ(moments.count(), 3);
  EXPECT_NEAR(moments.mean(), (3 + 5 + 7) / 3.0, 1e-9);
  EXPECT_EQ(table.Of(1, 0).count(), 0);
  table.Remove(1, 0, 0, kScale.Of(6));
  EXPECT_NEAR(table.Of(0, 0).In(kScale).mean(), (1.5 + 5 + 7) / 3, 1e-9);
  table.Remove(2, 0, 0, kScale.Of(5));
  table.RemoveAlone(0, 0, kScale.Of(7));
  EXPECT_EQ(table.Of(0, 0).count(), 1);
  table.Remove(99, 0, 0, 1);  // of nobody
}

TEST(UnitTableTest, CountsUnitsInSeveralArms) {
  UnitTable table(3, 1, 100);
  table.Bind(1, 0);
  table.Bind(1, 0);
  table.Bind(2, 1);
  table.Bind(2, 2);
  table.Add(3, 0, 0, 1);  // has a value, and no arm yet
  const UnitTable::Counts counts = table.CountUnits();
  EXPECT_EQ(counts.units, 2);
  EXPECT_EQ(counts.in_several_arms, 1);
  EXPECT_EQ(counts.in_arm, (std::vector<int64_t>{1, 1, 1}));
}

TEST(UnitTableTest, BeyondItsLimitKeepsASampleThatDoesNotDependOnTheOrder) {
  std::vector<Row> rows = Rows(5000);
  const UnitTable whole = TableOf(rows, 1 << 20);
  const UnitTable sampled = TableOf(rows, 700);
  EXPECT_EQ(whole.share(), 1);
  EXPECT_EQ(sampled.share(), 0.125);  // 5000 / 8 = 625
  EXPECT_LE(sampled.CountUnits().units, 700);
  EXPECT_NEAR(static_cast<double>(sampled.CountUnits().units), 625, 75);
  const Moments of_all = whole.Of(0, 0).In(kScale), some = sampled.Of(0, 0).In(kScale);
  EXPECT_NEAR(some.mean(), of_all.mean(), 4 * std::sqrt(of_all.Variance() / 312));
  for (int seed = 0; seed < 5; ++seed) {
    std::shuffle(rows.begin(), rows.end(), std::mt19937_64(seed));
    const UnitTable again = TableOf(rows, 700);
    EXPECT_EQ(again.share(), sampled.share());
    for (const int arm : {0, 1}) {
      EXPECT_EQ(again.Of(arm, 0).count(), sampled.Of(arm, 0).count());
      EXPECT_EQ(again.Of(arm, 0).In(kScale).mean(), sampled.Of(arm, 0).In(kScale).mean());
      EXPECT_EQ(again.Of(arm, 0).In(kScale).Variance(), sampled.Of(arm, 0).In(kScale).Variance());
    }
  }
}

}  // namespace
}  // namespace vernier
