#include "engine/tenant_shares.h"

#include <gtest/gtest.h>

#include <string>

namespace vernier {
namespace {

TEST(TenantSharesTest, OneThatComesBackHasNoMoreThanTheCredit) {
  TenantShares shares;
  TenantShares::Tenant* busy = shares.Add("busy");
  TenantShares::Tenant* idle = shares.Add("idle");
  shares.Remove("idle");
  busy->served = 100'000;
  EXPECT_EQ(shares.Add("idle"), idle);
  EXPECT_EQ(idle->served, 100'000 - TenantShares::kCredit);
}

TEST(TenantSharesTest, OneThatGotMoreDoesNotLoseItsDebtByLeaving) {
  TenantShares shares;
  shares.Add("other")->served = 100;
  shares.Add("greedy")->served = 900;
  shares.Remove("greedy");
  EXPECT_EQ(shares.Add("greedy")->served, 900);
}

TEST(TenantSharesTest, ANewOneBeginsWhereTheLeastServedIs) {
  TenantShares shares;
  shares.Add("a")->served = 70'000;
  shares.Add("b")->served = 90'000;
  EXPECT_EQ(shares.Add("c")->served, 70'000 - TenantShares::kCredit);
}

TEST(TenantSharesTest, AfterAllHaveLeftANewOneHasNoAdvantage) {
  TenantShares shares;
  shares.Add("a")->served = 70'000;
  shares.Remove("a");
  EXPECT_EQ(shares.Add("b")->served, 70'000 - TenantShares::kCredit);
}

TEST(TenantSharesTest, NamesFromOutsideDoNotFillTheMemory) {
  TenantShares shares;
  TenantShares::Tenant* stays = shares.Add("stays");
  stays->served = 5;
  for (int i = 0; i < 100'000; ++i) {
    const std::string name = std::to_string(i);
    shares.Add(name);
    shares.Remove(name);
  }
  EXPECT_LE(shares.size(), 1100u);
  EXPECT_EQ(stays->served, 5);
}

}  // namespace
}  // namespace vernier
