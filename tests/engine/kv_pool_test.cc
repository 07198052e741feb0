#include "engine/kv_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

namespace vernier {
namespace {

TEST(KvPoolTest, HandsOutEachBlockOnce) {
  KvPool pool(5);
  EXPECT_EQ(pool.total(), 5);
  EXPECT_EQ(pool.free(), 5);
  std::vector<int32_t> a, b;
  ASSERT_TRUE(pool.Allocate(3, &a));
  ASSERT_TRUE(pool.Allocate(2, &b));
  EXPECT_EQ(pool.free(), 0);
  std::set<int32_t> seen(a.begin(), a.end());
  seen.insert(b.begin(), b.end());
  EXPECT_EQ(seen, (std::set<int32_t>{0, 1, 2, 3, 4}));
  for (const int32_t block : seen) EXPECT_EQ(pool.owners(block), 1) << block;
}

TEST(KvPoolTest, TakesNothingWhenTooFewAreFree) {
  KvPool pool(2);
  std::vector<int32_t> table;
  EXPECT_FALSE(pool.Allocate(3, &table));
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(pool.free(), 2);
  EXPECT_TRUE(pool.Allocate(0, &table));
  EXPECT_TRUE(table.empty());
}

TEST(KvPoolTest, AppendsToATableAndReleasesAllOfIt) {
  KvPool pool(4);
  std::vector<int32_t> table;
  ASSERT_TRUE(pool.Allocate(1, &table));
  ASSERT_TRUE(pool.Allocate(2, &table));
  const std::vector<int32_t> held = table;
  pool.Release(&table);
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(pool.free(), 4);
  for (const int32_t block : held) EXPECT_EQ(pool.owners(block), 0) << block;
  pool.Release(&table);  // an empty table gives nothing back
  EXPECT_EQ(pool.free(), 4);
}

TEST(KvPoolTest, HandsOutTheSameOrderAfterARelease) {
  KvPool pool(8);
  std::vector<int32_t> first, second;
  ASSERT_TRUE(pool.Allocate(5, &first));
  const std::vector<int32_t> order = first;
  pool.Release(&first);
  ASSERT_TRUE(pool.Allocate(5, &second));
  EXPECT_EQ(second, order);
}

TEST(KvPoolTest, AnEmptyPoolHasNothing) {
  KvPool pool(0);
  std::vector<int32_t> table;
  EXPECT_FALSE(pool.Allocate(1, &table));
  EXPECT_EQ(pool.total(), 0);
}

}  // namespace
}  // namespace vernier
