// Codes of the cache to and from fp32: one head by a warp. Bits as EncodeKvHead of kv_type.h.
#pragma once

#include <cfloat>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/int8_rows.cuh"
#include "kernels/cuda/kv_layer.h"

namespace vernier::cuda {

struct DeviceKvScale {
  float scale = 1;
  float inverse = 1;
};

// KvScaleOf of int8 of a head whose largest magnitude has these bits.
__device__ inline DeviceKvScale Int8ScaleOfLargest(uint32_t most) {
  const float largest = __uint_as_float(most);
  if (!(largest <= FLT_MAX)) return {__uint_as_float(0x7fc00000u), 0};
  const float inverse = __fdiv_rn(127.0f, largest);
  if (!(inverse <= FLT_MAX)) return {0, 0};
  return {__fdiv_rn(largest, 127.0f), inverse};
}
// Of a head that a warp holds, `dim` values.
__device__ inline DeviceKvScale Int8ScaleOf(const float* values, int dim) {
  // As whole numbers magnitudes keep their order, and what is not finite is above them all.
  uint32_t most = 0;
  for (int i = threadIdx.x % kWarpLanes; i < dim; i += kWarpLanes) {
    most = max(most, MagnitudeOf(values[i]));
  }
  return Int8ScaleOfLargest(__reduce_max_sync(0xffffffffu, most));
}

// A warp stores one head of a slot; `head` is its first byte.
__device__ inline void StoreKvHead(KvCode code, const float* values, int dim, int slot,
                                   uint8_t* head) {
  const int lane = threadIdx.x % kWarpLanes;
  DeviceKvScale scale;
  if (code == KvCode::kInt8) {
    scale = Int8ScaleOf(values, dim);
    if (lane == 0) {
      *reinterpret_cast<float*>(head + ScaleOffset(code, dim, slot)) = scale.scale;
    }
  }
  for (int i = lane; i < dim; i += kWarpLanes) {
    uint8_t* to = head + CodeOffset(code, dim, slot, i);
    switch (code) {
      case KvCode::kF32:
        *reinterpret_cast<float*>(to) = values[i];
        break;
      case KvCode::kF16:
        *reinterpret_cast<__half*>(to) = __float2half_rn(values[i]);
        break;
      case KvCode::kBF16:
        *reinterpret_cast<__nv_bfloat16*>(to) = __float2bfloat16_rn(values[i]);
        break;
      case KvCode::kInt8:
        *to = static_cast<uint8_t>(Int8CodeOf(values[i], scale.inverse));
        break;
    }
  }
}

// Value i of a slot, which KvScaleAt is yet to be multiplied with.
__device__ inline float LoadKv(KvCode code, const uint8_t* head, int dim, int slot, int i) {
  const uint8_t* from = head + CodeOffset(code, dim, slot, i);
  switch (code) {
    case KvCode::kF32:
      break;
    case KvCode::kF16:
      return __half2float(*reinterpret_cast<const __half*>(from));
    case KvCode::kBF16:
      return __bfloat162float(*reinterpret_cast<const __nv_bfloat16*>(from));
    case KvCode::kInt8:
      return static_cast<float>(*reinterpret_cast<const int8_t*>(from));
  }
  return *reinterpret_cast<const float*>(from);
}
__device__ inline float KvScaleAt(KvCode code, const uint8_t* head, int dim, int slot) {
  if (ScaleBytes(code) == 0) return 1;
  return *reinterpret_cast<const float*>(head + ScaleOffset(code, dim, slot));
}

}  // namespace vernier::cuda
