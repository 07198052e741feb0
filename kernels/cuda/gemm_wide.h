// The GEMM kernel for many rows of x: tensor cores by warpgroup, weights decoded in registers.
//
// See gemm.h for what a problem, a plan and its operands are.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/gemm.h"

namespace vernier::cuda {

// The tiles that there are, in rows of x.
inline constexpr int kWideTokens[] = {16, 32, 64, 128};

inline constexpr int kMaxWideCluster = 8;

// The plan for one tile and cluster. REQUIRES: a valid problem, a tile of kWideTokens, a cluster of
// 1 to kMaxWideCluster. `cluster` of the result is 0 when K is too short for it.
GemmPlan PlanWide(const GemmProblem& problem, int tile_tokens, int cluster);
// The tile and cluster that should be fastest, by measured costs.
GemmPlan PlanWide(const GemmProblem& problem);

cudaError_t LaunchWide(const GemmProblem& problem, const GemmPlan& plan,
                       const GemmOperands& operands, cudaStream_t stream);

}  // namespace vernier::cuda
