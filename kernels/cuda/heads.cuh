// From what the products of q, k and v made to heads: biases, norms, rotation.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/elementwise.h"

namespace vernier::cuda {

// Cosine and sine of a pair at `position`.
__device__ inline float2 TurnOf(float position, float inverse_frequency) {
  float2 turn;
  sincosf(position * inverse_frequency, &turn.y, &turn.x);
  return turn;
}

// Cosine and sine of each pair of a row at `position`, by the whole block.
__device__ inline void MakeTurns(const HeadsParameters& p, float position, float2* turns) {
  for (int i = threadIdx.x; i < p.rotated_pairs; i += blockDim.x) {
    turns[i] = TurnOf(position, p.inverse_frequencies[i]);
  }
}

__device__ inline float NormOfHead(const DeviceNorm& norm, int size, const float* head,
                                   float* mean) {
  const int lane = threadIdx.x % kWarpLanes;
  *mean = 0;
  if (norm.centered) {
    for (int i = lane; i < size; i += kWarpLanes) *mean += head[i];
    *mean = ReduceWarp(*mean, Add()) / static_cast<float>(size);
  }
  float squares = 0;
  for (int i = lane; i < size; i += kWarpLanes) squares += (head[i] - *mean) * (head[i] - *mean);
  return 1 / sqrtf(ReduceWarp(squares, Add()) / static_cast<float>(size) + norm.epsilon);
}

// Where a head comes from: q's first, then k's, then v's. Values, as no register can point at a
// kernel's parameters.
struct HeadSource {
  const void* data;
  Scalar type;
  int64_t at;  // of the head's first value of row 0, and how far rows are apart
  int64_t stride;
  const float* bias;  // null: none
  DeviceNorm norm;    // no weight: none

  __device__ static HeadSource Of(const HeadsParameters& p, int head) {
    const int heads = p.shape.num_heads, kv_heads = p.shape.num_kv_heads, dim = p.shape.head_dim;
    if (head < heads) return Of(p.q, p.q_bias, p.q_norm, head * dim);
    if (head < heads + kv_heads) return Of(p.k, p.k_bias, p.k_norm, (head - heads) * dim);
    return Of(p.v, p.v_bias, {}, (head - heads - kv_heads) * dim);
  }

 private:
  __device__ static HeadSource Of(const Matrix& from, const float* bias, const DeviceNorm& norm,
                                  int column) {
    return {from.data, from.type, column, from.stride, bias == nullptr ? bias : bias + column,
            norm};
  }
};

// From what the product made to a head, in place, by a warp whose own `values` [dim] are. `pairs`
// are rotated.
__device__ inline void FinishHead(const HeadSource& source, int dim, int pairs, const float2* turns,
                                  float* values) {
  const int lane = threadIdx.x % kWarpLanes;
  const DeviceNorm& norm = source.norm;
  __syncwarp();
  if (source.bias != nullptr) {
    for (int i = lane; i < dim; i += kWarpLanes) values[i] += source.bias[i];
    __syncwarp();
  }
  if (norm.weight != nullptr) {
    float mean = 0;
    const float scale = NormOfHead(norm, dim, values, &mean);
    for (int i = lane; i < dim; i += kWarpLanes) {
      values[i] = (values[i] - mean) * scale * norm.weight[i] +
                  (norm.bias == nullptr ? 0.0f : norm.bias[i]);
    }
    __syncwarp();
  }
  for (int i = lane; i < pairs; i += kWarpLanes) {
    const float a = values[i], b = values[i + pairs];
    const float2 turn = turns[i];
    values[i] = a * turn.x - b * turn.y;
    values[i + pairs] = b * turn.x + a * turn.y;
  }
  __syncwarp();
}

// Pairs of a head that are rotated: none of v's.
__device__ inline int PairsOf(const HeadsParameters& p, int head) {
  return head < p.shape.num_heads + p.shape.num_kv_heads ? p.rotated_pairs : 0;
}

// A warp makes a head of any size. `values` [head_dim] is the warp's own.
__device__ inline void MakeHead(const HeadsParameters& p, int64_t row, int head,
                                const float2* turns, float* values) {
  const HeadSource source = HeadSource::Of(p, head);
  for (int i = threadIdx.x % kWarpLanes; i < p.shape.head_dim; i += kWarpLanes) {
    values[i] = Load(source.data, source.type, row * source.stride + source.at + i);
  }
  FinishHead(source, p.shape.head_dim, PairsOf(p, head), turns, values);
}

// A head's values as the product left them, a lane's every 32nd: asked for, not yet looked at, so
// that those of several heads are under way at once.
template <int kHeadDim>
struct RawHead {
  uint32_t bits[kHeadDim / kWarpLanes];

  __device__ void Ask(const HeadSource& source, int64_t row) {
    const int64_t at = row * source.stride + source.at + threadIdx.x % kWarpLanes;
#pragma unroll
    for (int i = 0; i < kHeadDim / kWarpLanes; ++i) {
      bits[i] = source.type == Scalar::kF32
                    ? __ldcg(static_cast<const uint32_t*>(source.data) + at + i * kWarpLanes)
                    : __ldcg(static_cast<const uint16_t*>(source.data) + at + i * kWarpLanes);
    }
  }
  __device__ void Put(Scalar type, float* values) const {
#pragma unroll
    for (int i = 0; i < kHeadDim / kWarpLanes; ++i) {
      values[threadIdx.x % kWarpLanes + i * kWarpLanes] =
          type == Scalar::kF32   ? __uint_as_float(bits[i])
          : type == Scalar::kF16 ? WidenPair<__half>(bits[i]).x
                                 : WidenPair<__nv_bfloat16>(bits[i]).x;
    }
  }
};

}  // namespace vernier::cuda
