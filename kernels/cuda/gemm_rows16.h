// The GEMM kernel for 1 to 16 rows of x, bound by reading the weights once.
//
// See gemm.h for what a problem and its operands are. Pure planning, then a launch.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/gemm.h"

namespace vernier::cuda {

inline constexpr int kRows16Tokens = 16;  // the most rows of x

// Blocks of a cluster.
inline constexpr int kRows16Clusters[] = {1, 2, 4, 8};

// Its `cluster` is 0 where x does not fit. REQUIRES: a valid problem of at most kRows16Tokens rows.
GemmPlan PlanRows16(const GemmProblem& problem);
// In clusters of `cluster`, one of kRows16Clusters.
GemmPlan PlanRows16(const GemmProblem& problem, int cluster);
cudaError_t LaunchRows16(const GemmProblem& problem, const GemmPlan& plan,
                         const GemmOperands& operands, cudaStream_t stream);

}  // namespace vernier::cuda
