// `vernier experiment` and `vernier feedback` over real gRPC against answers that the test sets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/experiment_fixture.h"
#include "tests/cli/fake_service.h"

namespace vernier::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(ExperimentCommandTest, PutSendsTheFile) {
  FakeServer server;
  const Ran ran =
      server.Run({"experiment", "put", "-"}, {.input = R"({"id": "canary", "version": 3})"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(server.experiments.put.experiment().version(), 3u);
  EXPECT_EQ(ran.out, "canary: DRAFT; version 4\n");
  EXPECT_EQ(server.Run({"experiment", "put", "-"}, {.input = "id: canary"}).exit_code, 65);
  EXPECT_EQ(server.Run({"experiment", "put", "no-such-file"}).exit_code, 65);
}

TEST(ExperimentCommandTest, CreateMakesADraftOfFlags) {
  FakeServer server;
  const Ran ran = server.Run({"experiment", "create", "canary", "--arms", "fp16,nf4", "--control",
                              "fp16", "--ramp", "1,5,10,25,50", "--margin", "0.02", "--primary",
                              "errors", "--unit", "user", "--shadow", "0.05"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  const v1::Experiment& sent = server.experiments.put.experiment();
  EXPECT_EQ(sent.id(), "canary");
  EXPECT_EQ(sent.arms_size(), 2);
  EXPECT_EQ(sent.control(), "fp16");
  EXPECT_THAT(sent.ramp(), ElementsAre(0.02, 0.1, 0.2, 0.5, 1));
  EXPECT_EQ(sent.unit(), v1::Experiment::USER);
  EXPECT_EQ(sent.decision().primary(), "errors");
  EXPECT_EQ(sent.shadow_share(), 0.05);
  EXPECT_THAT(ran.out, StartsWith("canary: DRAFT, step 1 of 5: 2 % of users take part"));
}

TEST(ExperimentCommandTest, WhatIsNoCommandLineIsUsage) {
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{
           {"experiment"},
           {"experiment", "frobnicate"},
           {"experiment", "create", "x"},
           {"experiment", "create", "x", "--arms", "a,b", "--margin", "0.1"},
           {"experiment", "create", "x", "--arms", "a,b", "--primary", "errors"},
           {"experiment", "create", "x", "--arms", "a,b", "--ramp", "1,five"},
           {"experiment", "create", "x", "--arms", "a,b", "--ramp", "nan"},
           {"experiment", "create", "x", "--arms", "a,b", "--shadow", "1.5"},
           {"experiment", "create", "x", "--arms", "a,b", "--unit", "household"},
           {"experiment", "status"},
           {"experiment", "status", "x", "--every", "3"},
           {"experiment", "export", "x", "--format", "parquet"},
           {"experiment", "ramp", "x", "--step", "-1"},
           {"feedback", "01ab"},
           {"feedback", "01ab", "better"},
           {"feedback", "01ab", "better", "true", "--over", "02cd"},
           {"feedback", "01ab", "better", "--tie"}}) {
    EXPECT_EQ(RunWith(bad).exit_code, 64) << bad.back();
  }
}

TEST(ExperimentCommandTest, StatusDrawsTheReport) {
  FakeServer server;
  server.experiments.reports = {CanaryReport()};
  const Ran ran = server.Run({"experiment", "status", "nf4-canary", "--rebuild"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.out, StartsWith("nf4-canary: RUNNING\n"));
  EXPECT_EQ(server.experiments.get.id(), "nf4-canary");
  EXPECT_TRUE(server.experiments.get.rebuild());
  const auto json = nlohmann::json::parse(server.Run({"experiment", "status", "x", "--json"}).out);
  EXPECT_EQ(json["experiment"]["id"], "nf4-canary");
  EXPECT_FALSE(server.experiments.get.rebuild());
}

TEST(ExperimentCommandTest, AWatchEndsWithTheExperiment) {
  FakeServer server;
  server.experiments.reports = {CanaryReport(), CanaryReport(), CanaryReport()};
  server.experiments.reports[2].mutable_experiment()->set_state(v1::Experiment::ROLLED_BACK);
  const std::vector<std::string> watch = {"experiment", "status",  "x",
                                          "--watch",    "--every", "0.001"};
  Ran ran = server.Run(watch, {.terminal = true});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(server.experiments.looks, 3u);
  EXPECT_EQ(Count(ran.out, "\x1b[2J\x1b[Hnf4-canary: "), 3);
  server.experiments.looks = 0;
  ran = server.Run(watch);
  EXPECT_EQ(Count(ran.out, "\x1b"), 0);
  EXPECT_EQ(Count(ran.out, "nf4-canary: RUNNING\n"), 2);
  EXPECT_EQ(Count(ran.out, "\n\nnf4-canary: ROLLED_BACK\n"), 1);
}

TEST(ExperimentCommandTest, AWatchOfAServerThatGoesIsAFailure) {
  FakeServer server;
  server.experiments.status = {grpc::StatusCode::UNAVAILABLE, "draining"};
  EXPECT_EQ(server.Run({"experiment", "status", "x", "--watch"}).exit_code, 69);
}

TEST(ExperimentCommandTest, ActionsAreSent) {
  FakeServer server;
  using Control = v1::ControlExperimentRequest;
  for (const auto& [word, action] :
       std::vector<std::pair<std::string, Control::Action>>{{"start", Control::START},
                                                            {"pause", Control::PAUSE},
                                                            {"ramp", Control::RAMP},
                                                            {"promote", Control::PROMOTE},
                                                            {"rollback", Control::ROLL_BACK},
                                                            {"stop", Control::STOP}}) {
    const Ran ran = server.Run({"experiment", word, "canary", "--reason", "a test"});
    EXPECT_EQ(ran.out, "canary: RUNNING; version 0\n") << word << ran.err;
    EXPECT_EQ(server.experiments.control.action(), action) << word;
    EXPECT_EQ(server.experiments.control.reason(), "a test");
    EXPECT_FALSE(server.experiments.control.has_step());
  }
  server.Run({"experiment", "ramp", "canary", "--step", "0", "--force"});
  EXPECT_TRUE(server.experiments.control.has_step());
  EXPECT_TRUE(server.experiments.control.force());
  server.Run({"experiment", "promote", "canary", "--arm", "nf4"});
  EXPECT_EQ(server.experiments.control.arm(), "nf4");
}

TEST(ExperimentCommandTest, ARefusalSaysWhy) {
  FakeServer server;
  server.experiments.status = {grpc::StatusCode::FAILED_PRECONDITION, "canary is STOPPED"};
  const Ran ran = server.Run({"experiment", "start", "canary"});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_EQ(ran.err, "vernier: not possible here: canary is STOPPED\n");
  for (const char* action : {"list", "explain", "export", "status"}) {
    std::vector<std::string> words = {"experiment", action};
    if (words[1] != "list") words.emplace_back("x");
    EXPECT_EQ(server.Run(words).exit_code, 1) << action;
  }
}

TEST(ExperimentCommandTest, ListExplainAndExport) {
  FakeServer server;
  *server.experiments.list.add_experiments() = CanaryReport().experiment();
  EXPECT_THAT(server.Run({"experiment", "list"}).out, HasSubstr("nf4-canary  RUNNING"));
  auto* entry = server.experiments.explanation.add_entries();
  entry->set_experiment("nf4-canary");
  entry->set_reason("outside_coverage");
  entry->set_bucket(0.73125);
  server.experiments.explanation.set_variant("fp16");
  EXPECT_EQ(
      server.Run({"experiment", "explain", "ada", "--tenant", "acme", "--prompt-tokens", "9"}).out,
      "experiment  arm  variant            reason  bucket\n"
      "nf4-canary  -    -        outside_coverage  0.7312\n"
      "served by fp16\n");
  EXPECT_EQ(server.experiments.explain.unit(), "ada");
  EXPECT_EQ(server.experiments.explain.tenant(), "acme");
  EXPECT_EQ(server.experiments.explain.prompt_tokens(), 9u);
  server.experiments.reports = {CanaryReport()};
  EXPECT_THAT(server.Run({"experiment", "export", "x", "--format", "csv"}).out,
              StartsWith("section,arm,"));
  EXPECT_THAT(server.Run({"experiment", "export", "x"}).out,
              StartsWith("{\"experiment\":{\"id\":\"nf4-canary\""));
}

TEST(FeedbackCommandTest, SendsOneEvent) {
  FakeServer server;
  server.inference.feedback_reply.set_accepted(1);
  const Ran ran = server.Run(
      {"feedback", "01ab", "thumbs_up", "true", "--source", "web", "--idempotency-key", "k"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(ran.out, "accepted\n");
  ASSERT_EQ(server.inference.feedback.size(), 1u);
  const v1::FeedbackEvent& sent = server.inference.feedback[0];
  EXPECT_EQ(sent.exposure_id(), "01ab");
  EXPECT_EQ(sent.metric(), "thumbs_up");
  EXPECT_TRUE(sent.flag());
  EXPECT_EQ(sent.source(), "web");
  EXPECT_EQ(sent.idempotency_key(), "k");
  server.Run({"feedback", "01ab", "stars", "-4.5"});
  EXPECT_EQ(server.inference.feedback.back().number(), -4.5);
  server.Run({"feedback", "01ab", "comment", "5", "--text"});
  EXPECT_EQ(server.inference.feedback.back().text(), "5");
  server.Run({"feedback", "01ab", "better", "--over", "02cd", "--tie"});
  EXPECT_EQ(server.inference.feedback.back().preference().over(), "02cd");
  EXPECT_TRUE(server.inference.feedback.back().preference().tie());
}

TEST(FeedbackCommandTest, ARefusalIsAFailureAndAnOrphanIsNone) {
  FakeServer server;
  server.inference.feedback_reply.set_orphans(1);
  EXPECT_THAT(server.Run({"feedback", "01ab", "m", "1"}).out,
              HasSubstr("does not know that exposure yet"));
  server.inference.feedback_reply.Clear();
  server.inference.feedback_reply.set_duplicates(1);
  EXPECT_EQ(server.Run({"feedback", "01ab", "m", "1"}).out, "known already\n");
  server.inference.feedback_reply.Clear();
  server.inference.feedback_reply.set_refused(1);
  server.inference.feedback_reply.add_failures()->set_reason("metric 'm' is not declared");
  const Ran ran = server.Run({"feedback", "01ab", "m", "1"});
  EXPECT_EQ(ran.exit_code, 65);
  EXPECT_EQ(ran.err, "vernier: refused: metric 'm' is not declared\n");
  server.inference.status = {grpc::StatusCode::FAILED_PRECONDITION, "no experiments"};
  EXPECT_EQ(server.Run({"feedback", "01ab", "m", "1"}).exit_code, 1);
}

}  // namespace
}  // namespace vernier::cli
