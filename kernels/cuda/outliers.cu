// LLM.int8's outlier columns: a kernel that marks them, a block of threads a row; one that rounds
// the rows without them, while its last block lists what was marked; and after the product one that
// adds theirs, a thread an output of some rows. Which bits are set does not depend on who comes
// first, and columns are listed and added in ascending order: two runs give the same bits.
//
// Few columns are outliers, so that their weights are read byte by byte where they lie. The sum of
// a product is rounded to fp16 before theirs is added, as bitsandbytes does.
#include "kernels/cuda/int8_rows.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/outliers.h"
#include "kernels/cuda/weight_decode.cuh"
#include "kernels/llm_int8.h"

namespace vernier::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kAddThreads = 128;
constexpr int kAddRows = 8;  // that a thread adds at once

// Not of what is no number, which counts for the row's scale.
__device__ bool IsOutlier(float value) { return fabsf(value) >= kOutlierThreshold; }

__device__ float ValueAt(const OutlierRows& rows, int64_t row, int64_t column) {
  return Load(rows.x.data, Scalar::kF16, row * rows.x.stride + column);
}

__global__ void __launch_bounds__(kThreads)
    MarkKernel(const OutlierRows rows, const OutlierList list, const Int8Rows int8) {
  __shared__ uint32_t magnitudes[kWarpLanes];
  AwaitKernelAhead();
  const int64_t row = blockIdx.x;
  const bool marks = rows.slots == nullptr || rows.slots[row] != rows.padding_slot;
  uint32_t largest = 0;
  for (int64_t i = threadIdx.x; i < rows.width; i += kThreads) {
    const float value = ValueAt(rows, row, i);
    if (!IsOutlier(value)) {
      largest = max(largest, MagnitudeOf(value));
    } else if (marks) {
      atomicOr(list.bits + i / 32, 1u << i % 32);
    }
  }
  largest = ReduceBlock(largest, magnitudes, Larger());
  if (threadIdx.x == 0) int8.scales[row] = Int8ScaleOf(largest).scale;
}

// By one warp.
__device__ void ListColumns(const OutlierList& list, int64_t width) {
  const int lane = threadIdx.x % kWarpLanes;
  const int64_t words = (width + 31) / 32;
  int count = 0;
  for (int64_t first = 0; first < words; first += kWarpLanes) {
    const int64_t word = first + lane;
    uint32_t bits = word < words ? list.bits[word] : 0;
    int before = __popc(bits);  // of this lane and those ahead of it
    for (int offset = 1; offset < kWarpLanes; offset *= 2) {
      const int other = __shfl_up_sync(~0u, before, offset);
      if (lane >= offset) before += other;
    }
    const int all = __shfl_sync(~0u, before, kWarpLanes - 1);
    for (int at = count + before - __popc(bits); bits != 0; bits &= bits - 1, ++at) {
      list.columns[1 + at] = static_cast<int32_t>(word * 32 + __ffs(static_cast<int>(bits)) - 1);
    }
    count += all;
  }
  if (lane == 0) list.columns[0] = count;
}

__global__ void __launch_bounds__(kThreads)
    RoundKernel(const OutlierRows rows, const OutlierList list, const Int8Rows int8) {
  AwaitKernelAhead();
  if (blockIdx.x == rows.rows) {
    if (threadIdx.x < kWarpLanes) ListColumns(list, rows.width);
    return;
  }
  const int64_t row = blockIdx.x, quads = rows.width / 4;
  const float scale = int8.scales[row], inverse = scale > 0 ? 1 / scale : 0;
  for (int64_t begin = 0; begin < quads; begin += kThreads) {  // whole warps
    const int64_t quad = begin + threadIdx.x;
    float values[4] = {};
    for (int i = 0; i < 4 && quad < quads; ++i) {
      const int64_t column = quad * 4 + i;
      const bool kept_out = (list.bits[column / 32] >> column % 32 & 1) != 0;
      const float value = ValueAt(rows, row, column);
      values[i] = kept_out || IsOutlier(value) ? 0 : value;
    }
    StoreInt8Quad(int8.codes + row * rows.width, quad, quads,
                  {values[0], values[1], values[2], values[3]}, inverse);
  }
}

__global__ void __launch_bounds__(kAddThreads)
    AddKernel(const DeviceWeight weight, const OutlierRows rows, const OutlierList list,
              const Matrix y) {
  AwaitKernelAhead();
  // For the next list: nobody reads them after the rows were rounded.
  if (blockIdx.x == 0 && blockIdx.y == 0) {
    for (int64_t i = threadIdx.x; i < (rows.width + 31) / 32; i += kAddThreads) list.bits[i] = 0;
  }
  const int count = list.columns[0];
  const int64_t output = static_cast<int64_t>(blockIdx.x) * kAddThreads + threadIdx.x;
  if (count == 0 || output >= weight.rows) return;
  const int first = blockIdx.y * kAddRows;
  float sums[kAddRows] = {};
  for (int i = 0; i < count; ++i) {
    const int32_t column = list.columns[1 + i];
    const float of_weight = Decode(weight, output, column);
#pragma unroll
    for (int r = 0; r < kAddRows; ++r) {
      if (first + r < rows.rows) sums[r] += of_weight * ValueAt(rows, first + r, column);
    }
  }
#pragma unroll
  for (int r = 0; r < kAddRows; ++r) {
    if (first + r >= rows.rows) continue;
    const int64_t at = static_cast<int64_t>(first + r) * y.stride + output;
    Store(y.data, Scalar::kF16, at, Load(y.data, Scalar::kF16, at) + sums[r]);
  }
}

}  // namespace

cudaError_t LaunchSplitOutliers(const OutlierRows& rows, const OutlierList& list,
                                const Int8Rows& int8, cudaStream_t stream) {
  const cudaError_t error =
      LaunchAfter(MarkKernel, dim3(rows.rows), kThreads, 0, stream, rows, list, int8);
  if (error != cudaSuccess) return error;
  return LaunchAfter(RoundKernel, dim3(rows.rows + 1), kThreads, 0, stream, rows, list, int8);
}

cudaError_t LaunchAddOutliers(const DeviceWeight& weight, const OutlierRows& rows,
                              const OutlierList& list, const Matrix& y, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((weight.rows + kAddThreads - 1) / kAddThreads),
                  (rows.rows + kAddRows - 1) / kAddRows);
  return LaunchAfter(AddKernel, grid, kAddThreads, 0, stream, weight, rows, list, y);
}

}  // namespace vernier::cuda
