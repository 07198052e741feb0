// A warp an output: its lanes share the inputs, and each decoded weight multiplies up to 8 rows of
// x.
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_plain.h"
#include "kernels/cuda/weight_decode.cuh"

namespace vernier::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kTileRows8 = 8;  // rows of x

__global__ void LinearPlainKernel(const DeviceWeight weight, const Matrix x, const Matrix y,
                                  int rows) {
  AwaitKernelAhead();
  const int lane = threadIdx.x % kWarpLanes;
  const int64_t output = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpLanes;
  if (output >= weight.rows) return;
  const int first = blockIdx.y * kTileRows8;
  const int count = min(kTileRows8, rows - first);
  const float* x_rows = static_cast<const float*>(x.data) + first * x.stride;
  float sums[kTileRows8] = {};
  for (int64_t i = lane; i < weight.cols; i += kWarpLanes) {
    const float w = Decode(weight, output, i);
#pragma unroll
    for (int r = 0; r < kTileRows8; ++r) {
      if (r < count) sums[r] = __fmaf_rn(w, x_rows[r * x.stride + i], sums[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < kTileRows8; ++r) {
    const float sum = ReduceWarp(sums[r], Add());
    if (lane == 0 && r < count) static_cast<float*>(y.data)[(first + r) * y.stride + output] = sum;
  }
}

}  // namespace

cudaError_t LaunchLinearPlain(const DeviceWeight& weight, const Matrix& x, const Matrix& y,
                              int rows, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((weight.rows + kWarps - 1) / kWarps),
                  (rows + kTileRows8 - 1) / kTileRows8);
  return LaunchAfter(LinearPlainKernel, grid, kWarps * kWarpLanes, 0, stream, weight, x, y, rows);
}

}  // namespace vernier::cuda
