#include "engine/kv_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace vernier {
namespace {

TEST(KvPoolTest, WhatIsFreedOrChangesHandsIsStaleOnce) {
  KvPool pool(2);
  std::vector<int32_t> table, stale;
  ASSERT_TRUE(pool.Allocate(0, 2, &table));
  pool.TakeStale(&stale);
  EXPECT_TRUE(stale.empty());
  const std::vector<int32_t> tokens(kBlockTokens, 7);
  const int32_t kept = table[0], freed = table[1];
  pool.Insert(PrefixRoot(0, "", ""), PrefixIndex::Tokens(tokens), kept);
  pool.Release(&table);
  pool.TakeStale(&stale);
  EXPECT_EQ(stale, std::vector<int32_t>{freed}) << "the other may be found";
  ASSERT_TRUE(pool.Allocate(0, 2, &table));
  pool.TakeStale(&stale);
  EXPECT_EQ(stale, std::vector<int32_t>{kept}) << "it was found no more when it was given out";
}

TEST(KvPoolTest, HandsOutEachBlockOnce) {
  KvPool pool(5);
  EXPECT_EQ(pool.total(), 5);
  EXPECT_EQ(pool.free(), 5);
  std::vector<int32_t> a, b;
  ASSERT_TRUE(pool.Allocate(0, 3, &a));
  ASSERT_TRUE(pool.Allocate(0, 2, &b));
  EXPECT_EQ(pool.free(), 0);
  std::set<int32_t> seen(a.begin(), a.end());
  seen.insert(b.begin(), b.end());
  EXPECT_EQ(seen, (std::set<int32_t>{0, 1, 2, 3, 4}));
  for (const int32_t block : seen) EXPECT_EQ(pool.owners(block), 1) << block;
}

TEST(KvPoolTest, TakesNothingWhenTooFewAreFree) {
  KvPool pool(2);
  std::vector<int32_t> table;
  EXPECT_FALSE(pool.Allocate(0, 3, &table));
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(pool.free(), 2);
  EXPECT_TRUE(pool.Allocate(0, 0, &table));
  EXPECT_TRUE(table.empty());
}

TEST(KvPoolTest, AppendsToATableAndReleasesAllOfIt) {
  KvPool pool(4);
  std::vector<int32_t> table;
  ASSERT_TRUE(pool.Allocate(0, 1, &table));
  ASSERT_TRUE(pool.Allocate(0, 2, &table));
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
  ASSERT_TRUE(pool.Allocate(0, 5, &first));
  const std::vector<int32_t> order = first;
  pool.Release(&first);
  ASSERT_TRUE(pool.Allocate(0, 5, &second));
  EXPECT_EQ(second, order);
}

// `blocks` blocks of tokens, each text its own.
std::vector<int32_t> Text(int text, int blocks) {
  std::vector<int32_t> tokens(static_cast<size_t>(blocks * kBlockTokens));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = text * 1000 + static_cast<int32_t>(i);
  return tokens;
}

// Computes `tokens` behind `root` as a sequence would, and keeps its blocks.
std::vector<int32_t> Fill(KvPool* pool, const PrefixId& root, const std::vector<int32_t>& tokens,
                          int variant = 0) {
  std::vector<int32_t> table;
  const size_t blocks = tokens.size() / kBlockTokens;
  EXPECT_TRUE(pool->Allocate(variant, static_cast<int64_t>(blocks), &table));
  PrefixId parent = root;
  for (size_t i = 0; i < blocks; ++i) {
    parent = pool->Insert(parent, std::span(tokens).subspan(i * kBlockTokens).first<kBlockTokens>(),
                          table[i]);
  }
  return table;
}

std::vector<int32_t> Found(const KvPool& pool, const PrefixId& root,
                           const std::vector<int32_t>& tokens) {
  std::vector<int32_t> found;
  pool.Find(root, tokens, &found);
  return found;
}

TEST(KvPoolTest, WhatWasReleasedIsFoundUntilItIsHandedOutAgain) {
  KvPool pool(4);
  const PrefixId root = PrefixRoot(0, "", "");
  std::vector<int32_t> table = Fill(&pool, root, Text(1, 3));
  const std::vector<int32_t> held = table;
  EXPECT_EQ(Found(pool, root, Text(1, 3)), held) << "also while its owner lives";
  pool.Release(&table);
  EXPECT_EQ(pool.free(), 4);
  EXPECT_EQ(pool.cached(), 3);
  EXPECT_EQ(Found(pool, root, Text(1, 3)), held);
  std::vector<int32_t> other;
  ASSERT_TRUE(pool.Allocate(0, 1, &other));  // the one that holds nothing goes first
  EXPECT_EQ(Found(pool, root, Text(1, 3)), held);
  ASSERT_TRUE(pool.Allocate(0, 1, &other));  // then a text's end before its beginning
  EXPECT_EQ(Found(pool, root, Text(1, 3)), std::vector<int32_t>(held.begin(), held.begin() + 2));
  ASSERT_TRUE(pool.Allocate(0, 2, &other));
  EXPECT_TRUE(Found(pool, root, Text(1, 3)).empty());
  EXPECT_EQ(pool.cached(), 0);
  EXPECT_FALSE(pool.Allocate(0, 1, &other));
}

TEST(KvPoolTest, TheLeastRecentlyUsedIsHandedOutFirst) {
  KvPool pool(3);
  const PrefixId root = PrefixRoot(0, "", "");
  for (const int text : {1, 2, 3}) {
    std::vector<int32_t> table = Fill(&pool, root, Text(text, 1));
    pool.Release(&table);
  }
  std::vector<int32_t> again, other;
  pool.Share(Found(pool, root, Text(1, 1)), &again);
  pool.Release(&again);  // 1 is now the most recent
  ASSERT_TRUE(pool.Allocate(0, 2, &other));
  EXPECT_EQ(Found(pool, root, Text(1, 1)).size(), 1u);
  EXPECT_TRUE(Found(pool, root, Text(2, 1)).empty());
  EXPECT_TRUE(Found(pool, root, Text(3, 1)).empty());
}

TEST(KvPoolTest, ASharedBlockIsFreeWithItsLastOwner) {
  KvPool pool(2);
  const PrefixId root = PrefixRoot(0, "", "");
  std::vector<int32_t> first = Fill(&pool, root, Text(1, 1));
  std::vector<int32_t> second;
  pool.Share(Found(pool, root, Text(1, 1)), &second);
  EXPECT_EQ(pool.owners(second[0]), 2);
  EXPECT_EQ(pool.used(0), 1);
  pool.Release(&first);
  EXPECT_EQ(pool.free(), 1);
  pool.Release(&second);
  EXPECT_EQ(pool.free(), 2);
  EXPECT_EQ(pool.used(0), 0);
}

TEST(KvPoolTest, APrefixIsFoundByItsVariantTenantAndSaltAlone) {
  KvPool pool(8);
  const std::vector<int32_t> text = Text(1, 2);
  Fill(&pool, PrefixRoot(1, "ab", "c"), text);
  EXPECT_EQ(Found(pool, PrefixRoot(1, "ab", "c"), text).size(), 2u);
  EXPECT_TRUE(Found(pool, PrefixRoot(2, "ab", "c"), text).empty());
  EXPECT_TRUE(Found(pool, PrefixRoot(1, "a", "bc"), text).empty());
  EXPECT_TRUE(Found(pool, PrefixRoot(1, "ab", ""), text).empty());
  EXPECT_TRUE(Found(pool, PrefixRoot(1, "", "c"), text).empty());
}

TEST(KvPoolTest, WhatStandsBehindAnotherTextIsNotFound) {
  KvPool pool(8);
  const PrefixId root = PrefixRoot(0, "", "");
  std::vector<int32_t> text = Text(1, 2);
  Fill(&pool, root, text);
  text[0] = 7;  // the second block is the same
  EXPECT_TRUE(Found(pool, root, text).empty());
  text = Text(1, 2);
  text.back() = 7;
  EXPECT_EQ(Found(pool, root, text).size(), 1u);
  text = Text(1, 2);
  text.pop_back();  // not a whole block
  EXPECT_EQ(Found(pool, root, text).size(), 1u);
}

TEST(KvPoolTest, WhatIsComputedTwiceIsKeptOnce) {
  KvPool pool(8);
  const PrefixId root = PrefixRoot(0, "", "");
  const std::vector<int32_t> first = Fill(&pool, root, Text(1, 1));
  std::vector<int32_t> longer = Fill(&pool, root, Text(1, 2));
  EXPECT_FALSE(pool.Findable(longer[0]));
  EXPECT_EQ(Found(pool, root, Text(1, 2)), (std::vector<int32_t>{first[0], longer[1]}));
  pool.Release(&longer);
  EXPECT_EQ(pool.cached(), 1);
}

TEST(KvPoolTest, WhatAVariantIsGuaranteedNobodyElseGets) {
  KvPool pool(10, {4, 3});
  EXPECT_EQ(pool.Available(0), 7);
  EXPECT_EQ(pool.Available(1), 6);
  EXPECT_EQ(pool.Available(2), 3);
  std::vector<int32_t> table, other;
  ASSERT_TRUE(pool.Allocate(2, 3, &table));
  EXPECT_FALSE(pool.Allocate(2, 1, &table));
  ASSERT_TRUE(pool.Allocate(0, 4, &other));
  EXPECT_FALSE(pool.AboveGuarantee(0));
  EXPECT_TRUE(pool.AboveGuarantee(2));
  EXPECT_FALSE(pool.Allocate(0, 1, &other)) << "what is left is variant 1's";
  EXPECT_EQ(pool.Available(1), 3);
  pool.Release(&table);
  EXPECT_EQ(pool.Available(2), 3);
}

// Against a map, so that every order of insertions, removals and collisions of the table is met.
TEST(PrefixIndexTest, FindsWhatAMapFinds) {
  constexpr int kBlocks = 24;
  PrefixIndex index(kBlocks);
  std::map<std::pair<uint64_t, int32_t>, int32_t> expected;  // (parent, first token) -> block
  std::vector<std::pair<uint64_t, int32_t>> key_of(kBlocks);
  std::mt19937_64 random(20260101);
  const auto tokens_of = [](int32_t first) {
    std::array<int32_t, kBlockTokens> tokens{};
    tokens[0] = first;
    return tokens;
  };
  for (int i = 0; i < 50'000; ++i) {
    const auto block = static_cast<int32_t>(random() % kBlocks);
    const std::pair<uint64_t, int32_t> key{random() % 5, static_cast<int32_t>(random() % 12)};
    const auto tokens = tokens_of(key.second);
    const auto found = expected.find(key);
    ASSERT_EQ(index.Find({9, key.first}, tokens), found == expected.end() ? -1 : found->second);
    if (index.Contains(block)) {
      index.Erase(block);
      expected.erase(key_of[static_cast<size_t>(block)]);
    } else if (found == expected.end()) {
      index.Insert({9, key.first}, tokens, block);
      expected[key] = block;
      key_of[static_cast<size_t>(block)] = key;
    }
  }
}

TEST(KvPoolTest, AnEmptyPoolHasNothing) {
  KvPool pool(0);
  std::vector<int32_t> table;
  EXPECT_FALSE(pool.Allocate(0, 1, &table));
  EXPECT_EQ(pool.total(), 0);
}

}  // namespace
}  // namespace vernier
