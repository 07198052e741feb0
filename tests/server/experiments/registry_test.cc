// Experiments of a process: routing, rollback, restart, feedback.
#include "server/experiments/registry.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

using ::testing::HasSubstr;
using v1::Experiment;
using Action = v1::ControlExperimentRequest;

class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest() {
    std::string path = ::testing::TempDir() + "registryXXXXXX";
    options_.folder = mkdtemp(path.data());
    options_.variants = {"fp16", "int8", "nf4"};
    options_.log.write_period = absl::Milliseconds(1);
    Restart();
  }
  ~RegistryTest() override {
    experiments_.reset();
    std::filesystem::remove_all(options_.folder);
  }
  void Restart() {
    experiments_.reset();
    auto opened = Experiments::Open(options_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    experiments_ = *std::move(opened);
  }

  static Experiment Canary(const std::string& more = "") {
    Experiment out;
    const auto status = google::protobuf::util::JsonStringToMessage(
        absl::StrCat(R"({"id": "canary", "ramp": [0.2, 1],
                         "metrics": [{"name": "thumbs", "type": "BOOL"},
                                     {"name": "better", "type": "PREFERENCE"},
                                     {"name": "stars", "type": "FLOAT", "low": 1, "high": 5},
                                     {"name": "note", "type": "TEXT"}],
                         "arms": [{"name": "full", "variant": "fp16"},
                                  {"name": "cheap", "variant": "nf4"}])",
                     more, "}"),
        &out);
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
  }
  absl::StatusOr<Experiment> Do(Action::Action action, const std::string& id = "canary") {
    Action request;
    request.set_id(id);
    request.set_action(action);
    return experiments_->Control(request);
  }
  void PutAndStart(const std::string& more = "") {
    const auto put = experiments_->Put(Canary(more));
    ASSERT_TRUE(put.ok()) << put.status();
    const auto started = Do(Action::START);
    ASSERT_TRUE(started.ok()) << started.status();
  }
  Exposure Bind(const std::string& key, int variant = 1, bool named = false) {
    return experiments_->Bind(
        {.routing_key = key, .prompt_tokens = 10, .variant = variant, .named = named});
  }
  // A unit that has the given arm.
  std::string UnitOf(int arm, int from = 0) {
    for (int i = from;; ++i) {
      const std::string unit = absl::StrCat("unit", i);
      v1::ExplainAssignmentRequest request;
      request.set_unit(unit);
      const std::string got = experiments_->Explain(request).entries(0).arm();
      if (got == (arm == 0 ? "full" : "cheap")) return unit;
    }
  }
  v1::ExperimentReport Report(bool rebuild = false) {
    EXPECT_TRUE(experiments_->Flush().ok());
    const auto report = experiments_->Report("canary", rebuild);
    EXPECT_TRUE(report.ok()) << report.status();
    return *report;
  }
  v1::FeedbackResponse Say(const std::string& exposure, const std::string& metric, bool flag,
                           const std::string& key = "") {
    v1::FeedbackEvent event;
    event.set_exposure_id(exposure);
    event.set_metric(metric);
    event.set_flag(flag);
    event.set_idempotency_key(key);
    v1::FeedbackResponse response;
    experiments_->TakeFeedback(event, &response);
    return response;
  }

  ExperimentsOptions options_;
  std::unique_ptr<Experiments> experiments_;
};

TEST_F(RegistryTest, ADraftRoutesNobody) {
  ASSERT_TRUE(experiments_->Put(Canary()).ok());
  const Exposure exposure = Bind("someone");
  EXPECT_EQ(exposure.experiment, nullptr);
  EXPECT_EQ(exposure.variant, 1);
  EXPECT_EQ(exposure.id(), "");
}

TEST_F(RegistryTest, AUnitIsServedByItsArmAlwaysAndAcrossRestarts) {
  PutAndStart();
  const std::string unit = UnitOf(1);
  for (int i = 0; i < 3; ++i) {
    const Exposure exposure = Bind(unit);
    EXPECT_EQ(exposure.variant, 2);
    EXPECT_EQ(exposure.experiment->plan.arms[exposure.arm].name, "cheap");
    EXPECT_EQ(exposure.id().size(), 32u);
  }
  Restart();
  EXPECT_EQ(Bind(unit).variant, 2);
}

TEST_F(RegistryTest, WhoTakesNoPartKeepsTheDefault) {
  PutAndStart();
  int outside = 0;
  for (int i = 0; i < 1000; ++i) outside += Bind(absl::StrCat("u", i)).experiment == nullptr;
  EXPECT_NEAR(outside, 800, 60);
}

TEST_F(RegistryTest, ANamedVariantWinsAndIsLoggedAsForced) {
  PutAndStart();
  const Exposure exposure = Bind(UnitOf(1), /*variant=*/1, /*named=*/true);
  EXPECT_EQ(exposure.variant, 1);
  EXPECT_EQ(exposure.arm, -1);
  EXPECT_EQ(exposure.record.reason, ServedReason::kForced);
  EXPECT_EQ(Report().forced(), 1u);
}

TEST_F(RegistryTest, AnArmThatCannotServeFallsBackAndSaysSo) {
  options_.loaded = [](int variant) { return variant != 2; };
  Restart();
  PutAndStart();
  const Exposure exposure = Bind(UnitOf(1));
  EXPECT_EQ(exposure.variant, 1);
  EXPECT_EQ(exposure.arm, 1);  // as it was assigned
  EXPECT_EQ(exposure.record.reason, ServedReason::kFallbackError);
}

TEST_F(RegistryTest, NobodyChangesArmWhenTheRampWidens) {
  PutAndStart();
  std::map<std::string, int> arms;
  for (int i = 0; i < 500; ++i) {
    const std::string unit = absl::StrCat("u", i);
    arms[unit] = Bind(unit).arm;
  }
  ASSERT_TRUE(Do(Action::RAMP).ok());
  for (const auto& [unit, arm] : arms) {
    const int now = Bind(unit).arm;
    EXPECT_GE(now, 0);
    EXPECT_TRUE(arm < 0 || arm == now) << unit;
  }
}

TEST_F(RegistryTest, APromotedArmServesEverybodyAndLogsNobody) {
  PutAndStart();
  ASSERT_TRUE(Do(Action::PROMOTE).ok());
  for (int i = 0; i < 50; ++i) {
    const Exposure exposure = Bind(absl::StrCat("u", i));
    EXPECT_EQ(exposure.variant, 2);
    EXPECT_FALSE(exposure.logged);
  }
  ASSERT_TRUE(Do(Action::ROLL_BACK).ok());
  EXPECT_EQ(Bind("u1").variant, 1);
}

TEST_F(RegistryTest, NonFiniteLogitsRollBackBeforeTheNextRequestIsRead) {
  PutAndStart();
  const std::string unit = UnitOf(1);
  const Exposure exposure = Bind(unit);
  experiments_->End(exposure, {.code = absl::StatusCode::kInternal, .not_finite = true});
  ASSERT_TRUE(experiments_->Flush().ok());
  EXPECT_EQ(Bind(unit).experiment, nullptr);
  const auto list = experiments_->List();
  EXPECT_EQ(list.experiments(0).state(), Experiment::ROLLED_BACK);
  EXPECT_THAT(list.experiments(0).state_reason(), HasSubstr("cheap"));
  Restart();
  EXPECT_EQ(Bind(unit).experiment, nullptr);
  EXPECT_EQ(experiments_->Figures()->experiments[0].experiment->message.state(),
            Experiment::ROLLED_BACK);
}

TEST_F(RegistryTest, TheReportIsTheSameRebuiltAndAfterARestart) {
  PutAndStart();
  ASSERT_TRUE(Do(Action::RAMP).ok());
  for (int i = 0; i < 300; ++i) {
    const Exposure exposure = Bind(absl::StrCat("u", i % 70));
    experiments_->End(exposure, {.output_tokens = 10 + i % 7,
                                 .first_token = absl::Milliseconds(i),
                                 .mean_logprob = -0.1f * static_cast<float>(i % 3)});
    if (i % 5 == 0) Say(exposure.id(), "thumbs", i % 2 == 0);
  }
  v1::ExperimentReport live = Report();
  EXPECT_EQ(live.arms(0).requests() + live.arms(1).requests(), 300u);
  EXPECT_EQ(live.feedback(), 60u);
  EXPECT_EQ(live.SerializeAsString(), Report(/*rebuild=*/true).SerializeAsString());
  Restart();
  EXPECT_EQ(live.SerializeAsString(), Report().SerializeAsString());
}

TEST_F(RegistryTest, APutNeedsTheVersionThatIsStored) {
  ASSERT_EQ(experiments_->Put(Canary())->version(), 1u);
  EXPECT_EQ(experiments_->Put(Canary()).status().code(), absl::StatusCode::kAborted);
  Experiment next = Canary();
  next.set_version(1);
  EXPECT_EQ(experiments_->Put(next)->version(), 2u);
}

TEST_F(RegistryTest, TwoExperimentsShareNoPartOfALayer) {
  PutAndStart(R"(, "layer": "l", "slots_end": 0.6)");
  Experiment other = Canary(R"(, "layer": "l", "slots_begin": 0.5, "slots_end": 1)");
  other.set_id("other");
  ASSERT_TRUE(experiments_->Put(other).ok());
  EXPECT_THAT(Do(Action::START, "other").status().message(), HasSubstr("canary has a part of"));
  other.set_version(1);
  other.set_slots_begin(0.6);
  ASSERT_TRUE(experiments_->Put(other).ok());
  EXPECT_TRUE(Do(Action::START, "other").ok());
}

TEST_F(RegistryTest, FeedbackIsTakenOnceAndWhatCannotBeIsNamed) {
  PutAndStart();
  const Exposure exposure = Bind(UnitOf(1));
  experiments_->End(exposure, {.output_tokens = 3});
  ASSERT_TRUE(experiments_->Flush().ok());
  EXPECT_EQ(Say(exposure.id(), "thumbs", true, "k").accepted(), 1u);
  EXPECT_EQ(Say(exposure.id(), "thumbs", true, "k").duplicates(), 1u);
  EXPECT_THAT(Say(exposure.id(), "unknown", true).failures(0).reason(), HasSubstr("metric"));
  EXPECT_THAT(Say(exposure.id(), "stars", true).failures(0).reason(), HasSubstr("number"));
  EXPECT_THAT(Say("zz", "thumbs", true).failures(0).reason(), HasSubstr("exposure_id"));
  EXPECT_THAT(Say(std::string(32, '0'), "thumbs", true).failures(0).reason(),
              HasSubstr("no experiment"));
  std::string unknown = exposure.id();
  unknown.replace(0, 4, "0000");
  EXPECT_EQ(Say(unknown, "thumbs", true).orphans(), 1u);
  EXPECT_EQ(experiments_->Figures()->feedback_refused, 4);
}

TEST_F(RegistryTest, TheConfigurationPutsOnceAndStartsWhatIsNew) {
  Experiment configured = Canary();
  configured.set_state(Experiment::RUNNING);
  ASSERT_TRUE(experiments_->Configure(configured).ok());
  EXPECT_NE(Bind(UnitOf(0)).experiment, nullptr);
  ASSERT_TRUE(Do(Action::PAUSE).ok());
  Restart();
  ASSERT_TRUE(experiments_->Configure(configured).ok());
  EXPECT_EQ(experiments_->List().experiments(0).state(), Experiment::PAUSED);
  configured.mutable_arms(1)->set_variant("int8");
  EXPECT_EQ(experiments_->Configure(configured).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(RegistryTest, UnitsAreHashedWithAKeyOfTheFolder) {
  PutAndStart();
  const std::string unit = UnitOf(1);
  const uint64_t hash = Bind(unit).record.unit_hash;
  EXPECT_NE(hash, 0u);
  EXPECT_NE(hash, UnitHash({}, unit));
  Restart();
  EXPECT_EQ(Bind(unit).record.unit_hash, hash);
}

// The published vector of SipHash-2-4 (its paper's appendix): key 00..0f, message 00..0e.
TEST(UnitHashTest, EqualsThePublishedVector) {
  std::string message;
  for (char c = 0; c < 15; ++c) message.push_back(c);
  EXPECT_EQ(UnitHash({0x0706050403020100, 0x0f0e0d0c0b0a0908}, message), 0xa129ca6149be45e5);
}

}  // namespace
}  // namespace vernier
