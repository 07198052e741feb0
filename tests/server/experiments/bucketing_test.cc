// GrowthBook's public vectors, and what a split must keep to whatever its hash.
#include "server/experiments/bucketing.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/experiments/assignment.h"
#include "server/experiments/statistics.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

const nlohmann::json& Cases() {
  static const auto cases = testing::ReadJson(testing::TestDataPath("growthbook/cases.json"));
  return cases;
}

std::vector<BucketRange> RangesOf(const nlohmann::json& pairs) {
  std::vector<BucketRange> ranges;
  for (const auto& pair : pairs) ranges.push_back({pair[0], pair[1]});
  return ranges;
}

TEST(BucketingTest, HashesAsGrowthBook) {
  ASSERT_EQ(Cases()["hash"].size(), 15u);
  for (const auto& row : Cases()["hash"]) {
    // Its SDKs have two versions: what follows them there is not a version.
    const int version = row[2] == 99 ? 99 : row[2].get<int>();
    const auto bucket = BucketOf(row[0].get<std::string>(), row[1].get<std::string>(), version);
    ASSERT_EQ(bucket.has_value(), !row[3].is_null()) << row;
    if (bucket.has_value()) {
      EXPECT_DOUBLE_EQ(*bucket, row[3].get<double>()) << row;
    }
  }
}

TEST(BucketingTest, DividesAsGrowthBook) {
  ASSERT_EQ(Cases()["getBucketRange"].size(), 13u);
  for (const auto& row : Cases()["getBucketRange"]) {
    std::vector<double> weights;
    if (!row[1][2].is_null()) weights = row[1][2].get<std::vector<double>>();
    const auto ranges = BucketRanges(row[1][0], row[1][1], weights);
    const auto expected = RangesOf(row[2]);
    ASSERT_EQ(ranges.size(), expected.size()) << row;
    for (size_t arm = 0; arm < ranges.size(); ++arm) {
      EXPECT_NEAR(ranges[arm].begin, expected[arm].begin, 1e-9) << row;
      EXPECT_NEAR(ranges[arm].end, expected[arm].end, 1e-9) << row;
    }
  }
}

TEST(BucketingTest, ChoosesAsGrowthBook) {
  ASSERT_EQ(Cases()["chooseVariation"].size(), 13u);
  for (const auto& row : Cases()["chooseVariation"]) {
    EXPECT_EQ(ArmOf(row[1], RangesOf(row[2])), row[3].get<int>()) << row;
  }
}

TEST(BucketingTest, KeepsLayersApartAsGrowthBooksNamespaces) {
  ASSERT_EQ(Cases()["inNamespace"].size(), 16u);
  for (const auto& row : Cases()["inNamespace"]) {
    const BucketRange slots{row[2][1], row[2][2]};
    EXPECT_EQ(InLayerSlots(row[2][0].get<std::string>(), slots, row[1].get<std::string>()),
              row[3].get<bool>())
        << row;
  }
}

class HashVersionTest : public ::testing::TestWithParam<int> {};

TEST_P(HashVersionTest, FillsItsRangeEvenlyAndTwoSaltsShareNothing) {
  constexpr int kUnits = 100000, kCells = 10;
  std::vector<int64_t> cells(kCells * kCells), first(kCells);
  for (int i = 0; i < kUnits; ++i) {
    const std::string unit = absl::StrCat("unit-", i);
    const auto a = static_cast<int>(*BucketOf("salt-a", unit, GetParam()) * kCells);
    const auto b = static_cast<int>(*BucketOf("salt-b", unit, GetParam()) * kCells);
    ++cells[a * kCells + b];
    ++first[a];
  }
  EXPECT_GT(SampleRatioP(first, std::vector<double>(kCells, 1.0 / kCells)), 1e-4);
  EXPECT_GT(SampleRatioP(cells, std::vector<double>(cells.size(), 1.0 / kCells / kCells)), 1e-4);
}

TEST_P(HashVersionTest, MovesNobodyWhileTheRampWidens) {
  ExperimentPlan plan{.salt = "ramp", .hash_version = GetParam()};
  plan.arms = {{"control", "fp16", 0.5}, {"canary", "nf4", 0.5}};
  for (int i = 0; i < 20000; ++i) {
    const std::string unit = absl::StrCat("unit-", i);
    int arm = -1;
    for (const double coverage : {0.01, 0.05, 0.1, 0.25, 0.5, 1.0}) {
      plan.coverage = coverage;
      const int now = Assign(plan, RangesOf(plan), unit, {}, {}).arm;
      if (arm >= 0) {
        ASSERT_EQ(now, arm) << unit << " at " << coverage;
      }
      arm = now;
    }
    ASSERT_GE(arm, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, HashVersionTest, ::testing::Values(2, 3),
                         [](const auto& row) { return absl::StrCat("v", row.param); });

}  // namespace
}  // namespace vernier
