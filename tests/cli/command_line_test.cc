#include "cli/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "cli/exit_code.h"

namespace vernier::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParsedCommandLine Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "vernier");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

ParsedCommandLine ParseWords(const std::string& line) {
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  std::vector<const char*> arguments;
  for (const std::string& word : words) arguments.push_back(word.c_str());
  return Parse(arguments);
}

TEST(CommandLineTest, FlagsBecomeTheRequest) {
  const auto parsed = ParseWords(
      "generate --variant nf4 --max-tokens 7 --temperature 0 --top-p 0.5 --top-k 3 --min-p 0.1 "
      "--frequency-penalty -1 --presence-penalty 1 --repetition-penalty 1.5 "
      "--seed 18446744073709551615 --ignore-eos --stop a --stop b,c --stop-ids 1,2 "
      "--logit-bias 5=-1.5,6=2 --min-tokens 2 -n 3 --logprobs 4 --prompt-logprobs 0 "
      "--include-stop --time-limit 2.5 --truncate-prompt 9 --show-special hello");
  ASSERT_EQ(parsed.exit_code, -1) << parsed.message;
  EXPECT_EQ(parsed.command.verb, Verb::kGenerate);
  const v1::GenerateRequest& request = parsed.command.generate.request;
  EXPECT_EQ(request.variant(), "nf4");
  EXPECT_EQ(request.time_limit_seconds(), 2.5);
  EXPECT_EQ(request.truncate_prompt_tokens(), 9u);
  EXPECT_TRUE(request.special_tokens_as_text());
  const v1::SamplingParams& sampling = request.sampling();
  EXPECT_EQ(sampling.max_tokens(), 7u);
  EXPECT_TRUE(sampling.has_temperature());
  EXPECT_EQ(sampling.temperature(), 0);
  EXPECT_EQ(sampling.top_p(), 0.5f);
  EXPECT_EQ(sampling.top_k(), 3u);
  EXPECT_EQ(sampling.min_p(), 0.1f);
  EXPECT_EQ(sampling.frequency_penalty(), -1);
  EXPECT_EQ(sampling.presence_penalty(), 1);
  EXPECT_EQ(sampling.repetition_penalty(), 1.5f);
  EXPECT_EQ(sampling.seed(), ~uint64_t{0});
  EXPECT_TRUE(sampling.ignore_eos());
  EXPECT_THAT(sampling.stop(), ElementsAre("a", "b,c"));
  EXPECT_THAT(sampling.stop_token_ids(), ElementsAre(1, 2));
  EXPECT_EQ(sampling.logit_bias().at(5), -1.5f);
  EXPECT_EQ(sampling.logit_bias().at(6), 2);
  EXPECT_EQ(sampling.min_tokens(), 2u);
  EXPECT_EQ(sampling.n(), 3u);
  EXPECT_EQ(sampling.logprobs(), 4u);
  EXPECT_TRUE(sampling.has_prompt_logprobs());
  EXPECT_TRUE(sampling.include_stop_str_in_output());
  EXPECT_EQ(parsed.command.generate.prompt.text, "hello");
}

TEST(CommandLineTest, WhatIsNotGivenStaysUnset) {
  const auto parsed = Parse({"generate", "hi"});
  ASSERT_EQ(parsed.exit_code, -1);
  EXPECT_EQ(parsed.command.generate.request.sampling().ByteSizeLong(), 0u);
  EXPECT_EQ(parsed.command.server, "127.0.0.1:50051");
  EXPECT_FALSE(parsed.command.json);
}

TEST(CommandLineTest, CommonFlagsMayStandBeforeOrAfterTheCommand) {
  for (const auto& arguments : {std::vector<const char*>{"--json", "--server", "h:1", "models"},
                                std::vector<const char*>{"models", "--server", "h:1", "--json"}}) {
    const auto parsed = Parse(arguments);
    ASSERT_EQ(parsed.exit_code, -1) << parsed.message;
    EXPECT_TRUE(parsed.command.json);
    EXPECT_EQ(parsed.command.server, "h:1");
  }
}

TEST(CommandLineTest, TheEnvironmentNamesTheServerUnlessAFlagDoes) {
  setenv("VERNIER_SERVER", "elsewhere:7", 1);
  EXPECT_EQ(Parse({"models"}).command.server, "elsewhere:7");
  EXPECT_EQ(Parse({"models", "--server", "here:8"}).command.server, "here:8");
  setenv("VERNIER_SERVER", "nowhere", 1);
  EXPECT_EQ(Parse({"models"}).exit_code, kExitUsage);
  EXPECT_THAT(Parse({"models"}).message, HasSubstr("--server: 'nowhere' is not HOST:PORT"));
  EXPECT_EQ(Parse({"models", "--server", "here:8"}).command.server, "here:8");
  unsetenv("VERNIER_SERVER");
}

TEST(CommandLineTest, AKeyThatIsNoHeaderIsRefusedAndNotRepeated) {
  for (const char* key : {"secret\n", "secr\xe9t", "secr\x7ft", " secret", ""}) {
    const auto parsed = Parse({"models", "--api-key", key});
    EXPECT_EQ(parsed.exit_code, kExitUsage) << key;
    EXPECT_THAT(parsed.message, HasSubstr("--api-key"));
    EXPECT_THAT(parsed.message, ::testing::Not(HasSubstr("secr")));
  }
  setenv("VERNIER_API_KEY", "secret\n", 1);
  EXPECT_EQ(Parse({"models"}).exit_code, kExitUsage);
  unsetenv("VERNIER_API_KEY");
}

TEST(CommandLineTest, CompareTakesVariantsModeAndForcedText) {
  const auto parsed = Parse({"compare", "--variants", "fp16,nf4", "--mode", "forced", "--reference",
                             "fp16", "--forced-ids", "4,5", "--serial", "--aa-control",
                             "--overlap-k", "5", "--temperature", "0", "--raw", "text"});
  ASSERT_EQ(parsed.exit_code, -1) << parsed.message;
  const v1::CompareRequest& request = parsed.command.compare.request;
  EXPECT_THAT(request.variants(), ElementsAre("fp16", "nf4"));
  EXPECT_EQ(request.mode(), v1::TEACHER_FORCED);
  EXPECT_EQ(request.reference(), "fp16");
  EXPECT_THAT(request.forced_ids().ids(), ElementsAre(4, 5));
  EXPECT_EQ(request.timing(), v1::SERIAL);
  EXPECT_TRUE(request.aa_control());
  EXPECT_EQ(request.overlap_k(), 5u);
  EXPECT_TRUE(request.base().sampling().has_temperature());
  EXPECT_EQ(parsed.command.compare.prompt.as, PromptOptions::As::kRaw);
}

TEST(CommandLineTest, MistakesAreUsageErrorsInOneSentence) {
  const std::vector<std::vector<const char*>> mistakes = {
      {},
      {"frobnicate"},
      {"generate", "--top-p", "much", "hi"},
      {"generate", "--seed", "-1", "hi"},
      {"generate", "--seed", "18446744073709551616", "hi"},
      {"generate", "--top-k", "4294967296", "hi"},
      {"generate", "--max-tokens", "0x10", "hi"},
      {"generate", "--raw", "--chat", "hi"},
      {"generate", "--ids", "1,x"},
      {"generate", "--ids", "-1"},
      {"generate", "--logit-bias", "5", "hi"},
      {"generate", "two", "prompts"},
      {"compare", "--mode", "wild", "hi"},
      {"compare", "--forced-text", "a", "--forced-ids", "1", "hi"},
      {"score", "--file", "a", "--ids", "1"},
      {"score", "--stride", "4", "text"},
      {"tokenize", "text"},
      {"inspect"},
      {"template", "--template", "a"},
      {"models", "--server", "nowhere"},
      {"models", "--server", ":1"},
      {"models", "--server", "host:65536"},
      {"models", "--timeout", "-1"},
  };
  for (const auto& mistake : mistakes) {
    const auto parsed = Parse(mistake);
    EXPECT_EQ(parsed.exit_code, kExitUsage) << ::testing::PrintToString(mistake);
    EXPECT_THAT(parsed.message, HasSubstr("vernier: ")) << ::testing::PrintToString(mistake);
  }
}

TEST(CommandLineTest, EveryCommandHasAHelpPageWithAnExample) {
  for (const char* verb :
       {"generate", "compare", "score", "models", "chat", "tokenize", "template", "inspect"}) {
    const auto parsed = Parse({verb, "--help"});
    EXPECT_EQ(parsed.exit_code, kExitGood);
    EXPECT_THAT(parsed.message, HasSubstr("Example")) << verb;
    EXPECT_THAT(parsed.message, HasSubstr(std::string("vernier ") + verb));
  }
  EXPECT_THAT(Parse({"--help"}).message, HasSubstr("Exit codes"));
}

}  // namespace
}  // namespace vernier::cli
