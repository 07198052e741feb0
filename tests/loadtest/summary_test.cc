#include "loadtest/report/summary.h"

#include <gtest/gtest.h>

namespace vernier::loadtest {
namespace {

Outcome Completed(double scheduled, double first, double last, int64_t tokens) {
  Outcome outcome;
  outcome.scheduled = scheduled;
  outcome.sent = scheduled + 0.5;
  outcome.first = first;
  outcome.last = last;
  outcome.ended = last;
  outcome.ending = Ending::kCompleted;
  outcome.prompt_tokens = 10;
  outcome.output_tokens = tokens;
  return outcome;
}

// numpy.percentile([1, 2, 3, 4, 10], [0, 50, 90, 99, 100]) is [1, 3, 7.6, 9.76, 10].
TEST(SummaryTest, QuantilesAreThoseOfNumpy) {
  const std::vector<double> values = {1, 2, 3, 4, 10};
  EXPECT_EQ(Quantile(values, 0), 1);
  EXPECT_EQ(Quantile(values, 0.5), 3);
  EXPECT_NEAR(Quantile(values, 0.9), 7.6, 1e-12);
  EXPECT_NEAR(Quantile(values, 0.99), 9.76, 1e-12);
  EXPECT_EQ(Quantile(values, 1), 10);
  EXPECT_EQ(Quantile(std::vector<double>{5}, 0.99), 5);
  EXPECT_EQ(Quantile({}, 0.5), 0);
}

TEST(SummaryTest, PercentilesSortWhatTheyGet) {
  const Percentiles p = PercentilesOf({10, 1, 4, 2, 3});
  EXPECT_EQ(p.count, 5);
  EXPECT_EQ(p.mean, 4);
  EXPECT_EQ(p.p50, 3);
  EXPECT_EQ(p.max, 10);
}

TEST(SummaryTest, LatencyCountsFromTheScheduledTime) {
  const std::vector<Outcome> outcomes = {Completed(1, 3, 5, 5)};
  const Summary summary = Summarize(outcomes, {0, 10}, {.first_token_seconds = 2});
  EXPECT_EQ(summary.first_token.p50, 2);
  EXPECT_EQ(summary.per_token.p50, 0.5);
  EXPECT_EQ(summary.end_to_end.p50, 4);
  EXPECT_EQ(summary.send_delay.p50, 0.5);
}

TEST(SummaryTest, AGoodRequestHoldsBothGoals) {
  const Slo slo{.first_token_seconds = 2, .per_token_seconds = 0.5};
  EXPECT_TRUE(IsGood(Completed(0, 2, 4, 5), slo));
  EXPECT_FALSE(IsGood(Completed(0, 2.01, 4, 5), slo));
  EXPECT_FALSE(IsGood(Completed(0, 2, 4.1, 5), slo));
  EXPECT_TRUE(IsGood(Completed(0, 2, 2, 1), slo)) << "one token has no gap";
  Outcome failed = Completed(0, 1, 2, 5);
  failed.ending = Ending::kFailed;
  EXPECT_FALSE(IsGood(failed, slo));
}

TEST(SummaryTest, WhatIsOutsideOfTheWindowDoesNotCount) {
  std::vector<Outcome> outcomes;
  for (int i = 0; i < 10; ++i) outcomes.push_back(Completed(i, i + 1, i + 2, 3));
  const Summary summary = Summarize(outcomes, {2, 7}, {});
  EXPECT_EQ(summary.sent, 5);
  EXPECT_EQ(summary.OfferedRate(), 1);
  EXPECT_EQ(summary.output_tokens, 15);
}

// 0 to 10, a token a second: of each so much as came within the window.
TEST(SummaryTest, TokensCountWhereTheyCame) {
  const Window window{2, 7};
  const auto streamed = [&](const Outcome& outcome) {
    return Summarize(std::vector{outcome}, window, {}).streamed_tokens;
  };
  EXPECT_EQ(streamed(Completed(0, 0, 10, 11)), 5) << "sent before, ended behind";
  EXPECT_EQ(streamed(Completed(0, 3, 6, 4)), 4);
  EXPECT_EQ(streamed(Completed(3, 5, 10, 6)), 3) << "the first, and two seconds of the rest";
  EXPECT_EQ(streamed(Completed(0, 0, 2, 3)), 0);
  EXPECT_EQ(streamed(Completed(0, 3, 3, 2)), 2) << "all in one message";
  EXPECT_EQ(streamed(Completed(3, 8, 8, 2)), 0);
  Outcome cancelled = Completed(0, 3, 6, 4);
  cancelled.ending = Ending::kCancelled;
  EXPECT_EQ(streamed(cancelled), 4);
  EXPECT_EQ(streamed(Outcome()), 0);
  const std::vector<Outcome> wave(8, Completed(0, 1, 11, 11));  // of a closed loop
  EXPECT_EQ(Summarize(wave, window, {}).OutputRate(), 8);
}

TEST(SummaryTest, EveryEndingHasItsCounter) {
  std::vector<Outcome> outcomes;
  for (const Ending ending : {Ending::kRefused, Ending::kDeadline, Ending::kCancelled,
                              Ending::kFailed, Ending::kUnfinished}) {
    Outcome& outcome = outcomes.emplace_back();
    outcome.ending = ending;
    outcome.ended = 0.25;
  }
  const Summary summary = Summarize(outcomes, {0, 1}, {});
  EXPECT_EQ(summary.refused, 1);
  EXPECT_EQ(summary.deadline, 1);
  EXPECT_EQ(summary.cancelled, 1);
  EXPECT_EQ(summary.failed, 1);
  EXPECT_EQ(summary.unfinished, 1);
  EXPECT_EQ(summary.completed, 0);
  EXPECT_EQ(summary.Attained(), 0);
  EXPECT_EQ(summary.refusal.count, 1);
  EXPECT_EQ(summary.refusal.p99, 0.25);
  EXPECT_EQ(summary.first_token.count, 0) << "none came";
}

TEST(SummaryTest, NothingIsAllZero) {
  const Summary summary = Summarize({}, {0, 0}, {});
  for (const SummaryField& field : SummaryFields()) EXPECT_EQ(field.get(summary), 0) << field.name;
}

TEST(SummaryTest, JainIndexIsOneOfEqualsAndOneNthOfAMonopoly) {
  EXPECT_EQ(JainIndex(std::vector<double>{3, 3, 3}), 1);
  EXPECT_NEAR(JainIndex(std::vector<double>{9, 0, 0}), 1.0 / 3, 1e-12);
  EXPECT_EQ(JainIndex({}), 1);
}

}  // namespace
}  // namespace vernier::loadtest
