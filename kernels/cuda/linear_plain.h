// y = x W^T in fp32 for weights of any encoding and shape: what no faster kernel takes.
//
// For fp32 weights and for sizes that fit no tensor core's tile; slow, right, and within fp32's
// rounding of the reference. Device memory; the launch's error is returned. Any thread may call.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/device_types.h"

namespace vernier::cuda {

// `x` [rows, weight.cols] and `y` [rows, weight.rows] are fp32.
cudaError_t LaunchLinearPlain(const DeviceWeight& weight, const Matrix& x, const Matrix& y,
                              int rows, cudaStream_t stream);

}  // namespace vernier::cuda
