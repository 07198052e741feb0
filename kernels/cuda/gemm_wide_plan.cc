#include "kernels/cuda/gemm_wide_plan.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace vernier::cuda {
namespace {

enum class Operands : uint8_t { kFourBits, kInt8, kInt8ByInt8 };  // of int8 x the last

Operands OperandsOf(const GemmProblem& problem) {
  if (problem.activation == Activation::kInt8) return Operands::kInt8ByInt8;
  return IsFourBits(problem.encoding) ? Operands::kFourBits : Operands::kInt8;
}

// What a tile costs, in ns: a unit; the beginning and the end; each further pair that has a part of
// a tile; each further tile that a pair has a piece of. Written by tests/bench/gemm_costs.py from
// `gemm_bench --tune` on an H200.
struct TileCost {
  Operands operands;
  int tokens;
  int slices;
  int unit_ns;
  int ends_ns;
  int part_ns;
  int tile_ns;
};
constexpr TileCost kTileCosts[] = {
    {Operands::kFourBits, 256, 1, 672, 8500, 1113, 2391},
    {Operands::kFourBits, 128, 1, 772, 8031, 1011, 1678},
    {Operands::kFourBits, 64, 2, 248, 6399, 682, 4089},
    {Operands::kFourBits, 64, 1, 500, 6485, 560, 0},
    {Operands::kFourBits, 32, 4, 70, 6042, 2192, 2299},
    {Operands::kFourBits, 32, 2, 171, 5789, 464, 3752},
    {Operands::kFourBits, 32, 1, 409, 5171, 296, 0},
    {Operands::kFourBits, 16, 1, 320, 4901, 368, 586},
    {Operands::kInt8, 256, 1, 669, 9251, 830, 3682},
    {Operands::kInt8, 128, 1, 711, 7531, 1166, 1615},
    {Operands::kInt8, 64, 2, 226, 5524, 1337, 1554},
    {Operands::kInt8, 64, 1, 470, 5802, 973, 0},
    {Operands::kInt8, 32, 4, 75, 4944, 3592, 2579},
    {Operands::kInt8, 32, 2, 198, 2811, 1819, 9736},
    {Operands::kInt8, 32, 1, 558, 646, 917, 0},
    {Operands::kInt8, 16, 1, 300, 4923, 1355, 1111},
    {Operands::kInt8ByInt8, 256, 1, 595, 7618, 3500, 4333},
    {Operands::kInt8ByInt8, 128, 1, 649, 7489, 3777, 4133},
    {Operands::kInt8ByInt8, 64, 2, 331, 4545, 1826, 2439},
    {Operands::kInt8ByInt8, 64, 1, 691, 6533, 1065, 5379},
    {Operands::kInt8ByInt8, 32, 4, 164, 3130, 4227, 2181},
    {Operands::kInt8ByInt8, 32, 2, 411, 1868, 1690, 8473},
    {Operands::kInt8ByInt8, 32, 1, 1011, 0, 1071, 0},
    {Operands::kInt8ByInt8, 16, 1, 1066, 2496, 410, 0},
};
static_assert(std::size(kTileCosts) == 3 * std::size(kWideTiles));

constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

const WideTile& PlanTile(const GemmPlan& plan) {
  return *std::find_if(std::begin(kWideTiles), std::end(kWideTiles), [&](const WideTile& tile) {
    return tile.tokens == plan.tile_tokens && tile.slices == plan.slices;
  });
}

// Of all tiles.
int64_t UnitsOf(const WideSchedule& schedule) {
  return int64_t{schedule.row_tiles} * schedule.token_tiles * schedule.tile_units;
}

}  // namespace

WideSchedule ScheduleOf(const GemmProblem& problem, const GemmPlan& plan) {
  WideSchedule schedule;
  schedule.row_tiles = static_cast<int>(CeilDivide(problem.outputs, PairOutputs(PlanTile(plan))));
  schedule.token_tiles = static_cast<int>(CeilDivide(problem.rows, plan.tile_tokens));
  schedule.tile_units = static_cast<int>(CeilDivide(problem.inputs, BlockCols(problem.activation)));
  schedule.pairs = plan.clusters;
  const int tiles = schedule.row_tiles * schedule.token_tiles;
  // The line costs a pair the parts of tiles that it leaves and adds, about as much as this many
  // units (8B shapes at 2,048 rows, H200).
  constexpr int64_t kLineUnits = 4;
  const int left = tiles % schedule.pairs;
  const int idle = left > 0 ? schedule.pairs - left : 0;  // pairs, were the last turn a whole one
  const bool whole = int64_t{idle} * schedule.tile_units <= kLineUnits * schedule.pairs;
  schedule.first_left = whole ? tiles : tiles - left;
  schedule.units = (tiles - schedule.first_left) * schedule.tile_units;
  schedule.sharers = std::clamp(schedule.units, 1, schedule.pairs);
  return schedule;
}

GemmPlan PlanWide(const GemmProblem& problem, const WideTile& tile) {
  GemmPlan plan;
  plan.kernel = GemmKernel::kWide;
  plan.tile_tokens = tile.tokens;
  plan.slices = tile.slices;
  plan.cluster = kPairBlocks;
  plan.clusters = 1;
  plan.clusters =
      static_cast<int>(std::min<int64_t>(kMaxPairs, UnitsOf(ScheduleOf(problem, plan))));
  return plan;
}

// Whole slices of K, and as many outputs each: they cut a weight's columns at the same places, and
// sum alike in them. (NF4 of more tokens multiplies by absmax before it sums, gemm_wide.cu.)
int FixedTokens(const GemmProblem& problem) { return IsFourBits(problem.encoding) ? 64 : 128; }

GemmPlan PlanFixed(const GemmProblem& problem) {
  const WideTile* chosen = nullptr;
  for (const WideTile& tile : kWideTiles) {
    if (tile.slices != 1 || tile.warpgroups != 4 || tile.tokens > FixedTokens(problem)) continue;
    chosen = &tile;
    if (tile.tokens >= problem.rows) break;
  }
  return PlanWide(problem, *chosen);
}

namespace {

// What a plan should take.
int64_t NanosecondsOf(const GemmProblem& problem, const GemmPlan& plan) {
  const TileCost& cost =
      *std::find_if(std::begin(kTileCosts), std::end(kTileCosts), [&](const TileCost& row) {
        return row.operands == OperandsOf(problem) && row.tokens == plan.tile_tokens &&
               row.slices == plan.slices;
      });
  const WideSchedule schedule = ScheduleOf(problem, plan);
  const int64_t turns = CeilDivide(schedule.first_left, schedule.pairs);
  const int64_t run = CeilDivide(schedule.units, schedule.sharers);  // of the line, a pair
  const int64_t units = turns * schedule.tile_units + run;
  const int64_t parts = run > 0 ? CeilDivide(schedule.tile_units, run) : 1;
  const int64_t tiles = turns + (run > 0 ? 1 : 0);
  return units * cost.unit_ns + cost.ends_ns + (parts - 1) * cost.part_ns +
         (tiles - 1) * cost.tile_ns;
}

}  // namespace

GemmPlan PlanWide(const GemmProblem& problem) {
  GemmPlan best;
  int64_t best_ns = INT64_MAX;
  for (const WideTile& tile : kWideTiles) {
    // Half of it would be empty: never the fastest (`gemm_bench --tune`), but near it in the model.
    if (tile.tokens > 32 && tile.tokens / 2 >= problem.rows) continue;
    const GemmPlan plan = PlanWide(problem, tile);
    const int64_t ns = NanosecondsOf(problem, plan);
    if (ns < best_ns) {
      best_ns = ns;
      best = plan;
    }
  }
  return best;
}

}  // namespace vernier::cuda
