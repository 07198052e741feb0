#include "server/experiments/assignment.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/test_data.h"

namespace vernier {
namespace {

// A rule of GrowthBook as our plan, for one user: its SDKs find the user by one attribute or else
// by another, and keep what each was given.
struct GrowthBookCase {
  explicit GrowthBookCase(const nlohmann::json& row) : expected(row[4]) {
    const std::string feature = row[3];
    const nlohmann::json& rule = row[1]["features"][feature]["rules"][0];
    const nlohmann::json& attributes = row[1]["attributes"];
    plan.id = rule.value("key", feature);
    plan.salt = rule.value("seed", plan.id);
    plan.hash_version = rule.value("hashVersion", 1);
    plan.bucket_version = rule.value("bucketVersion", 0);
    plan.min_bucket_version = rule.value("minBucketVersion", 0);
    const size_t arms = rule["variations"].size();
    for (size_t i = 0; i < arms; ++i) {
      const double weight = rule.contains("weights") ? rule["weights"][i].get<double>() : 0.25;
      plan.arms.push_back({std::to_string(i), rule["variations"][i].dump(), weight});
    }
    const bool keeps = !rule.value("disableStickyBucketing", false);
    for (const char* which : {"hashAttribute", "fallbackAttribute"}) {
      const std::string attribute = rule[which];
      if (!attributes.contains(attribute)) continue;
      if (unit.empty()) unit = attributes[attribute];
      for (const auto& document : row[2]) {
        const bool ours = document["attributeName"] == attribute &&
                          document["attributeValue"] == attributes[attribute];
        if (ours && keeps) AddSticky(document["assignments"]);
      }
    }
  }

  void AddSticky(const nlohmann::json& assignments) {
    for (const auto& [key, arm] : assignments.items()) {
      const size_t at = key.rfind("__");
      int version = 0;
      ASSERT_TRUE(absl::SimpleAtoi(key.substr(at + 2), &version));
      if (key.substr(0, at) == plan.id) sticky.push_back({version, arm.get<std::string>()});
    }
  }

  ExperimentPlan plan;
  std::string unit;
  std::vector<StickyArm> sticky;
  nlohmann::json expected;
};

TEST(AssignmentTest, KeepsUnitsInTheirArmsAsGrowthBook) {
  const auto cases =
      testing::ReadJson(testing::TestDataPath("growthbook/cases.json"))["stickyBucket"];
  ASSERT_EQ(cases.size(), 9u);
  for (const auto& row : cases) {
    const GrowthBookCase one(row);
    const Assignment assignment = Assign(one.plan, RangesOf(one.plan), one.unit, {}, one.sticky);
    if (one.expected.is_null()) {
      EXPECT_EQ(assignment.arm, -1) << row[0];
      EXPECT_EQ(assignment.reason, AssignmentReason::kBlocked) << row[0];
      continue;
    }
    EXPECT_EQ(assignment.arm, one.expected["variationId"].get<int>()) << row[0];
    EXPECT_DOUBLE_EQ(*assignment.bucket, one.expected["bucket"].get<double>()) << row[0];
    EXPECT_EQ(assignment.reason == AssignmentReason::kPinned,
              one.expected["stickyBucketUsed"].get<bool>())
        << row[0];
  }
}

ExperimentPlan HalfAndHalf() {
  ExperimentPlan plan{.id = "e", .salt = "e"};
  plan.arms = {{"control", "fp16", 0.5}, {"canary", "nf4", 0.5}};
  return plan;
}

TEST(AssignmentTest, SaysWhyARequestTakesNoPart) {
  ExperimentPlan plan = HalfAndHalf();
  EXPECT_EQ(Assign(plan, RangesOf(plan), "", {}, {}).reason, AssignmentReason::kNoUnit);
  plan.targeting = {.tenants = {"a"}, .min_prompt_tokens = 10, .max_prompt_tokens = 20};
  EXPECT_EQ(Assign(plan, RangesOf(plan), "u", {"b", 15}, {}).reason,
            AssignmentReason::kNotTargeted);
  EXPECT_EQ(Assign(plan, RangesOf(plan), "u", {"a", 9}, {}).reason, AssignmentReason::kNotTargeted);
  EXPECT_EQ(Assign(plan, RangesOf(plan), "u", {"a", 21}, {}).reason,
            AssignmentReason::kNotTargeted);
  EXPECT_EQ(Assign(plan, RangesOf(plan), "u", {"a", 10}, {}).reason, AssignmentReason::kAssigned);
  EXPECT_EQ(Assign(plan, RangesOf(plan), "u", {"a", 20}, {}).reason, AssignmentReason::kAssigned);
  plan.coverage = 0;
  EXPECT_EQ(Assign(plan, RangesOf(plan), "u", {"a", 15}, {}).reason,
            AssignmentReason::kOutsideCoverage);
  plan.layer = "layer";
  plan.slots = {0, 0};
  EXPECT_EQ(Assign(plan, RangesOf(plan), "u", {"a", 15}, {}).reason,
            AssignmentReason::kOutsideSlots);
}

TEST(AssignmentTest, AnArmThatIsGoneIsDrawnAnew) {
  const ExperimentPlan plan = HalfAndHalf();
  const std::vector<StickyArm> sticky = {{0, "an arm of yesterday"}};
  const Assignment assignment = Assign(plan, RangesOf(plan), "u", {}, sticky);
  EXPECT_EQ(assignment.reason, AssignmentReason::kAssigned);
  EXPECT_EQ(assignment.arm, Assign(plan, RangesOf(plan), "u", {}, {}).arm);
}

TEST(AssignmentTest, AUnitIsInOneExperimentOfALayer) {
  ExperimentPlan first = HalfAndHalf(), second = HalfAndHalf();
  first.layer = second.layer = "layer";
  first.slots = {0, 0.3};
  second.slots = {0.3, 1};
  int in_first = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::string unit = absl::StrCat("unit-", i);
    const bool one = Assign(first, RangesOf(first), unit, {}, {}).arm >= 0;
    EXPECT_NE(one, Assign(second, RangesOf(second), unit, {}, {}).arm >= 0);
    in_first += one ? 1 : 0;
  }
  EXPECT_NEAR(in_first, 3000, 200);
}

TEST(AssignmentTest, EveryReasonHasAName) {
  EXPECT_STREQ(AssignmentReasonName(AssignmentReason::kAssigned), "assigned");
  EXPECT_STREQ(AssignmentReasonName(AssignmentReason::kOutsideCoverage), "outside_coverage");
}

}  // namespace
}  // namespace vernier
