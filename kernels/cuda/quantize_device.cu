// Runs once a weight at load: a thread a value, a block of threads a row of int8, a thread a pair
// of codes and a warp a block of NF4. Plain IEEE arithmetic in quantize.cc's order.
#include <type_traits>
#include <utility>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/packed_layout.h"
#include "kernels/cuda/quantize_device.h"
#include "kernels/nf4_values.h"

namespace vernier::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kMostBlocks = 8192;
constexpr int kNf4BlockValues = 64;
constexpr uint8_t kNf4Zero = 7;

unsigned BlocksFor(int64_t items) {
  const int64_t blocks = (items + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks);
}

__global__ void CheckLimit(const float* values, int64_t count, float limit, int32_t* bad) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride) {
    if (!(fabsf(values[i]) <= limit)) *bad = 1;
  }
}

__global__ void EncodeScalars(const float* values, int64_t count, Scalar type, void* out) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride) {
    Store(out, type, i, values[i]);
  }
}

__global__ void EncodeInt8(const float* values, int64_t cols, uint8_t* codes, float* scales) {
  __shared__ float reduced[kWarpLanes];
  const int64_t row = blockIdx.x;
  const float* in = values + row * cols;
  float absmax = 0;
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) absmax = fmaxf(absmax, fabsf(in[i]));
  absmax = ReduceBlock(absmax, reduced, Larger());
  if (threadIdx.x == 0) {
    float scale = absmax / 127;
    // As on the host: near the largest float the quotient may have been rounded up too far.
    if (isinf(scale * 127)) scale = nextafterf(scale, 0.0f);
    scales[row] = scale;
  }
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) {
    const int code = absmax == 0 ? 0 : __double2int_rn(in[i] * 127.0 / absmax);
    codes[row * cols + i] = static_cast<uint8_t>(static_cast<int8_t>(code));
  }
}

// Each threshold is a constant of the instruction: device code cannot index a host's array.
template <int... kIndex>
__device__ uint8_t CountBelow(float x, std::integer_sequence<int, kIndex...>) {
  const auto above = [x](auto index) {
    constexpr float kThreshold = kNf4Thresholds[decltype(index)::value];
    return x > kThreshold;
  };
  return static_cast<uint8_t>((0 + ... + above(std::integral_constant<int, kIndex>())));
}

__device__ uint8_t Nf4Code(float value, float inverse) {
  return CountBelow(value * inverse, std::make_integer_sequence<int, 15>());
}

__global__ void EncodeNf4(const float* values, int64_t count, uint8_t* codes, float* absmax) {
  const int lane = threadIdx.x % kWarpLanes;
  const int64_t block = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarpLanes;
  const int64_t at = block * kNf4BlockValues + 2 * lane;
  if (block * kNf4BlockValues >= count) return;
  const bool has_first = at < count, has_second = at + 1 < count;
  const float first = has_first ? values[at] : 0.0f;
  const float second = has_second ? values[at + 1] : 0.0f;
  const float largest = ReduceWarp(fmaxf(fabsf(first), fabsf(second)), Larger());
  // Infinite for a block of zeros: every product is then no number, above no threshold, code 0.
  const float inverse = 1.0f / largest;
  if (lane == 0) absmax[block] = largest;
  if (!has_first) return;
  const uint8_t low = has_second ? Nf4Code(second, inverse) : kNf4Zero;
  codes[at / 2] = static_cast<uint8_t>(Nf4Code(first, inverse) << 4 | low);
}

}  // namespace

cudaError_t LaunchCheckLimit(const float* values, int64_t count, float limit, int32_t* bad,
                             cudaStream_t stream) {
  CheckLimit<<<BlocksFor(count), kThreads, 0, stream>>>(values, count, limit, bad);
  return cudaGetLastError();
}

cudaError_t LaunchEncodeScalars(const float* values, int64_t count, Scalar type, void* out,
                                cudaStream_t stream) {
  EncodeScalars<<<BlocksFor(count), kThreads, 0, stream>>>(values, count, type, out);
  return cudaGetLastError();
}

cudaError_t LaunchEncodeInt8(const float* values, int64_t rows, int64_t cols, uint8_t* codes,
                             float* scales, cudaStream_t stream) {
  EncodeInt8<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(values, cols, codes, scales);
  return cudaGetLastError();
}

cudaError_t LaunchEncodeNf4(const float* values, int64_t count, uint8_t* codes, float* absmax,
                            cudaStream_t stream) {
  const int64_t blocks = (count + kNf4BlockValues - 1) / kNf4BlockValues;
  constexpr int kBlocksPerGrid = kThreads / kWarpLanes;
  EncodeNf4<<<static_cast<unsigned>((blocks + kBlocksPerGrid - 1) / kBlocksPerGrid), kThreads, 0,
              stream>>>(values, count, codes, absmax);
  return cudaGetLastError();
}

}  // namespace vernier::cuda
