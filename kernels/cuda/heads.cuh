// From what the products of q, k and v made to heads: biases, norms, rotation.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/elementwise.h"

namespace vernier::cuda {

// Cosine and sine of each pair of a row at `position`, by the whole block.
__device__ inline void MakeTurns(const HeadsParameters& p, float position, float2* turns) {
  for (int i = threadIdx.x; i < p.rotated_pairs; i += blockDim.x) {
    float2 turn;
    sincosf(position * p.inverse_frequencies[i], &turn.y, &turn.x);
    turns[i] = turn;
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

// A warp makes a head: q's first, then k's, then v's. `values` [head_dim] is the warp's own.
__device__ inline void MakeHead(const HeadsParameters& p, int64_t row, int head,
                                const float2* turns, float* values) {
  const int lane = threadIdx.x % kWarpLanes;
  const int dim = p.shape.head_dim;
  const bool is_q = head < p.shape.num_heads;
  const int kv_head = is_q ? 0 : (head - p.shape.num_heads) % p.shape.num_kv_heads;
  const bool is_v = head >= p.shape.num_heads + p.shape.num_kv_heads;
  const Matrix& from = is_q ? p.q : is_v ? p.v : p.k;
  const float* bias = is_q ? p.q_bias : is_v ? p.v_bias : p.k_bias;
  const DeviceNorm& norm = is_q ? p.q_norm : p.k_norm;
  const int64_t first = static_cast<int64_t>(is_q ? head : kv_head) * dim;
  for (int i = lane; i < dim; i += kWarpLanes) {
    float value = Load(from.data, from.type, row * from.stride + first + i);
    if (bias != nullptr) value += bias[first + i];
    values[i] = value;
  }
  __syncwarp();
  if (!is_v && norm.weight != nullptr) {
    float mean = 0;
    const float scale = NormOfHead(norm, dim, values, &mean);
    for (int i = lane; i < dim; i += kWarpLanes) {
      values[i] = (values[i] - mean) * scale * norm.weight[i] +
                  (norm.bias == nullptr ? 0.0f : norm.bias[i]);
    }
    __syncwarp();
  }
  const int pairs = is_v ? 0 : p.rotated_pairs;
  for (int i = lane; i < pairs; i += kWarpLanes) {
    const float a = values[i], b = values[i + pairs];
    const float2 turn = turns[i];
    values[i] = a * turn.x - b * turn.y;
    values[i + pairs] = b * turn.x + a * turn.y;
  }
  __syncwarp();
}

}  // namespace vernier::cuda
