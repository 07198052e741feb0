// y = x W^T of packed records on any device from compute capability 8.0 on.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/gemm.h"

namespace vernier::cuda {

// REQUIRES: fp16 x, records of NF4 or int8. Takes x, weight, row_scales and y of the operands; a
// row of y does not depend on the others. Otherwise as LaunchGemm.
cudaError_t LaunchPortable(const GemmProblem& problem, const GemmOperands& operands,
                           cudaStream_t stream);

}  // namespace vernier::cuda
