// Which tile and which cluster gemm_wide multiplies a problem with: pure, no CUDA.
#pragma once

#include "kernels/cuda/gemm_plan.h"

namespace vernier::cuda {

inline constexpr int kTileOutputs = 256;

// The tiles that there are, in rows of x.
inline constexpr int kWideTokens[] = {16, 32, 64, 128};

inline constexpr int kMaxWideCluster = 8;

// The plan for one tile and cluster. REQUIRES: a valid problem, a tile of kWideTokens, a cluster of
// 1 to kMaxWideCluster. `cluster` of the result is 0 when K is too short for it.
GemmPlan PlanWide(const GemmProblem& problem, int tile_tokens, int cluster);
// The tile and cluster that should be fastest, by measured costs.
GemmPlan PlanWide(const GemmProblem& problem);

}  // namespace vernier::cuda
