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
        const std::vector<DecodeShare> shares = ShareDecode(tiles, window, std::span(rows));
        ASSERT_EQ(shares.size(), kDecodeBlocks);
        for (const auto& [where, counts] : Walk(tiles, rows, shares)) {
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
    const std::vector<DecodeShare> shares = ShareDecode(8, 0, std::span(rows));
    bool is_last = false;
    for (const DecodeShare& share : shares) {
      EXPECT_LE(share.groups, is_last ? 0 : shares[0].groups);
      is_last |= share.groups < shares[0].groups;
    }
  }
}

TEST(DecodePlanTest, KeysOutOfTheWindowAreInNoShare) {
  std::vector<DecodeRow> rows = RowsOf({1000, 100, 513});
  ShareDecode(2, 256, std::span(rows));
  EXPECT_EQ(rows[0].first_group, (1000 - 256) / kGroupKeys);
  EXPECT_EQ(rows[1].first_group, 0);
  EXPECT_EQ(rows[2].first_group, 2) << "keys 257 on are in sight";
  EXPECT_EQ(rows[1].line, 8 - rows[0].first_group);
  EXPECT_EQ(rows[2].line, rows[1].line + 1);
}

TEST(DecodePlanTest, NoRowsLeaveEmptyShares) {
  const std::vector<DecodeShare> shares = ShareDecode(8, 0, {});
  ASSERT_EQ(shares.size(), kDecodeBlocks);
  for (const DecodeShare& share : shares) EXPECT_EQ(share.groups, 0);
}

}  // namespace
}  // namespace vernier::cuda
