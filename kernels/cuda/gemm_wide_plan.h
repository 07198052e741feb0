// Which tile gemm_wide multiplies a problem with, and who multiplies what: pure, no CUDA.
//
// Pairs of multiprocessors take whole tiles in turns. Of the tiles that are left, fewer than pairs,
// the columns in blocks of 64 (128 of int8 x) form one line. Either each pair takes an equal run of
// it (stream-K), whatever tiles it cuts; or each tile is cut into the same number of runs, once for
// the tiles to stay whole, which leaves some pairs idle but nobody with two tiles: WideSchedule.
#pragma once

#include <cstdint>

#include "kernels/cuda/gemm_plan.h"

namespace vernier::cuda {

// One of the tiles that there are.
struct WideTile {
  int tokens;      // rows of x
  int slices;      // of K inside a block of threads: 2 halves its outputs, 4 quarters them
  int warpgroups;  // of a block of threads that multiply, 64 outputs and a slice each
};
inline constexpr WideTile kWideTiles[] = {{16, 1, 4},  {32, 1, 4}, {32, 2, 4}, {32, 4, 4},
                                          {64, 1, 4},  {64, 2, 4}, {64, 4, 4}, {128, 1, 4},
                                          {128, 2, 4}, {256, 1, 2}};

inline constexpr int kPairBlocks = 2;  // blocks of threads that share a tile of x
inline constexpr int kMaxPairs = 66;   // of multiprocessors: an H100 or H200 has 132
inline constexpr int kMaxWarpgroups = 4;
// Of a unit of the line, times pairs: a launch waits for divisions, and those of 64 bits are long.
static_assert(int64_t{kMaxPairs} * (kMaxPairs * (kMostInputs / kRecordCols) + 1) <= INT32_MAX);
inline constexpr int kMaxPartialBytes = 256 * 128 * 4;  // 4-byte sums of a block's share of a tile
// The workspace: counters, [pair][block][warpgroup]; then parts of tiles, [pair][block].
inline constexpr int kCounterBytes = 4096;
static_assert(kMaxPairs * kPairBlocks * kMaxWarpgroups * 4 <= kCounterBytes);
inline constexpr int64_t kWideWorkspaceBytes =
    kCounterBytes + static_cast<int64_t>(kMaxPairs) * kPairBlocks * kMaxPartialBytes;

VERNIER_HOST_DEVICE constexpr int BlockOutputs(const WideTile& tile) {
  return tile.warpgroups / tile.slices * kGroupRows;
}
VERNIER_HOST_DEVICE constexpr int PairOutputs(const WideTile& tile) {
  return kPairBlocks * BlockOutputs(tile);
}

// Whether it can gate: a gate and what it gates are two groups of 64 outputs of one block.
VERNIER_HOST_DEVICE constexpr bool CanGate(const WideTile& tile) {
  return BlockOutputs(tile) >= 2 * kGroupRows;
}
// REQUIRES: a plan of kWide.
const WideTile& WideTileOf(const GemmPlan& plan);

// Where a tile lies in y, in tiles.
struct TilePlace {
  int row = 0;    // of outputs
  int token = 0;  // of rows of x
};

// What a pair multiplies without a break: columns of one tile.
struct WidePiece {
  int tile = 0;
  int first_block = 0;  // of columns
  int blocks = 0;
};

// Who multiplies what. Whole tiles go to the pairs in turns, so that all of them read the same
// columns at about the same time, out of L2. The columns of the tiles that are left, fewer than
// pairs, form a line of units, a block of a tile each, of which every sharer has an equal run.
struct WideSchedule {
  int row_tiles = 0;
  int token_tiles = 0;
  int tile_units = 0;  // a tile: columns / BlockCols
  int first_left = 0;  // tile; those before are multiplied whole
  int units = 0;       // of the line
  int pairs = 0;
  int sharers = 1;  // pairs with a run of the line, the first ones; so many a tile, or all pairs

  // Pair `pair` has units [first_unit(pair), first_unit(pair + 1)) of the line.
  VERNIER_HOST_DEVICE constexpr int first_unit(int pair) const {
    return pair < sharers ? pair * units / sharers : units;
  }
  // The pairs with the first and the last columns of `tile`, one of the line.
  VERNIER_HOST_DEVICE constexpr int first_pair_of(int tile) const {
    return pair_of((tile - first_left) * tile_units);
  }
  VERNIER_HOST_DEVICE constexpr int last_pair_of(int tile) const {
    return pair_of((tile + 1 - first_left) * tile_units - 1);
  }
  VERNIER_HOST_DEVICE constexpr int pair_of(int unit) const {
    return ((unit + 1) * sharers - 1) / units;
  }
  // Tiles that follow each other share rows and tokens, so that what is read at once is little.
  VERNIER_HOST_DEVICE constexpr TilePlace PlaceOf(int tile) const {
    if (token_tiles == 1) return {tile, 0};
    constexpr int kGroupTokens = 8;  // tiles
    const int group = tile / (kGroupTokens * row_tiles);
    const int in_group = tile - group * kGroupTokens * row_tiles;
    const int left = token_tiles - group * kGroupTokens;
    const int width = left < kGroupTokens ? left : kGroupTokens;
    return {in_group / width, group * kGroupTokens + in_group % width};
  }
};

// The pieces of a pair in the order in which it multiplies them: whole tiles; then its run of the
// line from its end to its beginning, so that it leaves the part of a tile that another pair ends
// before it waits for parts of its own.
class WideRun {
 public:
  VERNIER_HOST_DEVICE constexpr WideRun(const WideSchedule& schedule, int pair)
      : tile_units_(schedule.tile_units),
        first_left_(schedule.first_left),
        step_(schedule.pairs),
        tile_(pair),
        first_(schedule.first_unit(pair)),
        end_(schedule.first_unit(pair + 1)) {}

  VERNIER_HOST_DEVICE constexpr bool done() const { return tile_ >= first_left_ && end_ <= first_; }
  // REQUIRES: !done().
  VERNIER_HOST_DEVICE constexpr WidePiece Next() {
    if (tile_ < first_left_) {
      const int tile = tile_;
      tile_ += step_;
      return {tile, 0, tile_units_};
    }
    const int tile = (end_ - 1) / tile_units_;
    const int tile_begin = tile * tile_units_;
    const int begin = tile_begin > first_ ? tile_begin : first_;
    const WidePiece piece = {first_left_ + tile, begin - tile_begin, end_ - begin};
    end_ = begin;
    return piece;
  }

 private:
  int tile_units_, first_left_, step_;
  int tile_;         // the next whole one
  int first_, end_;  // units left of the run
};

// What a warp of those that copy brings to stage number `i` of all that its block fills in turn, a
// ring of them: the first one the weight, each a block of columns of x. It waits for the stage to
// be left only where it brings something. Without that the others go on, and to one that comes when
// they have left the stage once more the parity it waits for never comes. So it is with the first
// `eager` stages, whose weights were brought before any of x.
struct WideCopies {
  bool weight = false;
  bool x = false;

  VERNIER_HOST_DEVICE constexpr bool any() const { return weight || x; }
};
inline constexpr int kCopyingWarps = 4;
VERNIER_HOST_DEVICE constexpr int CopiedBlock(int warp) {
  return (warp + kCopyingWarps - 1) % kCopyingWarps;
}
VERNIER_HOST_DEVICE constexpr WideCopies CopiesOf(int warp, int i, int eager, int stage_blocks) {
  return {warp == 0 && i >= eager, CopiedBlock(warp) < stage_blocks};
}

// REQUIRES: a plan of PlanWide for this problem.
WideSchedule ScheduleOf(const GemmProblem& problem, const GemmPlan& plan);

// The plans for one tile of kWideTiles: the line shared evenly or, where that is another plan, each
// tile of it cut alike. REQUIRES: a valid problem.
enum class LineShares : uint8_t { kEven, kCutTiles };
inline constexpr LineShares kLineShares[] = {LineShares::kEven, LineShares::kCutTiles};
GemmPlan PlanWide(const GemmProblem& problem, const WideTile& tile, LineShares shares);
// A plan of which a row's sums do not depend on the number of rows: tiles of one kind, whose
// columns are cut by the shape of the weight alone. REQUIRES: at most FixedTokens rows.
GemmPlan PlanFixed(const GemmProblem& problem);
int FixedTokens(const GemmProblem& problem);
// The tile that should be fastest, by measured costs.
GemmPlan PlanWide(const GemmProblem& problem);

}  // namespace vernier::cuda
