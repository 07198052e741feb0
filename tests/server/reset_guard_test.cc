#include "server/reset_guard.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace vernier {
namespace {

class ResetGuardTest : public ::testing::Test {
 protected:
  ResetGuardTest() {
    guard_.SetCut([this](const std::string& peer) { cut_.push_back(peer); });
  }
  void Call(const std::string& peer, bool cancelled, absl::Duration now) {
    guard_.Begin(peer);
    guard_.End(peer, cancelled, now);
  }

  ResetGuard guard_{3};
  std::vector<std::string> cut_;
};

TEST_F(ResetGuardTest, OneCallTooManyThatHasNotEndedIsCut) {
  for (int i = 0; i < 3; ++i) guard_.Begin("a");
  guard_.Begin("b");
  EXPECT_TRUE(cut_.empty());
  guard_.Begin("a");
  guard_.Begin("a");
  EXPECT_EQ(cut_, std::vector<std::string>{"a"});
}

TEST_F(ResetGuardTest, OneTooManyThatIsCancelledWithinASecondIsCut) {
  for (int i = 0; i < 3; ++i) Call("a", true, absl::Seconds(7));
  Call("b", true, absl::Seconds(7));
  EXPECT_TRUE(cut_.empty());
  Call("a", true, absl::Seconds(7.9));
  EXPECT_EQ(cut_, std::vector<std::string>{"a"});
}

TEST_F(ResetGuardTest, CallsThatEndOrAreCancelledNowAndThenAreNot) {
  for (int i = 0; i < 100; ++i) {
    Call("a", false, absl::Seconds(i));
    Call("a", false, absl::Seconds(i));
    Call("a", true, absl::Seconds(i));
    Call("a", true, absl::Seconds(i));
  }
  EXPECT_TRUE(cut_.empty());
}

TEST_F(ResetGuardTest, WithoutALimitNothingIsCut) {
  ResetGuard without(0);
  without.SetCut([this](const std::string& peer) { cut_.push_back(peer); });
  for (int i = 0; i < 100; ++i) {
    without.Begin("a");
    without.End("a", true, absl::ZeroDuration());
  }
  EXPECT_TRUE(cut_.empty());
}

}  // namespace
}  // namespace vernier
