#include "cli/experiment_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/json_output.h"

namespace vernier::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Refusal(const std::string& json) {
  const auto experiment = ParseExperiment(json, "a.json");
  EXPECT_EQ(experiment.status().code(), absl::StatusCode::kInvalidArgument) << json;
  return std::string(experiment.status().message());
}

TEST(ExperimentInputTest, ReadsTheProtosNamesAndCamelCase) {
  const auto experiment = ParseExperiment(
      R"({"id": "canary", "unit": "USER", "hash_version": 2, "shadowShare": 0.05,
          "arms": [{"name": "a", "variant": "fp16", "weight": 0.9}, {"name": "b", "variant": "nf4", "weight": 0.1}],
          "guardrails": {"max_kl": null}})",
      "a.json");
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  EXPECT_EQ(experiment->unit(), v1::Experiment::USER);
  EXPECT_EQ(experiment->hash_version(), 2u);
  EXPECT_EQ(experiment->shadow_share(), 0.05);
  EXPECT_EQ(experiment->arms(1).weight(), 0.1);
  EXPECT_FALSE(experiment->guardrails().has_max_kl());
}

TEST(ExperimentInputTest, WhatStatusPrintsCanBePutBack) {
  v1::Experiment experiment;
  experiment.set_id("canary");
  experiment.set_version(~uint64_t{0});
  experiment.set_state(v1::Experiment::PAUSED);
  experiment.add_ramp(0.02);
  experiment.mutable_decision()->set_margin(0.02);
  experiment.add_metrics()->set_type(v1::FeedbackMetric::FLOAT);
  const auto again = ParseExperiment(ToJson(experiment).dump(), "a.json");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->SerializeAsString(), experiment.SerializeAsString());
}

TEST(ExperimentInputTest, SaysWhatIsWrongAndWhere) {
  EXPECT_THAT(Refusal(R"({"id": "x", "armz": []})"), HasSubstr("armz"));
  EXPECT_THAT(Refusal(R"({"arms": [{"wait": 1}]})"), HasSubstr("wait"));
  EXPECT_THAT(Refusal(R"({"unit": "HOUSEHOLD"})"), HasSubstr("HOUSEHOLD"));
  EXPECT_THAT(Refusal("id: canary\n"), HasSubstr("a.json is no experiment in JSON: "));
  Refusal("");
  Refusal("[]");
  Refusal(R"({"version": -1})");
  Refusal(std::string(100000, '['));
}

TEST(ExperimentInputTest, AFewFlagsMakeAnExperiment) {
  QuickExperimentOptions options;
  options.id = "canary";
  options.arms = {"fp16", "cheap=nf4"};
  options.ramp_percent = {1, 5, 50};
  options.primary = "thumbs_up";
  options.margin = 0.02;
  options.feedback = {"thumbs_up"};
  options.shadow_share = 0.05;
  const auto experiment = QuickExperiment(options);
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  EXPECT_EQ(experiment->arms(0).variant(), "fp16");
  EXPECT_EQ(experiment->arms(1).name(), "cheap");
  EXPECT_EQ(experiment->arms(1).variant(), "nf4");
  // Of all units; the two arms have half of them each.
  EXPECT_THAT(experiment->ramp(), ElementsAre(0.02, 0.1, 1));
  EXPECT_EQ(experiment->metrics(0).type(), v1::FeedbackMetric::BOOL);
  EXPECT_EQ(experiment->decision().margin(), 0.02);
  EXPECT_EQ(experiment->version(), 0u);
}

TEST(ExperimentInputTest, AnArmNeedsANameAndAllArmsAtMostAllUnits) {
  for (const char* arm : {"", "=nf4", "a="}) {
    EXPECT_FALSE(QuickExperiment({.arms = {"fp16", arm}}).ok()) << arm;
  }
  EXPECT_FALSE(QuickExperiment({.arms = {"a", "b"}, .ramp_percent = {51}}).ok());
  EXPECT_FALSE(QuickExperiment({.arms = {"a", "b", "c"}, .ramp_percent = {50}}).ok());
  EXPECT_FALSE(QuickExperiment({.arms = {"a", "b"}, .ramp_percent = {0}}).ok());
}

TEST(ExperimentInputTest, AValueIsWhatItLooksLike) {
  v1::FeedbackEvent event;
  SetFeedbackValue("true", &event);
  EXPECT_TRUE(event.flag());
  SetFeedbackValue("false", &event);
  EXPECT_EQ(event.value_case(), v1::FeedbackEvent::kFlag);
  SetFeedbackValue("-0.5", &event);
  EXPECT_EQ(event.number(), -0.5);
  for (const char* text : {"good", "", "nan", "inf", "True"}) {
    SetFeedbackValue(text, &event);
    EXPECT_EQ(event.text(), text);
  }
}

}  // namespace
}  // namespace vernier::cli
