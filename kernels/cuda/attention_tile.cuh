// One warp's step of attention on the tensor cores: 16 rows of q against a block of keys.
//
// Fragments are those of mma.sync.m16n8k16 (PTX ISA): lane l = 4g + t holds rows g and g + 8 and
// columns 2t, 2t + 1 of each 8 columns. Keys and values lie in shared memory as rows of head_dim
// plus 8 values, so that the eight rows of an ldmatrix fall into different banks.
#pragma once

#include <cfloat>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/instructions.cuh"

namespace vernier::cuda {

inline constexpr int kRowsPerWarp = 16;
inline constexpr float kLog2E = 1.4426950408889634f;

template <class Scalar>
__device__ inline uint32_t PackPair(float a, float b) {
  const Scalar pair[2] = {Round<Scalar>(a), Round<Scalar>(b)};
  return *reinterpret_cast<const uint32_t*>(pair);
}

__device__ inline void LoadMatrix4Transposed(uint32_t address, uint32_t* out) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}

__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ inline void AwaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// A head's keys (or values) of one block of the cache.
template <class Scalar>
__device__ inline const Scalar* HeadOfBlock(const AttentionParameters& p, int32_t block, bool value,
                                            int kv_head) {
  const int64_t head = (value ? p.shape.num_kv_heads : 0) + kv_head;
  return reinterpret_cast<const Scalar*>(p.cache.data + block * p.cache.block_bytes) +
         head * kSlotsPerBlock * p.shape.head_dim;
}

template <class Scalar, int kHeadDim>
struct WarpTile {
  static constexpr int kStride = kHeadDim + 8;  // values of a row in shared memory
  static constexpr int kBlockValues = kSlotsPerBlock * kStride;
  static constexpr int kSteps = kHeadDim / 16;  // of q.k
  static constexpr int kOutTiles = kHeadDim / 8;

  uint32_t q[kSteps][4];
  float out[kOutTiles][4];
  float largest[2];  // of rows g and g + 8, base 2
  float sum[2];

  // `rows` gives the fp32 q of a row 0..15, or null.
  template <class Rows>
  __device__ void Begin(float scale, const Rows& rows) {
    const int lane = threadIdx.x % kWarpLanes, g = lane / 4, t = lane % 4;
    const float* low = rows(g);
    const float* high = rows(g + 8);
    const auto pair = [&](const float* row, int column) {
      if (row == nullptr) return 0u;
      const float2 v = *reinterpret_cast<const float2*>(row + column);
      return PackPair<Scalar>(v.x * scale, v.y * scale);
    };
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      q[s][0] = pair(low, s * 16 + 2 * t);
      q[s][1] = pair(high, s * 16 + 2 * t);
      q[s][2] = pair(low, s * 16 + 2 * t + 8);
      q[s][3] = pair(high, s * 16 + 2 * t + 8);
    }
#pragma unroll
    for (int i = 0; i < kOutTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) out[i][j] = 0;
    }
    largest[0] = largest[1] = -FLT_MAX;
    sum[0] = sum[1] = 0;
  }

  // Adds kSlotsPerBlock keys from position `first_key`; row r sees positions [from(r), to(r)].
  // Keys past what any row sees hold zeros. `await_values` returns when the values have arrived.
  template <class Visible, class Await>
  __device__ void Attend(const Scalar* keys, const Scalar* values, int first_key,
                         const Visible& visible, const Await& await_values) {
    constexpr int kKeyTiles = kSlotsPerBlock / 8;
    const int lane = threadIdx.x % kWarpLanes, g = lane / 4, t = lane % 4;
    float scores[kKeyTiles][4] = {};
    const uint32_t key_base = SharedAddress(keys);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int pair = 0; pair < kKeyTiles / 2; ++pair) {
        // Matrices 0 and 1: keys 0 to 7 of the pair of tiles, columns 0 and 8; 2 and 3: keys 8 on.
        const int key = pair * 16 + lane / 16 * 8 + lane % 8;
        const int column = s * 16 + lane / 8 % 2 * 8;
        uint32_t b[4];
        LoadMatrix4(key_base + (key * kStride + column) * 2, b);
        Multiply<Scalar>(q[s], b[0], b[1], scores[2 * pair]);
        Multiply<Scalar>(q[s], b[2], b[3], scores[2 * pair + 1]);
      }
    }
    uint32_t weights[kKeyTiles / 2][4];
    Soften(first_key + 2 * t, g, visible, scores, weights);
    await_values();
    const uint32_t value_base = SharedAddress(values);
#pragma unroll
    for (int step = 0; step < kKeyTiles / 2; ++step) {
#pragma unroll
      for (int pair = 0; pair < kOutTiles / 2; ++pair) {
        const int key = step * 16 + lane / 8 % 2 * 8 + lane % 8;
        const int column = pair * 16 + lane / 16 * 8;
        uint32_t b[4];
        LoadMatrix4Transposed(value_base + (key * kStride + column) * 2, b);
        Multiply<Scalar>(weights[step], b[0], b[1], out[2 * pair]);
        Multiply<Scalar>(weights[step], b[2], b[3], out[2 * pair + 1]);
      }
    }
  }

  // Sums over the four lanes of a row; call once, after the last block.
  __device__ void End() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 1);
      sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 2);
    }
  }

 private:
  // Masks, rescales what there is to the new largest score and turns scores into weights.
  template <class Visible, int kTiles>
  __device__ void Soften(int first_key, int g, const Visible& visible, float (&scores)[kTiles][4],
                         uint32_t (&weights)[kTiles / 2][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int2 range = visible(g + 8 * half);
      float most = largest[half];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int key = first_key + tile * 8 + j;
          float& score = scores[tile][2 * half + j];
          if (key < range.x || key > range.y) score = -FLT_MAX;
          most = fmaxf(most, score);
        }
      }
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const float rescale = exp2f(largest[half] - most);
      largest[half] = most;
      sum[half] *= rescale;
#pragma unroll
      for (int i = 0; i < kOutTiles; ++i) {
        out[i][2 * half] *= rescale;
        out[i][2 * half + 1] *= rescale;
      }
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        float w[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const float score = scores[tile][2 * half + j];
          w[j] = score == -FLT_MAX ? 0.0f : exp2f(score - most);
          sum[half] += w[j];
        }
        weights[tile / 2][tile % 2 * 2 + half] = PackPair<Scalar>(w[0], w[1]);
      }
    }
  }
};

// Queues copies of a block's keys or values, `lanes` threads sharing them; slots from `valid` on
// become zero, so that what was never written is not multiplied.
template <class Scalar, int kHeadDim>
__device__ inline void CopyHead(const Scalar* from, int valid, int thread, int lanes, Scalar* to) {
  using Tile = WarpTile<Scalar, kHeadDim>;
  constexpr int kChunks = kHeadDim / 8;  // of 16 bytes a row
  for (int i = thread; i < kSlotsPerBlock * kChunks; i += lanes) {
    const int slot = i / kChunks, chunk = i % kChunks;
    CopyAsync16(SharedAddress(to + slot * Tile::kStride + chunk * 8),
                from + slot * kHeadDim + chunk * 8, slot < valid);
  }
}

// body(scalar, head_dim) with the types of a shape.
template <template <class, int> class Launcher, class... Arguments>
inline cudaError_t ForShape(const HeadShape& shape, Scalar cache, const Arguments&... arguments) {
  const auto of_type = [&](auto scalar) {
    using Type = decltype(scalar);
    switch (shape.head_dim) {
      case 64:
        return Launcher<Type, 64>::Launch(arguments...);
      case 96:
        return Launcher<Type, 96>::Launch(arguments...);
      case 128:
        return Launcher<Type, 128>::Launch(arguments...);
      case 256:
        return Launcher<Type, 256>::Launch(arguments...);
      default:
        return cudaErrorInvalidValue;
    }
  };
  return cache == Scalar::kF16 ? of_type(__half()) : of_type(__nv_bfloat16());
}

}  // namespace vernier::cuda
