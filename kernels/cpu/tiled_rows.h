// Rows of x as a matrix unit takes them, and the sizes that its products are cut into.
//
// Plain values; of one step, in LinearRuntime::x_tiles.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/kernel_table.h"

namespace vernier {

inline constexpr int64_t kResidentGroups = 2;
inline constexpr int64_t kResidentBlock = 128;  // inputs, at most
inline constexpr int64_t kBlock = 384;
inline constexpr int64_t kBatchUnits = 8;
inline constexpr int64_t kBatchGroups = 32;
inline constexpr int64_t kTileSums = int64_t{kTileRows} * kTileRows;
inline constexpr int64_t kSumsSize = int64_t{kTileOutputs} * kTileRows;  // of one unit and group
inline constexpr int kTilesOfUnit = kTileOutputs / kTileRows;

inline int64_t GroupsOf(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }

// Inputs of a block, so that all blocks are about as long. NF4 is decoded in pairs of chunks.
inline int64_t BlockOf(int64_t cols, int64_t most) {
  constexpr int64_t kUnit = 2 * kNf4Chunk;
  const int64_t blocks = (cols + most - 1) / most;
  return (cols / blocks + kUnit - 1) / kUnit * kUnit;
}
static_assert(kBlock % (2 * kNf4Chunk) == 0 && kResidentBlock % (2 * kNf4Chunk) == 0);

// Up to kBatchGroups groups of x as tiles, [block of inputs][part][group][step]: what is multiplied
// with a decoded block lies together, whatever the row's length.
struct TiledRows {
  uint16_t* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;  // PaddedCols
  int64_t groups = 0;
  int64_t block = 0;       // inputs; the last may be shorter
  bool few = false;        // the call's rows are so few that vectors take them
  int parts = kTileParts;  // of x

  TiledRows() = default;
  TiledRows(uint16_t* tiles, int64_t num_rows, int64_t padded_cols, int num_parts, bool is_few)
      : data(tiles),
        rows(num_rows),
        cols(padded_cols),
        groups(GroupsOf(num_rows)),
        block(BlockOf(padded_cols, groups <= kResidentGroups ? kResidentBlock : kBlock)),
        few(is_few),
        parts(num_parts) {}

  int RowsOf(int64_t group) const {
    return static_cast<int>(std::min<int64_t>(kTileRows, rows - group * kTileRows));
  }
  // One part of few rows, [rows][cols] fp32 in the place of the tiles.
  float* Few(int part) const { return reinterpret_cast<float*>(data) + part * rows * cols; }

  int64_t BlockCols(int64_t first_col) const { return std::min(block, cols - first_col); }
  // From one group to the next in the block that begins at `first_col`.
  int64_t GroupSize(int64_t first_col) const { return BlockCols(first_col) * kTileRows; }
  uint16_t* Tiles(int64_t first_col, int part, int64_t group) const {
    return data + first_col * kTileRows * parts * groups +
           (part * groups + group) * GroupSize(first_col);
  }
};

inline constexpr int64_t kBatchRows = kBatchGroups * kTileRows;

}  // namespace vernier
