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
// a tile; each further piece that a pair has. Written by tests/bench/gemm_costs.py from
// `gemm_bench --tune` on an H200.
struct TileCost {
  Operands operands;
  int tokens;
  int slices;
  int unit_ns;
  int ends_ns;
  int part_ns;
  int piece_ns;
};
constexpr TileCost kTileCosts[] = {
    {Operands::kFourBits, 256, 1, 676, 3687, 1393, 0},
    {Operands::kFourBits, 128, 2, 411, 4687, 630, 256},
    {Operands::kFourBits, 128, 1, 771, 3806, 1568, 0},
    {Operands::kFourBits, 64, 4, 147, 3247, 1200, 0},
    {Operands::kFourBits, 64, 2, 246, 5175, 336, 537},
    {Operands::kFourBits, 64, 1, 436, 6228, 430, 0},
    {Operands::kFourBits, 32, 4, 93, 4614, 383, 977},
    {Operands::kFourBits, 32, 2, 182, 4554, 298, 427},
    {Operands::kFourBits, 32, 1, 297, 5220, 377, 0},
    {Operands::kFourBits, 16, 1, 273, 4984, 105, 0},
    {Operands::kInt8ByInt8, 256, 1, 733, 4472, 2143, 2046},
    {Operands::kInt8ByInt8, 128, 2, 418, 4960, 1581, 1794},
    {Operands::kInt8ByInt8, 128, 1, 786, 5847, 1516, 1620},
    {Operands::kInt8ByInt8, 64, 4, 182, 4113, 912, 1327},
    {Operands::kInt8ByInt8, 64, 2, 363, 3593, 1092, 2135},
    {Operands::kInt8ByInt8, 64, 1, 533, 5390, 2197, 10051},
    {Operands::kInt8ByInt8, 32, 4, 169, 3310, 1056, 1231},
    {Operands::kInt8ByInt8, 32, 2, 473, 0, 1547, 126},
    {Operands::kInt8ByInt8, 32, 1, 620, 7428, 419, 1629},
    {Operands::kInt8ByInt8, 16, 1, 404, 4190, 1168, 910},
    {Operands::kInt8, 256, 1, 796, 2605, 595, 3264},
    {Operands::kInt8, 128, 2, 408, 1984, 1453, 700},
    {Operands::kInt8, 128, 1, 794, 1549, 1537, 1420},
    {Operands::kInt8, 64, 4, 141, 3675, 1302, 0},
    {Operands::kInt8, 64, 2, 232, 3453, 935, 1084},
    {Operands::kInt8, 64, 1, 451, 2573, 1347, 907},
    {Operands::kInt8, 32, 4, 92, 3152, 936, 1534},
    {Operands::kInt8, 32, 2, 163, 4097, 856, 5264},
    {Operands::kInt8, 32, 1, 342, 3109, 987, 3343},
    {Operands::kInt8, 16, 1, 269, 2026, 1686, 194},
};
// Of unit_ns, what a unit of an evenly shared line costs.
constexpr int kEvenPercentFourBits = 116, kEvenPercentInt8 = 104;
static_assert(std::size(kTileCosts) == 3 * std::size(kWideTiles));

constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Whole tiles that a pair has, and units of the line, at most.
int64_t TurnsOf(const WideSchedule& schedule) { return schedule.first_left / schedule.pairs; }
int64_t LongestRun(const WideSchedule& schedule) {
  return CeilDivide(schedule.units, schedule.sharers);
}
int64_t UnitsOfAPair(const WideSchedule& schedule) {
  return TurnsOf(schedule) * schedule.tile_units + LongestRun(schedule);
}

// Of all tiles.
int64_t UnitsOf(const WideSchedule& schedule) {
  return int64_t{schedule.row_tiles} * schedule.token_tiles * schedule.tile_units;
}

}  // namespace

const WideTile& WideTileOf(const GemmPlan& plan) {
  return *std::find_if(std::begin(kWideTiles), std::end(kWideTiles), [&](const WideTile& tile) {
    return tile.tokens == plan.tile_tokens && tile.slices == plan.slices;
  });
}

WideSchedule ScheduleOf(const GemmProblem& problem, const GemmPlan& plan) {
  WideSchedule schedule;
  schedule.row_tiles = static_cast<int>(CeilDivide(problem.outputs, PairOutputs(WideTileOf(plan))));
  schedule.token_tiles = static_cast<int>(CeilDivide(problem.rows, plan.tile_tokens));
  schedule.tile_units = static_cast<int>(CeilDivide(problem.inputs, BlockCols(problem.activation)));
  schedule.pairs = plan.clusters;
  const int tiles = schedule.row_tiles * schedule.token_tiles;
  const int left = tiles % schedule.pairs;
  schedule.first_left = tiles - left;
  schedule.units = left * schedule.tile_units;
  schedule.sharers =
      plan.cuts > 0 && left > 0 ? left * plan.cuts : std::clamp(schedule.units, 1, schedule.pairs);
  return schedule;
}

GemmPlan PlanWide(const GemmProblem& problem, const WideTile& tile, LineShares shares) {
  GemmPlan plan;
  plan.kernel = GemmKernel::kWide;
  plan.tile_tokens = tile.tokens;
  plan.slices = tile.slices;
  plan.cluster = kPairBlocks;
  plan.clusters = 1;
  const WideSchedule alone = ScheduleOf(problem, plan);  // of one pair
  plan.clusters = static_cast<int>(std::min<int64_t>(kMaxPairs, UnitsOf(alone)));
  const int tiles = alone.row_tiles * alone.token_tiles;
  const int left = tiles % plan.clusters;
  if (shares == LineShares::kEven || left == 0) return plan;
  plan.cuts = std::min(plan.clusters / left, alone.tile_units);
  // Pairs without work are not launched.
  if (left == tiles) plan.clusters = left * plan.cuts;
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
  const GemmPlan cut = PlanWide(problem, *chosen, LineShares::kCutTiles);
  const GemmPlan even = PlanWide(problem, *chosen, LineShares::kEven);
  // Even shares cost a pair a second tile, about as much as this many units (8B shapes, H200).
  constexpr int64_t kSecondTileUnits = 4;
  return UnitsOfAPair(ScheduleOf(problem, cut)) <=
                 UnitsOfAPair(ScheduleOf(problem, even)) + kSecondTileUnits
             ? cut
             : even;
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
  const int64_t turns = TurnsOf(schedule);
  const int64_t run = LongestRun(schedule);
  const int64_t units_ns = turns * schedule.tile_units * cost.unit_ns;
  if (run == 0) return units_ns + cost.ends_ns + (turns - 1) * cost.piece_ns;
  const bool is_even = plan.cuts == 0;
  // Of a tile of the line, beside its last pair's; and of the pieces of a pair, beside the first.
  const int64_t parts = is_even ? CeilDivide(schedule.tile_units, run) : plan.cuts - 1;
  const int64_t pieces = is_even ? turns + 1 : turns;
  const int percent = !is_even                       ? 100
                      : IsFourBits(problem.encoding) ? kEvenPercentFourBits
                                                     : kEvenPercentInt8;
  return units_ns + run * cost.unit_ns * percent / 100 + cost.ends_ns + parts * cost.part_ns +
         pieces * cost.piece_ns;
}

}  // namespace

GemmPlan PlanWide(const GemmProblem& problem) {
  GemmPlan best;
  int64_t best_ns = INT64_MAX;
  for (const WideTile& tile : kWideTiles) {
    // Half of it would be empty: never the fastest (`gemm_bench --tune`), but near it in the model.
    if (tile.tokens > 32 && tile.tokens / 2 >= problem.rows) continue;
    if (problem.gated && !CanGate(tile)) continue;
    for (const LineShares shares : kLineShares) {
      const GemmPlan plan = PlanWide(problem, tile, shares);
      const int64_t ns = NanosecondsOf(problem, plan);
      if (ns < best_ns) {
        best_ns = ns;
        best = plan;
      }
    }
  }
  return best;
}

}  // namespace vernier::cuda
