#include "server/experiments/answer_checks.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/server/experiments/records.h"

namespace vernier {
namespace {

using testing::Done;

TEST(LoopRateTest, IsTheShareOfFourGramsThatCameBefore) {
  EXPECT_EQ(LoopRate({}), 0);
  EXPECT_EQ(LoopRate(std::vector<int32_t>{1, 1, 1}), 0);
  EXPECT_EQ(LoopRate(std::vector<int32_t>(10, 5)), 6.0 / 7);
  // abcabcabc: abca bcab cabc, and again.
  EXPECT_EQ(LoopRate(std::vector<int32_t>{1, 2, 3, 1, 2, 3, 1, 2, 3}), 0.5);
  std::vector<int32_t> distinct(1000);
  std::iota(distinct.begin(), distinct.end(), -500);
  EXPECT_EQ(LoopRate(distinct), 0);
  // An answer whose second half repeats a sentence of 20 tokens.
  std::vector<int32_t> half(400);
  for (int i = 0; i < 400; ++i) half[i] = i < 200 ? i : 1000 + i % 20;
  EXPECT_NEAR(LoopRate(half), 0.45, 0.01);
}

TEST(EndOfTest, BlamesNeitherClientsNorLoadOnTheVariant) {
  ExposureRecord record = Done(1, 1, 1);
  EXPECT_EQ(EndOf(record), RequestEnd::kAnswered);
  for (const uint8_t status : {2, 13, 15}) {
    record.grpc_status = status;
    EXPECT_EQ(EndOf(record), RequestEnd::kFailed) << int{status};
  }
  for (const uint8_t status : {1, 3, 4, 5, 8, 9, 14, 16}) {
    record.grpc_status = status;
    EXPECT_EQ(EndOf(record), RequestEnd::kSaysNothing) << int{status};
  }
  record.grpc_status = 0;
  for (const uint8_t finish : {0, 4, 5, 6, 7, 8, 10}) {
    record.finish = finish;
    EXPECT_EQ(EndOf(record), RequestEnd::kSaysNothing) << int{finish};
  }
  record.finish = 1;
  EXPECT_EQ(EndOf(record), RequestEnd::kAnswered);
  for (const ServedReason reason : {ServedReason::kFallbackMemory, ServedReason::kFallbackError}) {
    record.reason = reason;
    EXPECT_EQ(EndOf(record), RequestEnd::kFailed);
  }
}

TEST(IsBrokenTest, TakesEmptyAndLoopingAnswersAndNoShortRefrain) {
  EXPECT_FALSE(IsBroken(Done(1, 1, 1)));
  EXPECT_TRUE(IsBroken(Done(1, 1, 1, 0)));
  ExposureRecord loop = Done(1, 1, 1, kLeastLoopTokens);
  loop.loop_rate = 0.75f;
  EXPECT_TRUE(IsBroken(loop));
  loop.output_tokens = kLeastLoopTokens - 1;
  EXPECT_FALSE(IsBroken(loop));
  loop.output_tokens = 500;
  loop.loop_rate = 0.74f;
  EXPECT_FALSE(IsBroken(loop));
  ExposureRecord cancelled = Done(1, 1, 1, 0);
  cancelled.grpc_status = testing::kCancelled;
  EXPECT_FALSE(IsBroken(cancelled));
}

}  // namespace
}  // namespace vernier
