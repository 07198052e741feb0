#include "kernels/cuda/decode_plan.h"

#include <algorithm>

namespace vernier::cuda {

std::vector<DecodeShare> ShareDecode(int tiles, int window, std::span<DecodeRow> rows) {
  int64_t groups = 0;  // of one tile
  for (DecodeRow& row : rows) {
    row.first_group = window > 0 ? std::max(row.context - window, 0) / kGroupKeys : 0;
    row.line = static_cast<int32_t>(groups);
    groups += GroupsOf(row);
  }
  const int64_t all = groups * tiles;
  const int64_t share = (all + kDecodeBlocks - 1) / kDecodeBlocks;
  std::vector<DecodeShare> shares(kDecodeBlocks);
  size_t row = 0;
  for (int64_t i = 0; i < kDecodeBlocks && i * share < all; ++i) {
    const int64_t at = i * share;
    while ((rows[row].line + GroupsOf(rows[row])) * int64_t{tiles} <= at) ++row;
    const int64_t in_row = at - rows[row].line * int64_t{tiles};
    const int of_row = GroupsOf(rows[row]);
    shares[i] = {.row = static_cast<int32_t>(row),
                 .tile = static_cast<int32_t>(in_row / of_row),
                 .group = static_cast<int32_t>(in_row % of_row),
                 .groups = static_cast<int32_t>(std::min(share, all - at))};
  }
  return shares;
}

}  // namespace vernier::cuda
