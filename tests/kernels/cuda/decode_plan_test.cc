#include "kernels/cuda/decode_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace vernier::cuda {
namespace {

std::vector<DecodeRow> RowsOf(const std::vector<int>& contexts) {
  std::vector<DecodeRow> rows;
  for (const int context : contexts) {
    rows.push_back({.row = static_cast<int32_t>(rows.size()), .context = context});
  }
  return rows;
}

// How often each group of a row and a tile is attended to, as the kernel walks a share.
std::map<std::pair<int, int>, std::vector<int>> Walk(int tiles, const std::vector<DecodeRow>& rows,
                                                     const std::vector<DecodeShare>& shares) {
  std::map<std::pair<int, int>, std::vector<int>> seen;
  for (size_t row = 0; row < rows.size(); ++row) {
    for (int tile = 0; tile < tiles; ++tile) {
      seen[{row, tile}].resize(GroupsOf(rows[row]));
    }
  }
  for (DecodeShare share : shares) {
    for (; share.groups > 0; --share.groups) {
      ++seen.at({share.row, share.tile}).at(share.group);
      if (++share.group < GroupsOf(rows[share.row])) continue;
      share.group = 0;
      if (++share.tile < tiles) continue;
      share.tile = 0;
      ++share.row;
    }
  }
  return seen;
}

const std::vector<int> kContexts[] = {
    {1}, {128}, {129}, {1040, 1, 128, 4097, 33, 127, 640}, std::vector<int>(300, 1040), {1 << 17}};

TEST(DecodePlanTest, EveryGroupOfEveryTileIsInOneShare) {
  for (const std::vector<int>& contexts : kContexts) {
    for (const int tiles : {1, 3, 8}) {
      for (const int window : {0, 1, 128, 700}) {
        std::vector<DecodeRow> rows = RowsOf(contexts);
        const DecodePlan plan = PlanDecode(tiles, window, 2, std::span(rows));
        ASSERT_EQ(plan.shares.size(), kMostDecodeBlocks);
        for (const auto& [where, counts] : Walk(tiles, rows, plan.shares)) {
          EXPECT_EQ(std::count(counts.begin(), counts.end(), 1), std::ssize(counts))
              << "row " << where.first << ", tile " << where.second;
        }
      }
    }
  }
}

TEST(DecodePlanTest, SharesAreEqualButForTheLast) {
  for (const std::vector<int>& contexts : kContexts) {
    std::vector<DecodeRow> rows = RowsOf(contexts);
    const DecodePlan plan = PlanDecode(8, 0, 3, std::span(rows));
    bool is_last = false;
    for (int i = 0; i < kMostDecodeBlocks; ++i) {
      const int groups = plan.shares[i].groups;
      EXPECT_LE(groups, is_last || i >= plan.blocks ? 0 : plan.shares[0].groups);
      is_last |= groups < plan.shares[0].groups;
    }
  }
}

TEST(DecodePlanTest, KeysOutOfTheWindowAreInNoShare) {
  std::vector<DecodeRow> rows = RowsOf({1000, 100, 513});
  PlanDecode(2, 256, 2, std::span(rows));
  EXPECT_EQ(rows[0].first_group, (1000 - 256) / kGroupKeys);
  EXPECT_EQ(rows[1].first_group, 0);
  EXPECT_EQ(rows[2].first_group, 2) << "keys 257 on are in sight";
  EXPECT_EQ(rows[1].line, 8 - rows[0].first_group);
  EXPECT_EQ(rows[2].line, rows[1].line + 1);
}

TEST(DecodePlanTest, ManyGroupsTakeAllThatAMultiprocessorHasRoomFor) {
  std::vector<DecodeRow> few = RowsOf({1040, 1040}), many = RowsOf(std::vector<int>(256, 1040));
  EXPECT_EQ(PlanDecode(8, 0, 3, std::span(few)).blocks, 2 * kMultiprocessors);
  EXPECT_EQ(PlanDecode(8, 0, 3, std::span(many)).blocks, 3 * kMultiprocessors);
  EXPECT_EQ(PlanDecode(8, 0, 1, std::span(many)).blocks, kMultiprocessors);
}

TEST(DecodePlanTest, NoRowsLeaveEmptyShares) {
  const DecodePlan plan = PlanDecode(8, 0, 2, {});
  ASSERT_EQ(plan.shares.size(), kMostDecodeBlocks);
  for (const DecodeShare& share : plan.shares) EXPECT_EQ(share.groups, 0);
}

}  // namespace
}  // namespace vernier::cuda
