#include "kernels/base/thread_role.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "tests/testing/thread_policies.h"

namespace vernier {
namespace {

int PolicyOfAThread(ThreadRole role) {
  int policy = -1;
  std::thread([&] {
    SetThreadRole(role, nullptr);
    policy = sched_getscheduler(0);
  }).join();
  return policy;
}

TEST(ThreadRoleTest, WhoServesInterruptsNobodyAndWhoComputesIsAsItWas) {
  if (!testing::ThreadsMayChoosePolicies()) GTEST_SKIP() << "threads cannot choose policies here";
  EXPECT_EQ(PolicyOfAThread(ThreadRole::kServes), SCHED_BATCH);
  EXPECT_EQ(PolicyOfAThread(ThreadRole::kComputes), SCHED_OTHER);
}

TEST(ThreadRoleTest, ThreadsStartedByOneThatServesServeUntilTheyCompute) {
  if (!testing::ThreadsMayChoosePolicies()) GTEST_SKIP() << "threads cannot choose policies here";
  std::thread([] {
    SetThreadRole(ThreadRole::kServes, nullptr);
    std::thread([] { EXPECT_EQ(sched_getscheduler(0), SCHED_BATCH); }).join();
    EXPECT_EQ(PolicyOfAThread(ThreadRole::kComputes), SCHED_OTHER);
  }).join();
}

TEST(ThreadRoleTest, WhatWasGivenFromOutsideStays) {
  if (!testing::ThreadsMayChoosePolicies()) GTEST_SKIP() << "threads cannot choose policies here";
  std::thread([] {
    const sched_param priority = {};
    ASSERT_EQ(sched_setscheduler(0, SCHED_IDLE, &priority), 0);
    SetThreadRole(ThreadRole::kServes, nullptr);
    EXPECT_EQ(sched_getscheduler(0), SCHED_IDLE);
    SetThreadRole(ThreadRole::kComputes, nullptr);
    EXPECT_EQ(sched_getscheduler(0), SCHED_IDLE);
  }).join();
}

TEST(ThreadRoleTest, NamesAThread) {
  std::thread([] {
    SetThreadRole(ThreadRole::kComputes, "vernier-engine");
    char name[16] = {};
    ASSERT_EQ(pthread_getname_np(pthread_self(), name, sizeof(name)), 0);
    EXPECT_EQ(std::string(name), "vernier-engine");
  }).join();
}

}  // namespace
}  // namespace vernier
