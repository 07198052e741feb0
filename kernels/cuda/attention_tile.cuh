// One warp's step of prefill's attention on the tensor cores: 16 rows of q against a block of keys.
//
// Lane l = 4g + t holds rows g and g + 8 and columns 2t, 2t + 1 of each 8 columns. Of an int8 cache
// a key's scale multiplies its scores, and a value's scale the key's weights, relative to the
// largest scale so far of those that the row sees, so that they keep fp16's precision. What a row
// gets depends on what it sees alone, not on the other rows of its warp nor on its place among
// them: products and sums are said one by one, as the compiler would make one instruction of two
// for some places and not for others.
#pragma once

#include "kernels/cuda/kv_tile.cuh"

namespace vernier::cuda {

inline constexpr int kRowsPerWarp = 16;

__device__ inline void CopyAsync4(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from),
               "r"(valid ? 4 : 0));
}

template <class Codes, int kHeadDim>
struct WarpTile {
  using Kv = KvTile<Codes, kHeadDim>;
  using Scalar = typename Kv::Scalar;
  static constexpr int kKeyTiles = kSlotsPerBlock / 8;
  static constexpr int kOutTiles = kHeadDim / 8;

  uint32_t q[Kv::kSteps][4];
  float out[kOutTiles][4];  // unnormalized, over `value_scale`
  float largest[2];         // of rows g and g + 8, base 2
  float sum[2];
  float value_scale[2];  // of rows g and g + 8
  uint32_t exponent;     // of WidenedCodes

  // `rows` gives the fp32 q of a row 0..15, or null.
  template <class Rows>
  __device__ void Begin(float scale, const Rows& rows) {
    const int lane = threadIdx.x % kWarpLanes, g = lane / 4, t = lane % 4;
    const float* low = rows(g);
    const float* high = rows(g + 8);
    const auto pair = [&](const float* row, int column) {
      if (row == nullptr) return 0u;
      const float2 v = *reinterpret_cast<const float2*>(row + column);
      return PackPair<Scalar>(__fmul_rn(v.x, scale), __fmul_rn(v.y, scale));
    };
#pragma unroll
    for (int s = 0; s < Kv::kSteps; ++s) {
      const int column = Kv::QueryColumn(s, t);
      q[s][0] = pair(low, column);
      q[s][1] = pair(high, column);
      q[s][2] = pair(low, column + Kv::kSecondPair);
      q[s][3] = pair(high, column + Kv::kSecondPair);
    }
    Restart();
    if constexpr (Kv::kScaled) exponent = HeldInt8HalfExponent();
  }
  // As if no keys had come yet, with the same q.
  __device__ void Restart() {
#pragma unroll
    for (int i = 0; i < kOutTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) out[i][j] = 0;
    }
    largest[0] = largest[1] = -FLT_MAX;
    sum[0] = sum[1] = 0;
    value_scale[0] = value_scale[1] = kLeastValueScale;
  }

  // Adds kSlotsPerBlock keys from position `first_key`; row r sees positions [from(r), to(r)].
  // Keys and values past what any row sees are zeros, or codes of 8 bits with scales of 0.
  template <class Visible>
  __device__ void Attend(const uint8_t* keys, const uint8_t* values, int first_key,
                         const Visible& visible) {
    const int lane = threadIdx.x % kWarpLanes, g = lane / 4, t = lane % 4;
    float scores[kKeyTiles][4] = {};
    const typename Kv::Pointer pointer(keys, lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
    for (int chunk = 0; chunk < Kv::kSlotBytes / 16; chunk += 2) {
#pragma unroll
      for (int pair = 0; pair < kKeyTiles / 2; ++pair) {
        // Matrices 0 and 1: keys 0 to 7 of the pair of tiles, two chunks; 2 and 3: keys 8 on.
        uint32_t b[4];
        LoadMatrix4(pointer.At(pair * 16, chunk), b);
        MultiplyKeys(b, chunk, scores[2 * pair], scores[2 * pair + 1]);
      }
    }
    if constexpr (Kv::kScaled) {
#pragma unroll
      for (int tile = 0; tile < kKeyTiles; ++tile) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float scale = Kv::Scale(keys, tile * 8 + 2 * t + j % 2);
          scores[tile][j] = __fmul_rn(scores[tile][j], scale);
        }
      }
    }
    uint32_t weights[kKeyTiles / 2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int2 range = visible(g + 8 * half);
      float value_scales[kKeyTiles][2] = {}, rescale_all = 1;
      if constexpr (Kv::kScaled) {
        rescale_all = RelateScales(values, first_key, range, half, value_scales);
      }
      Soften(
          first_key + 2 * t, half, rescale_all, range, scores,
          [&](int tile, int j, float weight) {
            return Kv::kScaled ? __fmul_rn(weight, value_scales[tile][j]) : weight;
          },
          weights);
    }
    AddValues(values, weights);
  }

  // Sums over the four lanes of a row; call once, after the last block.
  __device__ void End() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      sum[half] = __fadd_rn(sum[half], __shfl_xor_sync(0xffffffffu, sum[half], 1));
      sum[half] = __fadd_rn(sum[half], __shfl_xor_sync(0xffffffffu, sum[half], 2));
    }
  }

  // Where value out[i / 2][2 * half + i % 2] lies in its head, i < 2 * kOutTiles.
  static __device__ int DimensionOf(int i) {
    const int t = threadIdx.x % 4, tile = i / 2, j = i % 2;
    return Kv::kScaled ? tile / 2 * 16 + 4 * t + 2 * j + tile % 2 : tile * 8 + 2 * t + j;
  }
  // The same value in the cache's unit, unnormalized.
  __device__ float ValueAt(int half, int i) const {
    const float value = out[i / 2][2 * half + i % 2];
    return Kv::kScaled ? __fmul_rn(value, value_scale[half]) : value;
  }

 private:
  __device__ void MultiplyKeys(const uint32_t (&b)[4], int chunk, float (&low)[4],
                               float (&high)[4]) const {
    if constexpr (Kv::kScaled) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const WidenedCodes of_low(b[i], exponent), of_high(b[2 + i], exponent);
        Multiply<Scalar>(q[chunk + i], of_low.First(), of_low.Second(), low);
        Multiply<Scalar>(q[chunk + i], of_high.First(), of_high.Second(), high);
      }
    } else {
      Multiply<Scalar>(q[chunk / 2], b[0], b[1], low);
      Multiply<Scalar>(q[chunk / 2], b[2], b[3], high);
    }
  }

  __device__ void AddValues(const uint8_t* values, const uint32_t (&weights)[kKeyTiles / 2][4]) {
    const int lane = threadIdx.x % kWarpLanes;
    if constexpr (Kv::kScaled) {
      const typename Kv::Pointer pointer(values, lane, 0);
#pragma unroll
      for (int chunk = 0; chunk < Kv::kSlotBytes / 16; ++chunk) {
        uint32_t codes[4];  // of 8 keys each
        LoadMatrix4Transposed(pointer.At(0, chunk), codes);
#pragma unroll
        for (int step = 0; step < kKeyTiles / 2; ++step) {
          const WidenedCodes low(codes[2 * step], exponent), high(codes[2 * step + 1], exponent);
          Multiply<Scalar>(weights[step], low.Even(), high.Even(), out[2 * chunk]);
          Multiply<Scalar>(weights[step], low.Odd(), high.Odd(), out[2 * chunk + 1]);
        }
      }
    } else {
      const typename Kv::Pointer pointer(values, lane % 16, lane / 16);
#pragma unroll
      for (int step = 0; step < kKeyTiles / 2; ++step) {
#pragma unroll
        for (int pair = 0; pair < kOutTiles / 2; ++pair) {
          uint32_t b[4];
          LoadMatrix4Transposed(pointer.At(step * 16, 2 * pair), b);
          Multiply<Scalar>(weights[step], b[0], b[1], out[2 * pair]);
          Multiply<Scalar>(weights[step], b[2], b[3], out[2 * pair + 1]);
        }
      }
    }
  }

  // The block's scales of the values that a row sees over the largest so far, and by what that
  // lessens its `out`.
  __device__ float RelateScales(const uint8_t* values, int first_key, int2 range, int half,
                                float (&scales)[kKeyTiles][2]) {
    const int t = threadIdx.x % 4;
    float most = value_scale[half];
#pragma unroll
    for (int i = 0; i < 2 * kKeyTiles; ++i) {
      const int slot = i / 2 * 8 + 2 * t + i % 2, key = first_key + slot;
      const bool seen = key >= range.x && key <= range.y;
      scales[i / 2][i % 2] = seen ? Kv::Scale(values, slot) : 0.0f;
      most = fmaxf(most, scales[i / 2][i % 2]);
    }
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
    const float inverse = 1 / most;
#pragma unroll
    for (int i = 0; i < 2 * kKeyTiles; ++i) {
      scales[i / 2][i % 2] = __fmul_rn(scales[i / 2][i % 2], inverse);
    }
    const float rescale = most == value_scale[half] ? 1.0f : __fmul_rn(value_scale[half], inverse);
    value_scale[half] = most;
    return rescale;
  }

  // Masks a row's scores, rescales what there is of it to the new largest one and turns scores into
  // weights. finish(tile, j, weight) is what the values of a key are multiplied with.
  template <class Finish>
  __device__ void Soften(int first_key, int half, float rescale_all, int2 range,
                         float (&scores)[kKeyTiles][4], const Finish& finish,
                         uint32_t (&weights)[kKeyTiles / 2][4]) {
    float most = largest[half];
#pragma unroll
    for (int tile = 0; tile < kKeyTiles; ++tile) {
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
    const float rescale = exp2f(__fsub_rn(largest[half], most));
    const float rescale_out = __fmul_rn(rescale, rescale_all);
    largest[half] = most;
    sum[half] = __fmul_rn(sum[half], rescale);
#pragma unroll
    for (int i = 0; i < kOutTiles; ++i) {
      out[i][2 * half] = __fmul_rn(out[i][2 * half], rescale_out);
      out[i][2 * half + 1] = __fmul_rn(out[i][2 * half + 1], rescale_out);
    }
#pragma unroll
    for (int tile = 0; tile < kKeyTiles; ++tile) {
      float w[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float score = scores[tile][2 * half + j];
        w[j] = score == -FLT_MAX ? 0.0f : exp2f(__fsub_rn(score, most));
        sum[half] = __fadd_rn(sum[half], w[j]);
      }
      weights[tile / 2][tile % 2 * 2 + half] =
          PackPair<Scalar>(finish(tile, 0, w[0]), finish(tile, 1, w[1]));
    }
  }
};

// Queues copies of a block's keys or values, `lanes` threads sharing them; slots from `valid` on
// become zero, so that what was never written is not multiplied.
template <class Codes, int kHeadDim>
__device__ inline void CopyHead(const uint8_t* from, int valid, int thread, int lanes,
                                uint8_t* to) {
  using Kv = KvTile<Codes, kHeadDim>;
  for (int at = thread * 16; at < Kv::kCodeBytes; at += lanes * 16) {
    CopyAsync16(SharedAddress(to) + at, from + at, at < valid * Kv::kSlotBytes);
  }
  if (Kv::kScaled && thread < kSlotsPerBlock) {
    const int at = Kv::kCodeBytes + thread * 4;
    CopyAsync4(SharedAddress(to) + at, from + at, thread < valid);
  }
}

}  // namespace vernier::cuda
