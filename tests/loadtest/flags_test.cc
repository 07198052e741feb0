#include "loadtest/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "loadtest/exit_code.h"

namespace vernier::loadtest {
namespace {

using ::testing::HasSubstr;

ParsedCommandLine Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "vernier-loadtest");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

std::string FileWith(const std::string& name, const std::string& text) {
  const std::string path = ::testing::TempDir() + name;
  std::ofstream(path) << text;
  return path;
}

TEST(FlagsTest, ARunIsRead) {
  const ParsedCommandLine parsed =
      Parse({"run", "--rate", "12.5", "--arrivals", "gamma", "--cv", "3", "--variants",
             "fp16,nf4=2", "--prompt-tokens", "64", "--output-tokens", "16", "--slo-ttft", "0.5"});
  ASSERT_EQ(parsed.exit_code, -1) << parsed.message;
  EXPECT_EQ(parsed.command.run.arrivals.rate, 12.5);
  EXPECT_EQ(parsed.command.run.arrivals.process, ArrivalProcess::kGamma);
  EXPECT_EQ(parsed.command.workload.variants[1].weight, 2);
  EXPECT_EQ(parsed.command.workload.prompt_tokens, 64);
  EXPECT_EQ(parsed.command.slo.first_token_seconds, 0.5);
}

TEST(FlagsTest, BadFlagsAreUsage) {
  const std::vector<std::vector<const char*>> lines = {
      {},
      {"jump"},
      {"run", "--rate", "0"},
      {"run", "--rate", "-1"},
      {"run", "--rate", "nan"},
      {"run", "--rate", "many"},
      {"run", "--server", "localhost"},
      {"run", "--server", "localhost:99999"},
      {"run", "--metrics", ":80"},
      {"run", "--rate", "1", "--concurrency", "4"},
      {"run", "--prompt-tokens", "5"},
      {"run", "--prompt-tokens", "5", "--output-tokens", "0"},
      {"run", "--arrivals", "sometimes"},
      {"run", "--cancel", "1.5"},
      {"run", "--speed", "2"},
      {"run", "--seconds", "5", "--warmup", "5"},
      {"run", "--channels", "0"},
      {"run", "--cert", "own.pem", "--key", "own.key"},
      {"run", "--api-key", "a\nb"},
      {"run", "--api-key", " a"},
      {"run", "--ca", "ca.pem", "--cert", "own.pem"},
      {"sweep", "--rates", "1,-2"},
      {"sweep", "--attainment", "2"},
      {"sweep", "--growth", "1"},
      {"sweep", "--concurrency", "3"},
      {"compare", "one.json"}};
  for (const auto& line : lines) {
    const ParsedCommandLine parsed = Parse(line);
    EXPECT_EQ(parsed.exit_code, kExitUsage) << ::testing::PrintToString(line);
    EXPECT_THAT(parsed.message, HasSubstr("vernier-loadtest: "));
  }
}

TEST(FlagsTest, WhatTheEnvironmentGivesIsCheckedAsAFlagIs) {
  setenv("VERNIER_SERVER", "nowhere", 1);
  const ParsedCommandLine address = Parse({"run", "--rate", "1"});
  EXPECT_EQ(address.exit_code, kExitUsage);
  EXPECT_THAT(address.message, HasSubstr("--server: 'nowhere' is not HOST:PORT"));
  unsetenv("VERNIER_SERVER");
  setenv("VERNIER_API_KEY", "secret\n", 1);
  const ParsedCommandLine key = Parse({"run", "--rate", "1"});
  EXPECT_EQ(key.exit_code, kExitUsage);
  EXPECT_THAT(key.message, ::testing::Not(HasSubstr("secret")));
  unsetenv("VERNIER_API_KEY");
}

TEST(FlagsTest, BadFilesAndMixesAreBadInput) {
  const std::string lengths = FileWith(
      "lengths.csv", "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n5,6,11,1\n");
  for (const std::vector<const char*>& line :
       {std::vector<const char*>{"run", "--trace", "/no/such/file"},
        std::vector<const char*>{"run", "--trace", lengths.c_str()},
        std::vector<const char*>{"run", "--lengths", "/no/such/file"},
        std::vector<const char*>{"run", "--retry-policy", "/no/such/file"},
        std::vector<const char*>{"run", "--ca", "/no/such/file"},
        std::vector<const char*>{"run", "--variants", "a,a"},
        std::vector<const char*>{"run", "--tenants", "a,b\x01"},
        std::vector<const char*>{"run", "--tenants", "a=-1"}}) {
    const ParsedCommandLine parsed = Parse(line);
    EXPECT_EQ(parsed.exit_code, kExitBadInput) << line[1] << " " << line[2];
  }
  EXPECT_EQ(Parse({"run", "--lengths", lengths.c_str()}).exit_code, -1);
}

TEST(FlagsTest, ATraceIsReplayedAtItsSpeed) {
  const std::string trace = FileWith("trace.csv",
                                     "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                                     "2023-11-16 18:17:00,5,6\n2023-11-16 18:17:04,5,6\n");
  const ParsedCommandLine parsed = Parse({"run", "--trace", trace.c_str(), "--speed", "10"});
  ASSERT_EQ(parsed.exit_code, -1) << parsed.message;
  EXPECT_TRUE(parsed.command.run.replay);
  EXPECT_EQ(parsed.command.run.arrivals.rate, 5);  // 2 in 4 s, ten times faster
}

TEST(FlagsTest, HelpIsGood) {
  EXPECT_EQ(Parse({"--help"}).exit_code, kExitGood);
  EXPECT_THAT(Parse({"sweep", "--help"}).message, HasSubstr("--slo-ttft"));
}

}  // namespace
}  // namespace vernier::loadtest
