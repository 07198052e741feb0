#include "loadtest/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace vernier::loadtest {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kAzureHeader[] = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

std::string ErrorOf(const std::string& text) {
  const auto trace = ParseTrace(text, "t");
  EXPECT_FALSE(trace.ok()) << text;
  return std::string(trace.status().message());
}

TEST(TraceTest, AzureRowsCountFromTheFirst) {
  const auto trace = ParseTrace(std::string(kAzureHeader) +
                                    "2023-11-16 23:59:59.5000000,4808,10\r\n"
                                    "2023-11-17 00:00:01.2500000,34,0\n\n",
                                "t");
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->rows.size(), 2u);
  EXPECT_EQ(trace->rows[0].at, 0);
  EXPECT_NEAR(trace->rows[1].at, 1.75, 1e-6);
  EXPECT_EQ(trace->rows[0].prompt_tokens, 4808);
  EXPECT_EQ(trace->rows[1].output_tokens, 1) << "an answer has a token";
  EXPECT_TRUE(trace->has_times);
}

TEST(TraceTest, MooncakeRowsHaveMillisecondsAndBlocks) {
  const auto trace = ParseTrace(
      R"({"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [7, 8]})"
      "\n"
      R"({"timestamp": 1000, "input_length": 9, "output_length": 2})",
      "t");
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->rows[0].prompt_tokens, 9) << "rows are put in the order of their times";
  EXPECT_EQ(trace->rows[1].at, 2);
  EXPECT_THAT(trace->rows[1].blocks, ElementsAre(7, 8));
}

TEST(TraceTest, VidurHasLengthsAlone) {
  const auto trace = ParseTrace(
      "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n"
      "3772,54,3826,69.8\n",
      "t");
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_FALSE(trace->has_times);
  EXPECT_EQ(trace->MeanRate(), 0);
  EXPECT_EQ(trace->rows[0].output_tokens, 54);
}

TEST(TraceTest, HostileLinesAreRefusedWithTheirNumber) {
  const std::string good = "2023-11-16 18:17:03.9799600,1,1\n";
  for (const char* bad : {"2023-11-16 18:17:03,1", "2023-11-16 18:17:03,1,1,1", "never,1,1",
                          "2023-13-16 18:17:03,1,1", "2023-11-16 18:17:03,-1,1",
                          "2023-11-16 18:17:03,1.5,1", "2023-11-16 18:17:03,1,99999999999999999999",
                          "2023-11-16 18:17:03,100000001,1", ",,", "\xff\xfe,1,1"}) {
    EXPECT_THAT(ErrorOf(kAzureHeader + good + bad), HasSubstr("t:3: ")) << bad;
  }
  for (const char* bad :
       {"{", "[]", "{}", R"({"timestamp": "0", "input_length": 1, "output_length": 1})",
        R"({"timestamp": -1, "input_length": 1, "output_length": 1})",
        R"({"timestamp": 1e300, "input_length": 1, "output_length": 1})",
        R"({"timestamp": 0, "input_length": 1e300, "output_length": 1})",
        R"({"timestamp": 0, "input_length": 1, "output_length": -5})",
        R"({"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": 3})",
        R"({"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1.5]})"}) {
    const std::string first = R"({"timestamp": 0, "input_length": 1, "output_length": 1})";
    EXPECT_THAT(ErrorOf(first + "\n" + bad), HasSubstr("t:2: ")) << bad;
  }
  EXPECT_THAT(ErrorOf("name,age\n1,2\n"), HasSubstr("t:1: "));
  EXPECT_THAT(ErrorOf(""), HasSubstr("no request"));
  EXPECT_THAT(ErrorOf(kAzureHeader), HasSubstr("no request"));
}

TEST(TraceTest, AFileThatIsNotThereIsNamed) {
  EXPECT_THAT(ReadTrace("/no/such/trace").status().message(), HasSubstr("/no/such/trace"));
}

TEST(TraceTest, ReadsThePublishedFiles) {
  const char* shared = std::getenv("VERNIER_SHARED_DATA");
  const std::string folder = std::string(shared == nullptr ? "" : shared) + "/traces/";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no traces beside this checkout";
  const auto azure = ReadTrace(folder + "AzureLLMInferenceTrace_code.csv");
  ASSERT_TRUE(azure.ok()) << azure.status();
  EXPECT_EQ(azure->rows.size(), 8819u);
  EXPECT_NEAR(azure->Seconds(), 3436, 1);
  const auto mooncake = ReadTrace(folder + "mooncake_conversation_trace.jsonl");
  ASSERT_TRUE(mooncake.ok()) << mooncake.status();
  EXPECT_EQ(mooncake->rows.size(), 12031u);
  EXPECT_NEAR(mooncake->Seconds(), 3537, 1);
  const auto vidur = ReadTrace(folder + "vidur_arxiv_summarization_lengths.csv");
  ASSERT_TRUE(vidur.ok()) << vidur.status();
  EXPECT_EQ(vidur->rows.size(), 28257u);
}

}  // namespace
}  // namespace vernier::loadtest
