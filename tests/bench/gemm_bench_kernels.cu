// Fills, compares and reads: the kernels of the benchmark itself.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/packed_layout.h"
#include "tests/bench/gemm_bench_kernels.h"

namespace vernier::bench {
namespace {

constexpr int kThreads = 256;
constexpr int kFillBlocks = 1024;

// SplitMix64's finalizer.
__device__ inline uint64_t Mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

__device__ inline float UniformAt(uint64_t seed, int64_t i) {  // in [0, 1)
  return static_cast<float>(Mix(seed ^ Mix(static_cast<uint64_t>(i))) >> 40) * (1.0f / (1 << 24));
}

// Each fills `count` values of `out` from `seed`.
__global__ void FillBytesKernel(uint8_t* out, int64_t count, uint64_t seed, int lowest) {
  for (int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    out[i] = static_cast<uint8_t>(
        lowest + static_cast<int>(UniformAt(seed, i) * static_cast<float>(lowest < 0 ? 255 : 256)));
  }
}
__global__ void FillFloatsKernel(float* out, int64_t count, uint64_t seed, float low, float high) {
  for (int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    out[i] = low + (high - low) * UniformAt(seed, i);
  }
}
template <class Scalar>
__global__ void FillScalarsKernel(Scalar* out, int64_t count, uint64_t seed) {  // in [-1, 1)
  for (int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    out[i] = static_cast<Scalar>(2 * UniformAt(seed, i) - 1);
  }
}
__constant__ float kNf4Reference[16] = {-1.0f,
                                        -0.6961928009986877f,
                                        -0.5250730514526367f,
                                        -0.39491748809814453f,
                                        -0.28444138169288635f,
                                        -0.18477343022823334f,
                                        -0.09105003625154495f,
                                        0.0f,
                                        0.07958029955625534f,
                                        0.16093020141124725f,
                                        0.24611230194568634f,
                                        0.33791524171829224f,
                                        0.44070982933044434f,
                                        0.5626170039176941f,
                                        0.7229568362236023f,
                                        1.0f};

template <class Scalar>
__device__ inline double ValueAt(const CanonicalWeight& weight, int64_t output, int64_t input) {
  const int64_t i = output * weight.inputs + input;
  if (weight.values != nullptr)
    return static_cast<float>(static_cast<const Scalar*>(weight.values)[i]);
  if (!weight.four_bits) {
    return static_cast<double>(static_cast<int8_t>(weight.codes[i])) * weight.scales[output];
  }
  const int code = i % 2 == 0 ? weight.codes[i / 2] >> 4 : weight.codes[i / 2] & 15;
  const double value = weight.linear ? code - 8 : static_cast<double>(kNf4Reference[code]);
  return value * weight.scales[i / weight.group];
}

template <class Scalar>
__device__ inline double XAt(const GivenX& x, int row, int inputs, int k) {
  const int64_t first = static_cast<int64_t>(row) * inputs;
  if (x.scales == nullptr)
    return static_cast<float>(static_cast<const Scalar*>(x.values)[first + k]);
  const int8_t code = static_cast<const int8_t*>(x.values)[first + cuda::Int8XPosition(k)];
  return static_cast<double>(code) * x.scales[row];
}

// A warp an output, each `step`th row of x; the square of the error and of the reference into
// `squares`.
template <class Scalar>
__global__ void Compare(CanonicalWeight weight, GivenX x, const Scalar* y, int rows, int step,
                        double* squares) {
  const int output = (blockIdx.x * kThreads + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  if (output >= weight.outputs) return;
  const bool exact = x.scales != nullptr;  // but for rounding, below the least normal number too
  for (int row = 0; row < rows; row += step) {
    double sum = 0;
    for (int k = lane; k < weight.inputs; k += 32) {
      sum += ValueAt<Scalar>(weight, output, k) * XAt<Scalar>(x, row, weight.inputs, k);
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (lane != 0) continue;
    const double got = static_cast<float>(y[static_cast<int64_t>(row) * weight.outputs + output]);
    const double difference = got - sum;
    const bool wrong =
        isnan(difference) || (exact && fabs(difference) > 0x1.004p-11 * fabs(sum) + 0x1p-25);
    atomicAdd(&squares[0], wrong ? 1e300 : difference * difference);
    atomicAdd(&squares[1], sum * sum);
  }
}

__global__ void ReadAllKernel(const uint4* data, int64_t count, uint32_t* out) {
  uint32_t sum = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  for (; i + 3 * stride < count; i += 4 * stride) {
    uint4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = __ldcs(data + i + j * stride);
#pragma unroll
    for (int j = 0; j < 4; ++j) sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < count; i += stride) sum += data[i].x;
  if (sum == 0x12345678) *out = sum;  // keeps the reads
}

}  // namespace

void FillBytes(uint8_t* out, int64_t count, uint64_t seed, bool whole_range) {
  FillBytesKernel<<<kFillBlocks, kThreads>>>(out, count, seed, whole_range ? 0 : -127);
}

void FillFloats(float* out, int64_t count, uint64_t seed, float low, float high) {
  FillFloatsKernel<<<kFillBlocks, kThreads>>>(out, count, seed, low, high);
}

void FillScalars(void* out, int64_t count, uint64_t seed, bool bf16) {
  if (bf16) {
    FillScalarsKernel<<<kFillBlocks, kThreads>>>(static_cast<__nv_bfloat16*>(out), count, seed);
  } else {
    FillScalarsKernel<<<kFillBlocks, kThreads>>>(static_cast<__half*>(out), count, seed);
  }
}

void AddSquares(const CanonicalWeight& weight, const GivenX& x, const void* y, int rows, bool bf16,
                double* squares) {
  constexpr int kMostRows = 256;
  const int step = rows > kMostRows ? rows / kMostRows | 1 : 1;  // odd: all places in a tile
  const unsigned grid =
      static_cast<unsigned>((weight.outputs + kThreads / 32 - 1) / (kThreads / 32));
  if (bf16) {
    Compare<<<grid, kThreads>>>(weight, x, static_cast<const __nv_bfloat16*>(y), rows, step,
                                squares);
  } else {
    Compare<<<grid, kThreads>>>(weight, x, static_cast<const __half*>(y), rows, step, squares);
  }
}

void ReadAll(const void* data, int64_t bytes, uint32_t* out, cudaStream_t stream) {
  constexpr int kBlocks = 132 * 8;
  ReadAllKernel<<<kBlocks, kThreads, 0, stream>>>(static_cast<const uint4*>(data), bytes / 16, out);
}

}  // namespace vernier::bench
