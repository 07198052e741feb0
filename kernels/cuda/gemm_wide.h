// The GEMM kernel for many rows of x: tensor cores by warpgroup, weights decoded in registers.
//
// See gemm.h for what a problem, a plan and its operands are.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_wide_plan.h"

namespace vernier::cuda {

// REQUIRES: a plan of PlanWide for this problem.
cudaError_t LaunchWide(const GemmProblem& problem, const GemmPlan& plan,
                       const GemmOperands& operands, cudaStream_t stream);

}  // namespace vernier::cuda
