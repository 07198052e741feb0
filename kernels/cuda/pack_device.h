// Packs canonical codes and scales into the kernels' layout on the device, as pack.h defines it.
//
// All pointers are device memory; work is queued on `stream`. Returns the launch's error. Any
// thread may call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace vernier::cuda {

// `codes` [rows * cols / 2] and `absmax` [rows * cols / 64] as bitsandbytes stores them, into
// `records` [PackedBytes(kNf4, rows, cols)]. REQUIRES: cols a multiple of 64.
cudaError_t LaunchPackNf4(const uint8_t* codes, const float* absmax, int64_t rows, int64_t cols,
                          uint8_t* records, cudaStream_t stream);

// `codes` [rows * cols / 2] and `scales` [rows, cols / group] of an Int4Matrix (pack.h) into
// `records` [PackedBytes(kInt4, rows, cols)]. REQUIRES: what PackInt4 checks.
cudaError_t LaunchPackInt4(const uint8_t* codes, const float* scales, int64_t group, int64_t rows,
                           int64_t cols, uint8_t* records, cudaStream_t stream);

// `codes` [rows, cols] int8 into `records` [PackedBytes(kInt8, rows, cols)]. The row scales stay as
// they are.
cudaError_t LaunchPackInt8(const int8_t* codes, int64_t rows, int64_t cols, uint8_t* records,
                           cudaStream_t stream);

}  // namespace vernier::cuda
