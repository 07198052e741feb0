#include "loadtest/workload.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace vernier::loadtest {
namespace {

WorkloadOptions Options() {
  WorkloadOptions options;
  options.max_context = 100'000;
  options.vocab = 32'000;
  return options;
}

size_t CommonPrefix(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                             a.begin());
}

// The relative standard error of a lognormal's mean is sqrt((exp(sigma^2) - 1) / n): 0.9 % of
// prompts and 0.6 % of outputs here; 5 of them.
TEST(WorkloadTest, ShareGptLikeLengthsHaveTheirMeans) {
  Workload workload(Options());
  double prompt = 0, output = 0;
  constexpr int kRequests = 40'000;
  for (int i = 0; i < kRequests; ++i) {
    const PlannedRequest request = workload.Next();
    prompt += static_cast<double>(request.prompt_tokens);
    output += static_cast<double>(request.output_tokens);
  }
  EXPECT_NEAR(prompt / kRequests, 202, 202 * 0.045);
  EXPECT_NEAR(output / kRequests, 179, 179 * 0.03);
  EXPECT_EQ(workload.cut(), 0);
}

TEST(WorkloadTest, WhatIsLongerThanTheContextIsCutAndCounted) {
  WorkloadOptions options = Options();
  options.prompt_tokens = 1000;
  options.output_tokens = 400;
  options.max_context = 512;
  Workload workload(options);
  const PlannedRequest request = workload.Next();
  EXPECT_EQ(request.output_tokens, 256);
  EXPECT_EQ(request.prompt_tokens, 256);
  EXPECT_EQ(workload.cut(), 1);
}

TEST(WorkloadTest, MixesKeepTheirWeightsAndChangeNoLength) {
  WorkloadOptions options = Options();
  Workload plain(options);
  options.tenants = {{"victim", 1}, {"flood", 3}};
  options.variants = {{"fp16", 1}, {"nf4", 1}};
  Workload mixed(options);
  int flood = 0, nf4 = 0;
  constexpr int kRequests = 10'000;
  for (int i = 0; i < kRequests; ++i) {
    const PlannedRequest request = mixed.Next();
    EXPECT_EQ(request.prompt_tokens, plain.Next().prompt_tokens);
    flood += request.tenant;
    nf4 += request.variant;
  }
  // Binomial, standard errors of 43 and 50; 5 of them.
  EXPECT_NEAR(flood, 7'500, 5 * 43);
  EXPECT_NEAR(nf4, 5'000, 5 * 50);
}

TEST(WorkloadTest, PromptsBeginAlikeOnlyWhereTheyAreTo) {
  WorkloadOptions options = Options();
  options.prompt_tokens = 50;
  options.output_tokens = 1;
  options.shared_prefix_tokens = 20;
  options.tenants = {{"a", 1}, {"b", 1}};
  Workload workload(options);
  PlannedRequest first = workload.Next(), second = workload.Next();
  first.tenant = second.tenant = 0;
  EXPECT_EQ(CommonPrefix(workload.PromptOf(first), workload.PromptOf(second)), 20u);
  EXPECT_EQ(workload.PromptOf(first), workload.PromptOf(first));
  second.tenant = 1;
  EXPECT_EQ(CommonPrefix(workload.PromptOf(first), workload.PromptOf(second)), 0u);
  for (const uint32_t id : workload.PromptOf(first)) EXPECT_LT(id, 32'000u);
}

TEST(WorkloadTest, EqualBlocksOfATraceAreEqualTokens) {
  auto trace = std::make_shared<Trace>();
  trace->rows = {{0, 1024, 1, {5, 6}}, {0, 1024, 1, {5, 9}}};
  WorkloadOptions options = Options();
  options.lengths = trace;
  options.length_scale = 0.125;  // a block is 64 tokens then
  Workload workload(options);
  const auto first = workload.PromptOf(workload.Next()),
             second = workload.PromptOf(workload.Next());
  EXPECT_EQ(first.size(), 128u);
  EXPECT_EQ(CommonPrefix(first, second), 64u);
  EXPECT_EQ(workload.Next().number, 2u);
  EXPECT_EQ(workload.PromptOf(workload.Next()).size(), 128u) << "rows come round again";
}

TEST(WorkloadTest, CancelsAreAShareOfTheRequests) {
  WorkloadOptions options = Options();
  options.cancelled_share = 0.25;
  Workload workload(options);
  int cancelled = 0;
  for (int i = 0; i < 4'000; ++i) {
    const PlannedRequest request = workload.Next();
    EXPECT_LT(request.cancel_after_tokens, request.output_tokens);
    cancelled += request.cancel_after_tokens >= 0;
  }
  EXPECT_NEAR(cancelled, 1'000, 5 * 27);
}

TEST(WorkloadTest, SharesAreReadOrRefused) {
  const auto shares = ParseShares("fp16=1,nf4=2.5,int8");
  ASSERT_TRUE(shares.ok()) << shares.status();
  EXPECT_EQ((*shares)[1].name, "nf4");
  EXPECT_EQ((*shares)[1].weight, 2.5);
  EXPECT_EQ((*shares)[2].weight, 1);
  for (const char* bad :
       {"", "a,,b", "=1", "a=", "a=0", "a=-1", "a=nan", "a=inf", "a=1e9", "a,a"}) {
    EXPECT_FALSE(ParseShares(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace vernier::loadtest
