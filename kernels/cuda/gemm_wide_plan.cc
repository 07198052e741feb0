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
constexpr int kEvenPercent = 104;  // a line that is shared evenly takes longer than that by as much
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
    {Operands::kFourBits, 256, 1, 775, 1927, 1748, 1939},
    {Operands::kFourBits, 128, 2, 422, 3432, 921, 1859},
    {Operands::kFourBits, 128, 1, 815, 2349, 1763, 2300},
    {Operands::kFourBits, 64, 4, 155, 3761, 1286, 558},
    {Operands::kFourBits, 64, 2, 256, 5033, 449, 1232},
    {Operands::kFourBits, 64, 1, 503, 5402, 559, 293},
    {Operands::kFourBits, 32, 4, 97, 4270, 878, 688},
    {Operands::kFourBits, 32, 2, 184, 4510, 282, 996},
    {Operands::kFourBits, 32, 1, 365, 5129, 328, 569},
    {Operands::kFourBits, 16, 1, 335, 4522, 146, 434},
    {Operands::kInt8ByInt8, 256, 1, 636, 5909, 2339, 2294},
    {Operands::kInt8ByInt8, 128, 2, 414, 4991, 1592, 2089},
    {Operands::kInt8ByInt8, 128, 1, 699, 7959, 1512, 2026},
    {Operands::kInt8ByInt8, 64, 4, 196, 3992, 1080, 1262},
    {Operands::kInt8ByInt8, 64, 2, 367, 3555, 1104, 2352},
    {Operands::kInt8ByInt8, 64, 1, 543, 5328, 2136, 10097},
    {Operands::kInt8ByInt8, 32, 4, 200, 3269, 1173, 1255},
    {Operands::kInt8ByInt8, 32, 2, 514, 2237, 770, 213},
    {Operands::kInt8ByInt8, 32, 1, 614, 7572, 389, 2292},
    {Operands::kInt8ByInt8, 16, 1, 420, 4135, 1193, 1046},
    {Operands::kInt8, 256, 1, 709, 3666, 957, 3419},
    {Operands::kInt8, 128, 2, 375, 2937, 1339, 1956},
    {Operands::kInt8, 128, 1, 705, 3362, 1459, 4168},
    {Operands::kInt8, 64, 4, 141, 3678, 1583, 0},
    {Operands::kInt8, 64, 2, 245, 3242, 974, 1245},
    {Operands::kInt8, 64, 1, 456, 4321, 1051, 780},
    {Operands::kInt8, 32, 4, 107, 3264, 1174, 1509},
    {Operands::kInt8, 32, 2, 190, 3579, 905, 4203},
    {Operands::kInt8, 32, 1, 354, 3941, 651, 762},
    {Operands::kInt8, 16, 1, 306, 3161, 1293, 560},
};
static_assert(std::size(kTileCosts) == 3 * std::size(kWideTiles));

constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

const WideTile& PlanTile(const GemmPlan& plan) {
  return *std::find_if(std::begin(kWideTiles), std::end(kWideTiles), [&](const WideTile& tile) {
    return tile.tokens == plan.tile_tokens && tile.slices == plan.slices;
  });
}

// Units of the line that a pair has at most.
int64_t LongestRun(const WideSchedule& schedule) {
  return CeilDivide(schedule.units, schedule.sharers);
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
  return LongestRun(ScheduleOf(problem, cut)) <=
                 LongestRun(ScheduleOf(problem, even)) + kSecondTileUnits
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
  const int64_t turns = schedule.first_left / schedule.pairs;
  const int64_t run = LongestRun(schedule);
  const bool has_line = run > 0;
  // Of a tile of the line, beside its last pair's; and of the pieces of a pair, beside the first.
  const int64_t parts = !has_line       ? 0
                        : plan.cuts > 0 ? plan.cuts - 1
                                        : CeilDivide(schedule.tile_units, run);
  const int64_t pieces = turns + (!has_line ? 0 : plan.cuts > 0 ? 1 : 2) - 1;
  const int64_t ns = (turns * schedule.tile_units + run) * cost.unit_ns + cost.ends_ns +
                     parts * cost.part_ns + pieces * cost.piece_ns;
  return has_line && plan.cuts == 0 ? ns * kEvenPercent / 100 : ns;
}

}  // namespace

GemmPlan PlanWide(const GemmProblem& problem) {
  GemmPlan best;
  int64_t best_ns = INT64_MAX;
  for (const WideTile& tile : kWideTiles) {
    // Half of it would be empty: never the fastest (`gemm_bench --tune`), but near it in the model.
    if (tile.tokens > 32 && tile.tokens / 2 >= problem.rows) continue;
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
