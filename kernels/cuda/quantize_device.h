// Encodes fp32 rows on the device, to the bit as quantize.cc does on the host.
//
// All pointers are device memory; work is queued on `stream` and the launch's error returned. Any
// thread may call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/device_types.h"

namespace vernier::cuda {

// `*bad` becomes 1 where a magnitude of `values` [count] is above `limit` or no number.
cudaError_t LaunchCheckLimit(const float* values, int64_t count, float limit, int32_t* bad,
                             cudaStream_t stream);
// In 16 bits or 32, to nearest even.
cudaError_t LaunchEncodeScalars(const float* values, int64_t count, Scalar type, void* out,
                                cudaStream_t stream);
// `codes` [rows, cols] int8 and `scales` [rows].
cudaError_t LaunchEncodeInt8(const float* values, int64_t rows, int64_t cols, uint8_t* codes,
                             float* scales, cudaStream_t stream);
// `values` begin at a block of 64. `codes` [ceil(count / 2)], `absmax` [ceil(count / 64)].
cudaError_t LaunchEncodeNf4(const float* values, int64_t count, uint8_t* codes, float* absmax,
                            cudaStream_t stream);

}  // namespace vernier::cuda
