// The gate of a layer, and rows on their way to int8, of 16-bit values: eight a load, all loads of
// a thread under way at once. Bound by memory.
//
//   to int8:  a block of threads a row, which it holds in registers until its largest magnitude is
//             known; thread t has eights t, t + threads, ..
//
// Limits: what TakesEights and TakesEightsToInt8 say; elementwise.cu takes the rest.
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gating.cuh"
#include "kernels/cuda/int8_rows.cuh"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = kEight;

__device__ uint4 LoadEight(const Matrix& from, int64_t row, int64_t i) {
  return *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(from.data) +
                                         row * from.stride + i);
}

template <class Scalar, bool kSilu>
__global__ void GateEightsKernel(const ActivateParameters p) {
  AwaitKernelAhead();
  const int64_t row = blockIdx.x;
  const int64_t i = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kEach;
  if (i >= p.width) return;
  float h[kEach];
  GateEight<Scalar, kSilu>(p.kind, LoadEight(p.gate, row, i), LoadEight(p.up, row, i), h);
  *reinterpret_cast<uint4*>(static_cast<uint16_t*>(p.out.data) + row * p.out.stride + i) =
      NarrowEight<Scalar>(h);
}

// make(i, v) gives eight i of the row; what a thread has past the last one is zero.
template <int kEights, class Make>
__device__ void RowToInt8(int64_t width, const Int8Rows& to, const Make& make) {
  __shared__ uint32_t magnitudes[kWarpLanes];
  const int64_t row = blockIdx.x, eights = width / kEach;
  float values[kEights][kEach];
  make(eights, values);
  uint32_t largest = 0;
#pragma unroll
  for (int j = 0; j < kEights; ++j) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) largest = max(largest, MagnitudeOf(values[j][i]));
  }
  const Int8Scale scale = Int8ScaleOf(ReduceBlock(largest, magnitudes, Larger()));
  if (threadIdx.x == 0) to.scales[row] = scale.scale;
#pragma unroll
  for (int j = 0; j < kEights; ++j) {
    StoreInt8Eight(to.codes + row * width, threadIdx.x + j * static_cast<int>(blockDim.x), eights,
                   values[j], scale.inverse);
  }
}

// The row's eights of this thread.
template <int kEights>
__device__ void LoadEights(const Matrix& from, int64_t eights, uint4 (&raw)[kEights]) {
#pragma unroll
  for (int j = 0; j < kEights; ++j) {
    const int eight = threadIdx.x + j * static_cast<int>(blockDim.x);
    raw[j] = eight < eights ? LoadEight(from, blockIdx.x, int64_t{eight} * kEach) : uint4{};
  }
}

template <class Scalar, bool kSilu, int kEights, int kMostThreads, int kBlocks>
__global__ void __launch_bounds__(kMostThreads, kBlocks)
    GateToInt8Kernel(const ActivateParameters p) {
  AwaitKernelAhead();
  RowToInt8<kEights>(p.width, p.int8, [&](int64_t eights, float(&values)[kEights][kEach]) {
    uint4 gates[kEights], ups[kEights];
    LoadEights(p.gate, eights, gates);
    LoadEights(p.up, eights, ups);
#pragma unroll
    for (int j = 0; j < kEights; ++j) GateEight<Scalar, kSilu>(p.kind, gates[j], ups[j], values[j]);
  });
}

template <class Scalar, int kEights>
__global__ void __launch_bounds__(kThreads)
    RoundToInt8Kernel(const Matrix from, const Int8Rows to, int64_t width) {
  AwaitKernelAhead();
  RowToInt8<kEights>(width, to, [&](int64_t eights, float(&values)[kEights][kEach]) {
    uint4 raw[kEights];
    LoadEights(from, eights, raw);
#pragma unroll
    for (int j = 0; j < kEights; ++j) WidenEight<Scalar>(raw[j], values[j]);
  });
}

// As many as `eights` take at `each` a thread, in whole warps.
int ThreadsOf(int64_t eights, int each) {
  const int64_t threads = (eights + each - 1) / each;
  return static_cast<int>((threads + kWarpLanes - 1) / kWarpLanes * kWarpLanes);
}

bool IsInEights(const Matrix& m) {
  return m.type != Scalar::kF32 && m.stride % kEach == 0 &&
         reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
}

// Rows of up to 14,336 values leave room for a second block of threads a multiprocessor.
constexpr int kShortEights = 4, kShortThreads = 448;
constexpr int kLongEights = 8, kLongThreads = 512;

template <class Scalar, bool kSilu>
cudaError_t Gate(const ActivateParameters& p, int rows, cudaStream_t stream) {
  const int64_t eights = p.width / kEach;
  if (p.int8.codes == nullptr) {
    const dim3 grid(rows, static_cast<unsigned>((eights + kThreads - 1) / kThreads));
    return LaunchAfter(GateEightsKernel<Scalar, kSilu>, grid, kThreads, 0, stream, p);
  }
  if (eights <= kShortEights * kShortThreads) {
    return LaunchAfter(GateToInt8Kernel<Scalar, kSilu, kShortEights, kShortThreads, 2>, dim3(rows),
                       ThreadsOf(eights, kShortEights), 0, stream, p);
  }
  return LaunchAfter(GateToInt8Kernel<Scalar, kSilu, kLongEights, kLongThreads, 1>, dim3(rows),
                     ThreadsOf(eights, kLongEights), 0, stream, p);
}

}  // namespace

bool TakesEights(const ActivateParameters& p) {
  return p.gate.data != nullptr && p.gate_bias == nullptr && p.up_bias == nullptr &&
         p.width % kEach == 0 && p.gate.type == p.out.type && p.up.type == p.out.type &&
         IsInEights(p.gate) && IsInEights(p.up) && IsInEights(p.out);
}

cudaError_t LaunchGateEights(const ActivateParameters& p, int rows, cudaStream_t stream) {
  const bool silu = p.kind == Gating::kSilu;
  if (p.out.type == Scalar::kF16) {
    return silu ? Gate<__half, true>(p, rows, stream) : Gate<__half, false>(p, rows, stream);
  }
  return silu ? Gate<__nv_bfloat16, true>(p, rows, stream)
              : Gate<__nv_bfloat16, false>(p, rows, stream);
}

bool TakesEightsToInt8(const Matrix& from, int64_t width) {
  return from.type == Scalar::kF16 && IsInEights(from) && width <= 2 * kThreads * kEach;
}

cudaError_t LaunchEightsToInt8(const Matrix& from, const Int8Rows& to, int64_t width, int rows,
                               cudaStream_t stream) {
  return LaunchAfter(RoundToInt8Kernel<__half, 2>, dim3(rows), ThreadsOf(width / kEach, 2), 0,
                     stream, from, to, width);
}

}  // namespace vernier::cuda
