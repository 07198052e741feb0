// Loads, stores and reductions that the backend's own kernels share.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device_types.h"

namespace vernier::cuda {

inline constexpr int kWarpLanes = 32;

// Every kernel of the backend is queued with LaunchAfter (programmatic dependent launch): it may
// start while the kernel ahead on the stream still runs. Weights may be read at once. Everything
// else, and an early return too, comes after AwaitKernelAhead: the kernel behind relies on the end
// of all before, and a chain of such kernels may have started before the step's arrays were copied.
// Without these instructions, before Hopper, kernels are queued one after the other (launch.cuh).
__device__ inline void AllowKernelBehind() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ inline void AwaitKernelAhead() {
  AllowKernelBehind();
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline float Load(const void* data, Scalar type, int64_t i) {
  switch (type) {
    case Scalar::kF16:
      return __half2float(static_cast<const __half*>(data)[i]);
    case Scalar::kBF16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
    case Scalar::kF32:
      break;
  }
  return static_cast<const float*>(data)[i];
}

__device__ inline void Store(void* data, Scalar type, int64_t i, float value) {
  switch (type) {
    case Scalar::kF16:
      static_cast<__half*>(data)[i] = __float2half_rn(value);
      return;
    case Scalar::kBF16:
      static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(value);
      return;
    case Scalar::kF32:
      static_cast<float*>(data)[i] = value;
  }
}

// Four values at once; i is a multiple of 4 and the rows are aligned to it.
__device__ inline float4 Load4(const void* data, Scalar type, int64_t i) {
  if (type == Scalar::kF32)
    return *reinterpret_cast<const float4*>(static_cast<const float*>(data) + i);
  const uint2 bits = *reinterpret_cast<const uint2*>(static_cast<const uint16_t*>(data) + i);
  float2 low, high;
  if (type == Scalar::kF16) {
    low = __half22float2(*reinterpret_cast<const __half2*>(&bits.x));
    high = __half22float2(*reinterpret_cast<const __half2*>(&bits.y));
  } else {
    low = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.x));
    high = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.y));
  }
  return {low.x, low.y, high.x, high.y};
}

__device__ inline void Store4(void* data, Scalar type, int64_t i, const float4& v) {
  if (type == Scalar::kF32) {
    *reinterpret_cast<float4*>(static_cast<float*>(data) + i) = v;
    return;
  }
  uint2 bits;
  if (type == Scalar::kF16) {
    *reinterpret_cast<__half2*>(&bits.x) = __floats2half2_rn(v.x, v.y);
    *reinterpret_cast<__half2*>(&bits.y) = __floats2half2_rn(v.z, v.w);
  } else {
    *reinterpret_cast<__nv_bfloat162*>(&bits.x) = __floats2bfloat162_rn(v.x, v.y);
    *reinterpret_cast<__nv_bfloat162*>(&bits.y) = __floats2bfloat162_rn(v.z, v.w);
  }
  *reinterpret_cast<uint2*>(static_cast<uint16_t*>(data) + i) = bits;
}

// Two values of 16 bits, the lower half first.
template <class Value>
__device__ inline float2 WidenPair(uint32_t bits) {
  if constexpr (std::is_same_v<Value, __half>) {
    return __half22float2(*reinterpret_cast<const __half2*>(&bits));
  } else {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits));
  }
}
template <class Value>
__device__ inline uint32_t NarrowPair(const float2& v) {
  if constexpr (std::is_same_v<Value, __half>) {
    const __half2 pair = __floats2half2_rn(v.x, v.y);
    return *reinterpret_cast<const uint32_t*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(v.x, v.y);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
}

// Asked for here, past the L1 cache, however far away its use is.
__device__ inline float LoadNow(const float* from) {
  float value;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(from));
  return value;
}

// What every layer of a step reads anew: kept in the L2 cache while weights stream through it.
__device__ inline int4 LoadKept(const int4* from) {
  int4 v;
  asm volatile(
      "{\n"
      ".reg .b64 policy;\n"
      "createpolicy.fractional.L2::evict_last.b64 policy, 1.0;\n"
      "ld.global.L2::cache_hint.v4.b32 {%0, %1, %2, %3}, [%4], policy;\n"
      "}\n"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(from));
  return v;
}
__device__ inline int32_t LoadKept(const int32_t* from) {
  int32_t v;
  asm volatile(
      "{\n"
      ".reg .b64 policy;\n"
      "createpolicy.fractional.L2::evict_last.b64 policy, 1.0;\n"
      "ld.global.L2::cache_hint.b32 %0, [%1], policy;\n"
      "}\n"
      : "=r"(v)
      : "l"(from));
  return v;
}

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

template <class T, class Combine>
__device__ inline T ReduceWarp(T value, Combine combine) {
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

// Of all threads of the block, to all of them, always in the same order. `shared` [32] of T; may be
// used again at once.
template <class T, class Combine>
__device__ inline T ReduceBlock(T value, T* shared, Combine combine) {
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int warps = (blockDim.x + kWarpLanes - 1) / kWarpLanes;
  value = ReduceWarp(value, combine);
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  T total = shared[0];
  for (int i = 1; i < warps; ++i) total = combine(total, shared[i]);
  __syncthreads();
  return total;
}

}  // namespace vernier::cuda
