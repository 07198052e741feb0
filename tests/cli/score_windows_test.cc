#include "cli/score_windows.h"

#include <gtest/gtest.h>

#include <cmath>

namespace vernier::cli {
namespace {

// Each position's log-probability is -position / 10, whatever the window.
v1::ScoreResponse ReplyFor(const ScoreWindow& window) {
  v1::ScoreResponse reply;
  for (uint32_t i = 1; i < window.count; ++i) {
    reply.add_positions(i);
    reply.add_tokens()->mutable_chosen()->set_logprob(-static_cast<float>(window.first + i) / 10);
  }
  return reply;
}

TEST(ScoreWindowsTest, EveryTokenButTheFirstIsScoredOnce) {
  for (uint32_t tokens = 0; tokens < 40; ++tokens) {
    for (uint32_t window = 2; window < 12; ++window) {
      for (uint32_t stride = 1; stride < window; ++stride) {
        v1::ScoreResponse sum;
        for (const ScoreWindow& part : PlanWindows(tokens, window, stride)) {
          ASSERT_LE(part.count, window);
          ASSERT_LE(part.first + part.count, tokens);
          AddWindow(part, ReplyFor(part), &sum);
        }
        ASSERT_EQ(sum.positions_size(), tokens == 0 ? 0 : static_cast<int>(tokens) - 1)
            << tokens << " " << window << " " << stride;
        double expected = 0;
        for (int i = 0; i < sum.positions_size(); ++i) {
          ASSERT_EQ(sum.positions(i), static_cast<uint32_t>(i + 1));
          expected -= (i + 1) / 10.0;
        }
        ASSERT_NEAR(sum.sum_logprob(), expected, 1e-5 * tokens);
      }
    }
  }
}

TEST(ScoreWindowsTest, LaterWindowsHaveTheContextThatTheStrideLeaves) {
  const auto windows = PlanWindows(100, 20, 5);
  for (size_t i = 1; i < windows.size(); ++i) {
    EXPECT_GE(windows[i].first_scored - windows[i].first, 15u);
  }
}

TEST(ScoreWindowsTest, NothingScoredHasNoPerplexity) {
  v1::ScoreResponse sum;
  for (const ScoreWindow& part : PlanWindows(1, 4, 2)) AddWindow(part, ReplyFor(part), &sum);
  EXPECT_EQ(sum.scored_tokens(), 0u);
  EXPECT_TRUE(std::isnan(sum.perplexity()));
}

TEST(ScoreWindowsTest, TheLargestCountsDoNotOverflow) {
  const auto windows = PlanWindows(~uint32_t{0}, ~uint32_t{0} - 1, ~uint32_t{0} - 2);
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[1].first + windows[1].count, ~uint32_t{0});
}

}  // namespace
}  // namespace vernier::cli
