// The program against the program: vernierd with stories260K under load.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "loadtest/exit_code.h"
#include "tests/server/test_certificates.h"
#include "tests/testing/child_process.h"

namespace vernier::loadtest {
namespace {

using ::testing::HasSubstr;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The word behind `key` in the daemon's first line.
std::string WordBehind(const std::string& line, const std::string& key) {
  const size_t at = line.find(key);
  if (at == std::string::npos) return "";
  const size_t from = at + key.size();
  return line.substr(from, line.find(' ', from) - from);
}

class LoadTestEndToEnd : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    daemon_ = new testing::ChildProcess({Environment("VERNIER_BIN") + "/vernierd", "--model",
                                         Environment("VERNIER_TEST_DATA") + "/stories260K/hf",
                                         "--variants", "fp16,nf4", "--listen", "127.0.0.1:0",
                                         "--http", "127.0.0.1:0"});
    ready_ = daemon_->ReadLine();
  }
  static void TearDownTestSuite() {
    daemon_->Signal(SIGTERM);
    EXPECT_EQ(daemon_->Wait(), 0) << daemon_->errors();
    delete daemon_;
  }

  // Runs a verb against the daemon; the exit code. What it said is in `said_`.
  int Call(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), Environment("VERNIER_BIN") + "/vernier-loadtest");
    if (arguments[1] != "compare") {
      for (const char* more : {"--quiet", "--server"}) arguments.push_back(more);
      arguments.push_back(WordBehind(ready_, "grpc="));
    }
    testing::ChildProcess child(arguments);
    said_ = child.RestOfOutput();
    const int code = child.Wait();
    said_ += child.errors();
    return code;
  }
  static nlohmann::json ReadJson(const std::string& path) {
    std::ifstream file(path);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    return nlohmann::json::parse(text, nullptr, false);
  }

  static inline testing::ChildProcess* daemon_ = nullptr;
  static inline std::string ready_;
  std::string said_;
};

TEST_F(LoadTestEndToEnd, EveryRequestIsAnsweredAndReported) {
  const std::string path = ::testing::TempDir() + "run.json", page = path + ".html";
  ASSERT_EQ(Call({"run",
                  "--concurrency",
                  "8",
                  "--requests",
                  "40",
                  "--warmup",
                  "0",
                  "--prompt-tokens",
                  "20",
                  "--output-tokens",
                  "5",
                  "--variants",
                  "fp16,nf4",
                  "--tenants",
                  "a,b",
                  "--metrics",
                  WordBehind(ready_, "http="),
                  "--json",
                  path,
                  "--csv",
                  path + ".csv",
                  "--html",
                  page}),
            kExitGood)
      << said_;
  const nlohmann::json report = ReadJson(path);
  ASSERT_TRUE(report.is_object());
  const auto& run = report["runs"][0];
  EXPECT_EQ(run["figures"]["completed"], 40) << said_;
  EXPECT_EQ(run["figures"]["failed"], 0);
  EXPECT_GT(run["figures"]["first_token_p50_seconds"], 0.0);
  EXPECT_GE(run["timeline"].size(), 1u);
  EXPECT_GT(run["timeline"][0]["resident_bytes"], 0.0);
  const auto& tenants = run["tenants"];
  EXPECT_EQ(tenants["a"]["sent"].get<double>() + tenants["b"]["sent"].get<double>(), 40);
  EXPECT_EQ(Call({"compare", path, path}), kExitGood) << said_;
  EXPECT_THAT(said_, HasSubstr("same"));
}

TEST_F(LoadTestEndToEnd, CancelsAreCountedAsSuch) {
  const std::string path = ::testing::TempDir() + "cancel.json";
  ASSERT_EQ(
      Call({"run", "--concurrency", "16", "--requests", "64", "--warmup", "0", "--prompt-tokens",
            "20", "--output-tokens", "40", "--cancel", "1", "--json", path}),
      kExitGood)
      << said_;
  const nlohmann::json report = ReadJson(path);
  ASSERT_TRUE(report.is_object());
  const auto& figures = report["runs"][0]["figures"];
  // One whose last tokens were on their way completes.
  EXPECT_EQ(figures["cancelled"].get<double>() + figures["completed"].get<double>(), 64) << said_;
  EXPECT_GT(figures["cancelled"], 32.0);
}

TEST_F(LoadTestEndToEnd, ASweepHasARunForEachRate) {
  const std::string path = ::testing::TempDir() + "sweep.json";
  ASSERT_EQ(
      Call({"sweep", "--rates", "40,80", "--seconds", "0.5", "--warmup", "0", "--prompt-tokens",
            "8", "--output-tokens", "2", "--slo-ttft", "100", "--slo-tpot", "100", "--json", path}),
      kExitGood)
      << said_;
  const nlohmann::json report = ReadJson(path);
  ASSERT_EQ(report["runs"].size(), 2u);
  EXPECT_EQ(report["knee"]["held_per_second"], 80.0);
}

TEST_F(LoadTestEndToEnd, RefusesWhatTheServerDoesNotHave) {
  EXPECT_EQ(Call({"run", "--variants", "fp8"}), kExitUsage);
  EXPECT_THAT(said_, HasSubstr("no variant \"fp8\""));
  EXPECT_EQ(Call({"run", "--json", "/no/such/folder/report.json"}), kExitCannotWrite);
}

TEST(LoadTestOverTls, ACertificateAndAKeyAreShownToAServerThatAsks) {
  const testing::Authority authority;
  const testing::Certificate server = authority.Issue(), client = authority.Issue();
  const std::string folder = ::testing::TempDir() + "/";
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(folder + name) << text;
    return folder + name;
  };
  const std::string ca = write("load_ca.pem", authority.certificate());
  const std::string certificate = write("load_client.pem", client.certificate);
  const std::string key = write("load_client.key", client.key);
  // The SHA-256 of "secret".
  const std::string config = write(
      "load.yaml", "model: {path: '" + Environment("VERNIER_TEST_DATA") +
                       "/stories260K/hf'}\nlisten: 127.0.0.1:0\nvariants: [{name: fp16}]\ntls: {"
                       "certificate: " +
                       write("load_server.pem", server.certificate) +
                       ", key: " + write("load_server.key", server.key) + ", client_ca: " + ca +
                       "}\nkeys:\n  - {name: app, services: [Inference, Models], sha256: "
                       "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b}\n");
  testing::ChildProcess daemon({Environment("VERNIER_BIN") + "/vernierd", "--config", config});
  const std::string ready = daemon.ReadLine();
  const auto call = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {Environment("VERNIER_BIN") + "/vernier-loadtest",
                                          "run",
                                          "--quiet",
                                          "--server",
                                          WordBehind(ready, "grpc="),
                                          "--concurrency",
                                          "2",
                                          "--requests",
                                          "4",
                                          "--warmup",
                                          "0",
                                          "--prompt-tokens",
                                          "8",
                                          "--output-tokens",
                                          "2",
                                          "--ca",
                                          ca,
                                          "--cert",
                                          certificate,
                                          "--key",
                                          key};
    arguments.insert(arguments.end(), more.begin(), more.end());
    testing::ChildProcess child(arguments);
    const std::string said = child.RestOfOutput();
    const int code = child.Wait();
    return std::pair(code, said + child.errors());
  };
  const auto [good, said] = call({"--api-key", "secret"});
  EXPECT_EQ(good, kExitGood) << said << daemon.errors();
  const auto [refused, why] = call({"--api-key", "guess"});
  EXPECT_EQ(refused, kExitUnavailable) << why;
  EXPECT_THAT(why, HasSubstr("UNAUTHENTICATED"));
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0) << daemon.errors();
}

}  // namespace
}  // namespace vernier::loadtest
