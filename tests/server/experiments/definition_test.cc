// What may be put, what a put fills in, and which action a state takes.
#include "server/experiments/definition.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "engine/status_payload.h"

namespace vernier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using v1::Experiment;

const std::vector<std::string> kVariants = {"fp16", "int8", "nf4"};

Experiment FromJson(const std::string& json) {
  Experiment out;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &out);
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

Experiment Canary() {
  return FromJson(R"({"id": "canary", "arms": [{"name": "full", "variant": "fp16"},
                                               {"name": "cheap", "variant": "nf4"}]})");
}

std::string FieldAtFault(const std::string& json) {
  const auto result = CompleteExperiment(FromJson(json), kVariants);
  const auto violation = FieldViolationOf(result.status());
  return violation.has_value() ? violation->field : result.ok() ? "none" : "another error";
}

// The canary with one more key.
std::string With(const std::string& more) {
  return R"({"id": "x", "arms": [{"name": "a", "variant": "fp16"}, {"name": "b", "variant": "nf4"}], )" +
         more + "}";
}

TEST(DefinitionTest, DefaultsAreFilledIn) {
  const auto complete = CompleteExperiment(Canary(), kVariants);
  ASSERT_TRUE(complete.ok()) << complete.status();
  EXPECT_EQ(complete->salt(), "canary");
  EXPECT_EQ(complete->control(), "full");
  EXPECT_EQ(complete->unit(), Experiment::SESSION);
  EXPECT_EQ(complete->hash_version(), 3u);
  EXPECT_DOUBLE_EQ(complete->arms(0).weight(), 0.5);
  // The treatment has 1, 5, 10, 25 and 50 % of all units.
  EXPECT_THAT(complete->ramp(), ElementsAre(0.02, 0.1, 0.2, 0.5, 1.0));
  EXPECT_DOUBLE_EQ(complete->guardrails().max_error_rate(), 0.003);
  EXPECT_EQ(complete->slots_end(), 1);
}

TEST(DefinitionTest, WhatIsCompleteStaysTheSame) {
  const auto once = CompleteExperiment(Canary(), kVariants);
  const auto twice = CompleteExperiment(*once, kVariants);
  ASSERT_TRUE(twice.ok()) << twice.status();
  EXPECT_EQ(once->SerializeAsString(), twice->SerializeAsString());
}

TEST(DefinitionTest, EveryFieldOutOfRangeIsNamed) {
  EXPECT_EQ(FieldAtFault(R"({"arms": []})"), "id");
  EXPECT_EQ(FieldAtFault(R"({"id": "a b"})"), "id");
  EXPECT_EQ(FieldAtFault(R"({"id": "x", "arms": [{"name": "a", "variant": "fp16"}]})"), "arms");
  EXPECT_EQ(FieldAtFault(R"({"id": "x", "arms": [{"name": "a", "variant": "fp16"},
                                                 {"name": "a", "variant": "nf4"}]})"),
            "arms[1].name");
  EXPECT_EQ(FieldAtFault(R"({"id": "x", "arms": [{"name": "a", "variant": "fp16"},
                                                 {"name": "b", "variant": "int4"}]})"),
            "arms[1].variant");
  EXPECT_EQ(FieldAtFault(R"({"id": "x", "arms": [{"name": "a", "variant": "fp16", "weight": 0.9},
                                                 {"name": "b", "variant": "nf4"}]})"),
            "arms[1].weight");
  EXPECT_EQ(FieldAtFault(R"({"id": "x", "arms": [{"name": "a", "variant": "fp16", "weight": 0.9},
                                                 {"name": "b", "variant": "nf4", "weight": 0.9}]})"),
            "arms");
  EXPECT_EQ(FieldAtFault(With(R"("control": "c")")), "control");
  EXPECT_EQ(FieldAtFault(With(R"("ramp": [0.5, 0.1])")), "ramp");
  EXPECT_EQ(FieldAtFault(With(R"("ramp": [2])")), "ramp");
  EXPECT_EQ(FieldAtFault(With(R"("ramp": ["NaN"])")), "ramp");
  EXPECT_EQ(FieldAtFault(With(R"("hash_version": 4)")), "hash_version");
  EXPECT_EQ(FieldAtFault(With(R"("shadow_share": 1.5)")), "shadow_share");
  EXPECT_EQ(FieldAtFault(With(R"("slots_begin": 0.5, "slots_end": 0.5)")), "slots_end");
  EXPECT_EQ(FieldAtFault(With(R"("targeting": {"tenants": ["a b"]})")), "targeting.tenants");
  EXPECT_EQ(FieldAtFault(With(R"("targeting": {"min_prompt_tokens": 5, "max_prompt_tokens": 4})")),
            "targeting.min_prompt_tokens");
  EXPECT_EQ(FieldAtFault(With(R"("metrics": [{"name": "errors", "type": "BOOL"}])")),
            "metrics[0].name");
  EXPECT_EQ(FieldAtFault(With(R"("metrics": [{"name": "m"}])")), "metrics[0].type");
  EXPECT_EQ(FieldAtFault(With(R"("metrics": [{"name": "m", "type": "FLOAT", "low": 1}])")),
            "metrics[0].high");
  EXPECT_EQ(FieldAtFault(With(R"("decision": {"primary": "thumbs", "margin": 0.1})")),
            "decision.primary");
  // A margin is a decision about the product: none is assumed.
  EXPECT_EQ(FieldAtFault(With(R"("decision": {"primary": "errors"})")), "decision.margin");
  EXPECT_EQ(FieldAtFault(With(R"("decision": {"primary": "errors", "margin": 1, "alpha": 0.9})")),
            "decision.alpha");
  EXPECT_EQ(
      FieldAtFault(With(R"("decision": {"primary": "errors", "margin": 1, "by_pairs": true})")),
      "decision.by_pairs");
  EXPECT_EQ(FieldAtFault(With(R"("guardrails": {"max_error_rate": 0})")),
            "guardrails.max_error_rate");
  EXPECT_EQ(FieldAtFault(With(R"("guardrails": {"max_kl": -1})")), "guardrails.max_kl");
  EXPECT_EQ(FieldAtFault(With(R"("layer": "l")")), "none");
}

TEST(DefinitionTest, APlanHasTheCoverageOfItsStep) {
  Experiment message = *CompleteExperiment(Canary(), kVariants);
  message.set_step(2);
  const Definition definition = DefinitionOf(message, 7, kVariants);
  EXPECT_DOUBLE_EQ(definition.plan.coverage, 0.2);
  EXPECT_THAT(definition.variants, ElementsAre(0, 2));
  EXPECT_EQ(definition.control, 0);
}

TEST(DefinitionTest, RaisingTheBucketVersionDrawsEverybodyAnew) {
  Experiment message = *CompleteExperiment(Canary(), kVariants);
  message.set_step(4);
  const Definition before = DefinitionOf(message, 1, kVariants);
  message.set_bucket_version(1);
  const Definition after = DefinitionOf(message, 1, kVariants);
  int moved = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::string unit = absl::StrCat("unit", i);
    moved += Assign(before.plan, before.ranges, unit, {}, {}).arm !=
             Assign(after.plan, after.ranges, unit, {}, {}).arm;
  }
  EXPECT_GT(moved, 400);
  EXPECT_LT(moved, 600);
}

TEST(DefinitionTest, WhatUnitsHoldCannotChangeOnceStarted) {
  Experiment draft = *CompleteExperiment(Canary(), kVariants);
  draft.set_state(Experiment::DRAFT);
  Experiment other = draft;
  other.mutable_arms(1)->set_variant("int8");
  EXPECT_TRUE(CheckKeepsArms(draft, other).ok());
  Experiment running = draft;
  running.set_state(Experiment::RUNNING);
  EXPECT_THAT(CheckKeepsArms(running, other).message(), HasSubstr("arms cannot change"));
  other = running;
  other.set_unit(Experiment::USER);
  EXPECT_EQ(CheckKeepsArms(running, other).code(), absl::StatusCode::kFailedPrecondition);
  other = running;
  other.set_shadow_share(0.5);
  other.mutable_guardrails()->set_max_kl(1);
  EXPECT_TRUE(CheckKeepsArms(running, other).ok());
}

TEST(DefinitionTest, EachActionIsTakenInItsStatesAlone) {
  using Request = v1::ControlExperimentRequest;
  const std::map<Request::Action, std::set<Experiment::State>> taken = {
      {Request::START, {Experiment::DRAFT, Experiment::PAUSED}},
      {Request::PAUSE, {Experiment::RUNNING}},
      {Request::RAMP, {Experiment::RUNNING}},
      {Request::PROMOTE, {Experiment::RUNNING, Experiment::PAUSED}},
      {Request::ROLL_BACK,
       {Experiment::RUNNING, Experiment::PAUSED, Experiment::PROMOTED, Experiment::ROLLED_BACK,
        Experiment::STOPPED}},
      {Request::STOP,
       {Experiment::RUNNING, Experiment::PAUSED, Experiment::PROMOTED, Experiment::ROLLED_BACK,
        Experiment::STOPPED}}};
  for (const auto& [action, states] : taken) {
    for (int state = Experiment::DRAFT; state <= Experiment::STOPPED; ++state) {
      Experiment message = *CompleteExperiment(Canary(), kVariants);
      message.set_state(static_cast<Experiment::State>(state));
      Request request;
      request.set_action(action);
      const auto after = AfterAction(message, request);
      EXPECT_EQ(after.ok(), states.count(message.state()) > 0)
          << Request::Action_Name(action) << " in " << StateName(message.state());
      if (!after.ok()) {
        EXPECT_EQ(after.status().code(), absl::StatusCode::kFailedPrecondition);
      }
    }
  }
}

TEST(DefinitionTest, ARampEndsAtItsLastStepAndPromotesTheOnlyTreatment) {
  Experiment message = *CompleteExperiment(Canary(), kVariants);
  message.set_state(Experiment::RUNNING);
  message.set_step(4);
  v1::ControlExperimentRequest request;
  request.set_action(v1::ControlExperimentRequest::RAMP);
  EXPECT_EQ(FieldViolationOf(AfterAction(message, request).status())->field, "step");
  request.set_step(1);
  EXPECT_EQ(AfterAction(message, request)->step(), 1u);
  request.set_action(v1::ControlExperimentRequest::PROMOTE);
  EXPECT_EQ(AfterAction(message, request)->promoted(), "cheap");
  request.set_arm("nobody");
  EXPECT_EQ(FieldViolationOf(AfterAction(message, request).status())->field, "arm");
}

}  // namespace
}  // namespace vernier
