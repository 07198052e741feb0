// LLM.int8's outlier columns (kernels/llm_int8.h): found, kept out of int8 x, and multiplied in
// fp16, all on the device: the host never knows how many there are.
//
// Device memory; work is queued on `stream`, the launch's error is returned. One stream at a time
// may use a list.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/device_types.h"
#include "kernels/cuda/elementwise.h"

namespace vernier::cuda {

// The columns of one x. Made of OutlierListBytes(width) zeroed bytes.
struct OutlierList {
  uint32_t* bits = nullptr;    // [(width + 31) / 32], zeros but while a list is made
  int32_t* columns = nullptr;  // [1 + width]: how many, then which, ascending
};
constexpr int64_t OutlierListBytes(int64_t width) {
  return (width + 31) / 32 * 4 + (1 + width) * 4;
}
inline OutlierList OutlierListAt(void* memory, int64_t width) {
  auto* const bits = static_cast<uint32_t*>(memory);
  return {bits, reinterpret_cast<int32_t*>(bits + (width + 31) / 32)};
}

struct OutlierRows {
  Matrix x;  // [rows, width] fp16, width a multiple of 16
  int64_t width = 0;
  int rows = 0;
  // Rows whose slot is `padding_slot` mark no column; null: none is padding.
  const int32_t* slots = nullptr;
  int32_t padding_slot = 0;
};
// Lists the columns, and leaves all others as int8 x.
cudaError_t LaunchSplitOutliers(const OutlierRows& rows, const OutlierList& list,
                                const Int8Rows& int8, cudaStream_t stream);
// y [rows, weight.rows] fp16 += what the listed columns give. REQUIRES: int8 records.
cudaError_t LaunchAddOutliers(const DeviceWeight& weight, const OutlierRows& rows,
                              const OutlierList& list, const Matrix& y, cudaStream_t stream);

}  // namespace vernier::cuda
