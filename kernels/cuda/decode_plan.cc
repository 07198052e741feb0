#include "kernels/cuda/decode_plan.h"

#include <algorithm>

namespace vernier::cuda {

DecodePlan PlanDecode(int tiles, int window, int blocks_at_once, std::span<DecodeRow> rows) {
  int64_t groups = 0;  // of one tile
  for (DecodeRow& row : rows) {
    row.first_group = window > 0 ? std::max(row.context - window, 0) / kGroupKeys : 0;
    row.line = static_cast<int32_t>(groups);
    groups += GroupsOf(row);
  }
  const int64_t all = groups * tiles;
  // A third block of threads pays where shares are long: below, more of them cut more rows.
  constexpr int64_t kEnoughForThree = 8 * kMostDecodeBlocks;
  const int at_once = all < kEnoughForThree ? std::min(blocks_at_once, 2) : blocks_at_once;
  DecodePlan plan{.blocks = at_once * kMultiprocessors};
  const int64_t share = (all + plan.blocks - 1) / plan.blocks;
  plan.shares.resize(kMostDecodeBlocks);
  size_t row = 0;
  for (int64_t i = 0; i < plan.blocks && i * share < all; ++i) {
    const int64_t at = i * share;
    while ((rows[row].line + GroupsOf(rows[row])) * int64_t{tiles} <= at) ++row;
    const int64_t in_row = at - rows[row].line * int64_t{tiles};
    const int of_row = GroupsOf(rows[row]);
    plan.shares[i] = {.row = static_cast<int32_t>(row),
                      .tile = static_cast<int32_t>(in_row / of_row),
                      .group = static_cast<int32_t>(in_row % of_row),
                      .groups = static_cast<int32_t>(std::min(share, all - at))};
  }
  return plan;
}

}  // namespace vernier::cuda
