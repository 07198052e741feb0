#include "kernels/cuda/gemm_wide_plan.h"

#include <cstdint>

namespace vernier::cuda {
namespace {

// Clusters of 1 to 8 blocks that run at once on an H200: those of a cluster lie in one GPC, which
// has at most 18 multiprocessors. Measured, as the size from which a second wave shows.
constexpr int kClustersAtOnce[kMaxWideCluster] = {132, 66, 42, 30, 22, 20, 15, 15};

// What a tile costs, in ns: a block of 64 columns; the beginning and the end; and each further
// block of a cluster. Written by tests/bench/gemm_costs.py from `gemm_bench --tune` on an H200.
struct TileCost {
  PackedEncoding encoding;
  int tokens;
  int block_ns;
  int ends_ns;
  int rank_ns;
};
constexpr TileCost kTileCosts[] = {
    {PackedEncoding::kNf4, 128, 742, 5834, 120}, {PackedEncoding::kNf4, 64, 485, 4482, 355},
    {PackedEncoding::kNf4, 32, 362, 3636, 386},  {PackedEncoding::kNf4, 16, 328, 2861, 710},
    {PackedEncoding::kInt8, 128, 587, 6562, 66}, {PackedEncoding::kInt8, 64, 417, 3974, 450},
    {PackedEncoding::kInt8, 32, 369, 2907, 470}, {PackedEncoding::kInt8, 16, 357, 1882, 831},
};

}  // namespace

GemmPlan PlanWide(const GemmProblem& problem, int tile_tokens, int cluster) {
  GemmPlan plan;
  if (cluster > 1 && RecordBlocks(problem.inputs) < 2 * cluster) return plan;
  const int row_tiles = (problem.outputs + kTileOutputs - 1) / kTileOutputs;
  const int token_tiles = (problem.rows + tile_tokens - 1) / tile_tokens;
  plan.kernel = GemmKernel::kWide;
  plan.tile_tokens = tile_tokens;
  plan.cluster = cluster;
  plan.clusters = row_tiles * token_tiles;
  return plan;
}

GemmPlan PlanWide(const GemmProblem& problem) {
  const int64_t blocks = RecordBlocks(problem.inputs);
  GemmPlan best;
  int64_t best_ns = INT64_MAX;
  for (const TileCost& tile : kTileCosts) {
    if (tile.encoding != problem.encoding) continue;
    for (int cluster = 1; cluster <= kMaxWideCluster; ++cluster) {
      const GemmPlan plan = PlanWide(problem, tile.tokens, cluster);
      if (plan.cluster == 0) continue;
      const int at_once = kClustersAtOnce[cluster - 1];
      const int64_t waves = (plan.clusters + at_once - 1) / at_once;
      const int64_t slice = (blocks + cluster - 1) / cluster;
      const int64_t ns =
          waves * (slice * tile.block_ns + tile.ends_ns) + (cluster - 1) * tile.rank_ns;
      if (ns < best_ns) {
        best_ns = ns;
        best = plan;
      }
    }
  }
  return best;
}

}  // namespace vernier::cuda
