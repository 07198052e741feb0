// One warp's step of decode's attention on the tensor cores: a block of keys against the q of up to
// eight heads.
//
// Keys are the rows of the products and heads their columns, so that a group of few heads wastes
// half of a tile of 16 x 8 at most: S^T = K q^T, and then O^T = V^T W, for which the weights W pass
// through movmatrix. Lane l = 4g + t has keys (or dimensions) g and g + 8 of 16, of the heads 2t
// and 2t + 1. Of an int8 cache a key's scale multiplies its scores, and a value's scale the key's
// weights, relative to the largest scale so far, so that they keep fp16's precision.
#pragma once

#include "kernels/cuda/kv_tile.cuh"

namespace vernier::cuda {

// Slots of a block whose keys a row sees: [begin, end).
struct VisibleSlots {
  int begin;
  int end;
  __device__ bool All() const { return begin == 0 && end == kSlotsPerBlock; }
  __device__ bool Has(int slot) const { return slot >= begin && slot < end; }
};

// Weights may be this power of two above 1, and scales of values this much above value_scale,
// before sums are rescaled: together 2^7, far from fp16's largest number.
inline constexpr float kScoreSlack = 4;
inline constexpr float kScaleSlack = 8;

__device__ inline uint32_t Transpose8x8(uint32_t pairs) {
  uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(pairs));
  return out;
}

// Over the lanes that share t: those of all keys of a column.
template <class Combine>
__device__ inline float ReduceKeys(float value, Combine combine) {
#pragma unroll
  for (int offset = 4; offset < kWarpLanes; offset *= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

template <class Codes, int kHeadDim>
struct DecodeTile {
  using Kv = KvTile<Codes, kHeadDim>;
  using Scalar = typename Kv::Scalar;
  static constexpr int kKeyTiles = kSlotsPerBlock / 16;

  uint32_t q[Kv::kSteps][2];
  float out[Kv::kSteps][4];  // of dimensions 16 i; unnormalized, over `value_scale`
  float scores[kKeyTiles][4];
  float largest[2];  // scores, base 2, but for kScoreSlack
  float sum[2];
  float value_scale;
  uint32_t exponent;  // of WidenedCodes
  float inverse_value_scale;

  // `row` is the fp32 q of head g, or null.
  __device__ void Begin(float scale, const float* row) {
    const int t = threadIdx.x % 4;
    const auto pair = [&](int column) {
      if (row == nullptr) return 0u;
      const float2 v = *reinterpret_cast<const float2*>(row + column);
      return PackPair<Scalar>(v.x * scale, v.y * scale);
    };
#pragma unroll
    for (int s = 0; s < Kv::kSteps; ++s) {
      q[s][0] = pair(Kv::QueryColumn(s, t));
      q[s][1] = pair(Kv::QueryColumn(s, t) + Kv::kSecondPair);
#pragma unroll
      for (int j = 0; j < 4; ++j) out[s][j] = 0;
    }
    largest[0] = largest[1] = -FLT_MAX;
    sum[0] = sum[1] = 0;
    value_scale = kLeastValueScale;
    if constexpr (Kv::kScaled) exponent = HeldInt8HalfExponent();
    inverse_value_scale = 1 / kLeastValueScale;
  }

  // Scores of a block's keys, and their weights over the largest score so far.
  __device__ void Score(const uint8_t* keys, const VisibleSlots& visible) {
    const int lane = threadIdx.x % kWarpLanes;
    const typename Kv::Pointer pointer(keys, lane % 16, lane / 16);
#pragma unroll
    for (int i = 0; i < kKeyTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) scores[i][j] = 0;
    }
#pragma unroll
    for (int chunk = 0; chunk < Kv::kSlotBytes / 16; chunk += 2) {
#pragma unroll
      for (int i = 0; i < kKeyTiles; ++i) {
        uint32_t a[4];
        LoadMatrix4(pointer.At(i * 16, chunk), a);
        MultiplyKeys(a, chunk, scores[i]);
      }
    }
    const int g = lane / 4;
    if constexpr (Kv::kScaled) {
#pragma unroll
      for (int i = 0; i < 2 * kKeyTiles; ++i) {
        const float scale = Kv::Scale(keys, i * 8 + g);
        scores[i / 2][i % 2 * 2] *= scale;
        scores[i / 2][i % 2 * 2 + 1] *= scale;
      }
    }
    if (!visible.All()) {
#pragma unroll
      for (int i = 0; i < 2 * kKeyTiles; ++i) {
        if (visible.Has(i * 8 + g)) continue;
        scores[i / 2][i % 2 * 2] = scores[i / 2][i % 2 * 2 + 1] = -INFINITY;
      }
    }
    Soften();
  }

  // Adds the values of the block that was scored. Slots that are not visible hold finite values, or
  // codes of 8 bits.
  __device__ void AddValues(const uint8_t* values, const VisibleSlots& visible) {
    if constexpr (Kv::kScaled) ScaleWeights(values, visible);
    uint32_t weights[kKeyTiles][2];
#pragma unroll
    for (int i = 0; i < 2 * kKeyTiles; ++i) {
      const float* pair = scores[i / 2] + i % 2 * 2;
      weights[i / 2][i % 2] = Transpose8x8(PackPair<Scalar>(pair[0], pair[1]));
    }
    const int lane = threadIdx.x % kWarpLanes;
    if constexpr (Kv::kScaled) {
      const typename Kv::Pointer pointer(values, lane, 0);
#pragma unroll
      for (int chunk = 0; chunk < Kv::kSlotBytes / 16; ++chunk) {
        uint32_t codes[4];  // of 8 keys each
        LoadMatrix4Transposed(pointer.At(0, chunk), codes);
#pragma unroll
        for (int i = 0; i < kKeyTiles; ++i) {
          const WidenedCodes low(codes[2 * i], exponent), high(codes[2 * i + 1], exponent);
          const uint32_t a[4] = {low.Even(), low.Odd(), high.Even(), high.Odd()};
          Multiply<Scalar>(a, weights[i][0], weights[i][1], out[chunk]);
        }
      }
    } else {
      const typename Kv::Pointer pointer(values, lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
      for (int i = 0; i < kKeyTiles; ++i) {
#pragma unroll
        for (int step = 0; step < Kv::kSteps; ++step) {
          uint32_t a[4];
          LoadMatrix4Transposed(pointer.At(i * 16, 2 * step), a);
          Multiply<Scalar>(a, weights[i][0], weights[i][1], out[step]);
        }
      }
    }
  }

  // Sums over the lanes of a head; call once, after the last block.
  __device__ void End() {
#pragma unroll
    for (int j = 0; j < 2; ++j) sum[j] = ReduceKeys(sum[j], Add());
  }

  // write(head, dimension, value) of the warp's values, once each.
  template <class Write>
  __device__ void ForEachValue(const Write& write) const {
    const int lane = threadIdx.x % kWarpLanes, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < Kv::kSteps; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int dimension = i * 16 + (Kv::kScaled ? 2 * g + j / 2 : g + j / 2 * 8);
        write(2 * t + j % 2, dimension, Kv::kScaled ? out[i][j] * value_scale : out[i][j]);
      }
    }
  }

 private:
  __device__ void MultiplyKeys(const uint32_t (&a)[4], int chunk, float (&sums)[4]) const {
    if constexpr (Kv::kScaled) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const WidenedCodes low(a[2 * i], exponent), high(a[2 * i + 1], exponent);
        const uint32_t pairs[4] = {low.First(), high.First(), low.Second(), high.Second()};
        Multiply<Scalar>(pairs, q[chunk + i][0], q[chunk + i][1], sums);
      }
    } else {
      Multiply<Scalar>(a, q[chunk / 2][0], q[chunk / 2][1], sums);
    }
  }

  // Scores become weights. What there is is rescaled, and the lanes of a head asked for the largest
  // score, only where one is so much larger than those before that fp16 would not hold its weight.
  __device__ void Soften() {
    float most[2] = {largest[0], largest[1]};
#pragma unroll
    for (int i = 0; i < 4 * kKeyTiles; ++i) {
      most[i % 2] = fmaxf(most[i % 2], scores[i / 4][i % 4]);
    }
    if (__any_sync(0xffffffffu,
                   most[0] > largest[0] + kScoreSlack || most[1] > largest[1] + kScoreSlack)) {
      float rescale[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        most[j] = ReduceKeys(most[j], [](float a, float b) { return fmaxf(a, b); });
        rescale[j] = Exp2(largest[j] - most[j]);
        largest[j] = most[j];
        sum[j] *= rescale[j];
      }
      Rescale(rescale[0], rescale[1]);
    }
#pragma unroll
    for (int i = 0; i < 4 * kKeyTiles; ++i) {
      float& score = scores[i / 4][i % 4];
      score = Exp2(score - largest[i % 2]);
      sum[i % 2] += score;
    }
  }

  __device__ void ScaleWeights(const uint8_t* values, const VisibleSlots& visible) {
    const int g = threadIdx.x % kWarpLanes / 4;
    float scales[2 * kKeyTiles], most = value_scale;
#pragma unroll
    for (int i = 0; i < 2 * kKeyTiles; ++i) {
      scales[i] = visible.Has(i * 8 + g) ? Kv::Scale(values, i * 8 + g) : 0.0f;
      most = fmaxf(most, scales[i]);
    }
    if (__any_sync(0xffffffffu, most > kScaleSlack * value_scale)) {
      most = ReduceKeys(most, [](float a, float b) { return fmaxf(a, b); });
      inverse_value_scale = 1 / most;
      const float rescale = value_scale * inverse_value_scale;
      value_scale = most;
      Rescale(rescale, rescale);
    }
#pragma unroll
    for (int i = 0; i < 2 * kKeyTiles; ++i) {
      const float relative = scales[i] * inverse_value_scale;
      scores[i / 2][i % 2 * 2] *= relative;
      scores[i / 2][i % 2 * 2 + 1] *= relative;
    }
  }

  // `out` of heads 2t and 2t + 1.
  __device__ void Rescale(float even, float odd) {
#pragma unroll
    for (int i = 0; i < Kv::kSteps; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) out[i][j] *= j % 2 == 0 ? even : odd;
    }
  }
};

}  // namespace vernier::cuda
