// What tenants, variants and clients get of the real scheduler and admission under load: F64, F66
// and F29 of the fault cases in their short form. Times are of the virtual clock.
#include "tests/simulation/load.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

namespace vernier::simulation {
namespace {

double Seconds(absl::Duration duration) { return absl::ToDoubleSeconds(duration); }

// 10 ms for the weights and 0.2 ms a row: 5000 prompt tokens a second at most.
LoadOptions Options() {
  LoadOptions options;
  options.limits = {.kv_blocks = 2000,
                    .max_context = 2048,
                    .step_tokens = 256,
                    .max_sequences = 32,
                    .inter_token_goal = absl::Milliseconds(100)};
  options.admission = {.max_requests = 256, .served_at_once = 32};
  return options;
}

TEST(LoadTest, OneThatFloodsDoesNotKeepAnotherWaiting) {
  LoadOptions options = Options();
  options.duration = absl::Seconds(300);
  // Quotas: else the queue is full of the flood, and the other is refused.
  options.admission.tenant = {.max_requests = 200};
  options.sources = {{.tenant = "victim", .requests_per_second = 1, .prompt_tokens = 600}};
  const LoadResult alone = RunLoad(options);
  options.sources.push_back({.tenant = "flood", .requests_per_second = 50, .prompt_tokens = 600});
  const LoadResult beside = RunLoad(options);
  const LoadOutcome& victim = beside.outcomes[0];
  EXPECT_EQ(victim.completed, alone.outcomes[0].completed);
  EXPECT_EQ(victim.refused, 0);
  EXPECT_GT(beside.outcomes[1].refused, beside.outcomes[1].completed) << "it is a flood";
  const double p99_alone = Seconds(Percentile(alone.outcomes[0].first_token, 0.99));
  const double p99_beside = Seconds(Percentile(victim.first_token, 0.99));
  std::cout << "p99 to the first token: alone " << p99_alone << " s, beside the flood "
            << p99_beside << " s, of the flood "
            << Seconds(Percentile(beside.outcomes[1].first_token, 0.99)) << " s\n";
  EXPECT_LE(p99_beside, 1.5 * p99_alone);
}

TEST(LoadTest, TenantsThatAlwaysWantMoreGetEqualShares) {
  LoadOptions options = Options();
  options.admission.tenant = {.max_requests = 60};
  // The same load in other shapes: 250 tokens each.
  options.sources = {
      {.tenant = "a", .requests_per_second = 100, .prompt_tokens = 50, .output_tokens = 50},
      {.tenant = "b", .requests_per_second = 10, .prompt_tokens = 400, .output_tokens = 100},
      {.tenant = "c", .requests_per_second = 20, .prompt_tokens = 200, .output_tokens = 20},
      {.tenant = "d", .requests_per_second = 40, .prompt_tokens = 100, .output_tokens = 100}};
  const LoadResult result = RunLoad(options);
  std::vector<double> served;
  for (const LoadOutcome& outcome : result.outcomes) {
    EXPECT_GT(outcome.refused, 0) << "it wants more";
    served.push_back(static_cast<double>(outcome.tokens));
  }
  EXPECT_GE(loadtest::JainIndex(served), 0.95)
      << served[0] << " " << served[1] << " " << served[2] << " " << served[3];
}

TEST(LoadTest, VariantsShareTheDeviceByTheirWeights) {
  LoadOptions options = Options();
  options.limits.weights = {1, 2, 1};
  options.admission.variant = {.max_requests = 80};
  options.limits.guaranteed_blocks = {300, 300, 300};
  options.limits.max_sequences = 200;
  for (int variant = 0; variant < 3; ++variant) {
    options.sources.push_back({.variant = variant, .requests_per_second = 30});
  }
  const LoadResult result = RunLoad(options);
  const double all = Seconds(result.busy[0] + result.busy[1] + result.busy[2]);
  EXPECT_NEAR(Seconds(result.busy[1]) / all, 0.5, 0.05);
  EXPECT_NEAR(Seconds(result.busy[0]) / all, 0.25, 0.03);
}

TEST(LoadTest, StepsKeepTheInterTokenGoal) {
  LoadOptions options = Options();
  options.limits.inter_token_goal = absl::Milliseconds(30);
  options.sources = {{.requests_per_second = 1.5, .prompt_tokens = 1200, .output_tokens = 40}};
  const LoadResult result = RunLoad(options);
  EXPECT_GT(result.outcomes[0].completed, 50);
  EXPECT_LE(result.longest_decode, absl::Milliseconds(33));
  EXPECT_GE(result.longest_decode, absl::Milliseconds(27)) << "and are as long as it allows";
}

// F64: what is accepted is served in time, and more load costs nothing of what is served.
TEST(LoadTest, GoodputHoldsUnderTenfoldLoad) {
  const auto goodput = [](double load) {
    LoadOptions options = Options();
    options.admission.max_requests = 96;
    options.duration = absl::Seconds(120);
    options.sources = {{.requests_per_second = 14.0 * load}};  // about what is served at most
    const LoadResult result = RunLoad(options);
    const LoadOutcome& outcome = result.outcomes[0];
    EXPECT_EQ(outcome.sent, outcome.refused + outcome.completed);
    for (const absl::Duration retry : outcome.retry_after) {
      EXPECT_GE(retry, absl::Milliseconds(50));
      EXPECT_LE(retry, absl::Seconds(10));
    }
    int64_t good = 0;
    for (const absl::Duration first : outcome.first_token) good += first <= absl::Seconds(8);
    EXPECT_LE(Percentile(outcome.first_token, 0.99), absl::Seconds(8)) << "load " << load;
    return static_cast<double>(good);
  };
  double peak = 0;
  for (const double load : {0.8, 1.0, 1.2}) peak = std::max(peak, goodput(load));
  EXPECT_GE(goodput(2), 0.95 * peak);
  EXPECT_GE(goodput(5), 0.92 * peak);
  EXPECT_GE(goodput(10), 0.90 * peak);
}

// F29: RunLoad checks that everything was given back.
TEST(LoadTest, TenThousandCancelsLeaveNothingBehind) {
  LoadOptions options = Options();
  options.duration = absl::Seconds(400);
  options.limits.max_sequences = 64;
  options.limits.kv_blocks = 150;  // so that some are cancelled while they wait, some preempted
  options.sources = {{.requests_per_second = 25, .cancelled = 100},
                     {.requests_per_second = 8, .prompt_tokens = 200, .output_tokens = 100}};
  const LoadResult result = RunLoad(options);
  EXPECT_GT(result.outcomes[0].ended, 8'000);
  EXPECT_GT(result.outcomes[0].sent, 9'500);
  EXPECT_GT(result.outcomes[1].completed, 100);
}

// The same requests to four replicas; each holds the first texts of a quarter of them, or of all.
TEST(LoadTest, RoutingByPrefixComputesLess) {
  LoadOptions options = Options();
  options.replicas = 4;
  options.limits.kv_blocks = 400;
  // 40 texts of 30 blocks: all of them do not fit one replica, a quarter does.
  options.sources = {{.requests_per_second = 20,
                      .prompt_tokens = 50,
                      .output_tokens = 20,
                      .prefix_tokens = 960,
                      .prefixes = 40}};
  const LoadResult spread = RunLoad(options);
  options.routing = Routing::kPrefix;
  const LoadResult together = RunLoad(options);
  EXPECT_EQ(spread.outcomes[0].completed, together.outcomes[0].completed);
  EXPECT_GT(together.outcomes[0].cached_tokens, 1.5 * spread.outcomes[0].cached_tokens);
  const auto median = [&](const LoadResult& result) {
    return ReportOf(options, result, absl::Seconds(5), {}).all.first_token.p50;
  };
  EXPECT_LT(median(together), median(spread));
}

TEST(LoadTest, MoreReplicasServeMore) {
  LoadOptions options = Options();
  options.sources = {{.requests_per_second = 40}};
  double one = 0;
  for (const Routing routing : {Routing::kRoundRobin, Routing::kLeastRequests}) {
    options.routing = routing;
    options.replicas = 1;
    one = ReportOf(options, RunLoad(options), absl::Seconds(10), {}).all.Goodput();
    options.replicas = 4;
    const auto four = ReportOf(options, RunLoad(options), absl::Seconds(10), {});
    EXPECT_GT(four.all.Goodput(), 2 * one);
    EXPECT_EQ(four.all.refused, 0);
  }
}

TEST(LoadTest, TheReportCountsWhatTheSourcesCount) {
  LoadOptions options = Options();
  options.sources = {{.tenant = "a", .requests_per_second = 30, .cancelled = 20},
                     {.tenant = "b", .requests_per_second = 5}};
  const LoadResult result = RunLoad(options);
  const loadtest::RunReport run = ReportOf(options, result, absl::ZeroDuration(), {});
  ASSERT_EQ(run.tenants.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(run.tenants[i].summary.sent, result.outcomes[i].sent);
    EXPECT_EQ(run.tenants[i].summary.completed, result.outcomes[i].completed);
    EXPECT_EQ(run.tenants[i].summary.refused, result.outcomes[i].refused);
    EXPECT_EQ(run.tenants[i].summary.cancelled, result.outcomes[i].ended);
  }
  EXPECT_GT(run.all.inter_token.count, 0);
}

TEST(LoadTest, TheSameSeedGivesTheSameRun) {
  LoadOptions options = Options();
  options.sources = {{.tenant = "a", .requests_per_second = 20}, {.requests_per_second = 9}};
  const LoadResult first = RunLoad(options);
  const LoadResult second = RunLoad(options);
  EXPECT_EQ(first.outcomes[0].first_token, second.outcomes[0].first_token);
  options.seed = 2;
  EXPECT_NE(first.outcomes[0].first_token, RunLoad(options).outcomes[0].first_token);
}

}  // namespace
}  // namespace vernier::simulation
