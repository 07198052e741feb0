// Which tile gemm_wide multiplies a problem with, and who multiplies what: pure, no CUDA.
//
// Tiles and their columns, in blocks of 64 (128 of int8 x), form one line: tile 0's blocks, tile
// 1's, and so on. Each pair of multiprocessors takes an equal run of that line (stream-K), whatever
// tiles it cuts.
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
inline constexpr WideTile kWideTiles[] = {{16, 1, 4}, {32, 1, 4}, {32, 2, 4},  {32, 4, 4},
                                          {64, 1, 4}, {64, 2, 4}, {128, 1, 4}, {256, 1, 2}};

inline constexpr int kPairBlocks = 2;  // blocks of threads that share a tile of x
inline constexpr int kMaxPairs = 66;   // of multiprocessors: an H100 or H200 has 132
inline constexpr int kMaxWarpgroups = 4;
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

// The line of units, and how it is cut. A unit is a block of columns of a tile.
struct WideSchedule {
  int tile_units = 0;  // a tile: columns / BlockCols
  int units = 0;       // in all
  int pairs = 0;

  // Pair `pair` has units [first_unit(pair), first_unit(pair + 1)).
  VERNIER_HOST_DEVICE constexpr int first_unit(int pair) const {
    return static_cast<int>(static_cast<int64_t>(pair) * units / pairs);
  }
  // The pair that has `unit`.
  VERNIER_HOST_DEVICE constexpr int pair_of(int unit) const {
    return static_cast<int>(((unit + 1LL) * pairs - 1) / units);
  }
};

// REQUIRES: a plan of PlanWide for this problem.
WideSchedule ScheduleOf(const GemmProblem& problem, const GemmPlan& plan);

// The plan for one tile of kWideTiles. REQUIRES: a valid problem.
GemmPlan PlanWide(const GemmProblem& problem, const WideTile& tile);
// The tile that should be fastest, by measured costs.
GemmPlan PlanWide(const GemmProblem& problem);

}  // namespace vernier::cuda
