// How x gets into the shared memory of a block of gemm_rows16: given, or made from the residual.
//
// A segment is one token's values of a k-block, 128 bytes; its chunks of 16 bytes are exchanged by
// its token, so that eight tokens' chunks lie in different banks.
#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_rows16_layout.cuh"
#include "kernels/cuda/instructions.cuh"

namespace vernier::cuda {

// The slice of x of one block, [segments] in its shared memory.
struct SharedX {
  uint8_t* shared;
  int hole_segments;  // of these a segment lies in a hole of the pair table
  int offset;         // of the others
  int tokens;         // a multiple of kTokensPerColumnBlock
  int slice_blocks;

  // Chunk `i` of a token's values.
  __device__ uint8_t* Chunk(int token, int i) const {
    const int segment = i / 8 * tokens + token;
    uint8_t* at = segment < hole_segments
                      ? shared + segment * kPairTableRowBytes + kPairTableHole
                      : shared + offset + (segment - hole_segments) * kSegmentBytes;
    return at + (i % 8 ^ token % 8) * 16;
  }
};

// Which chunks of which token a thread brings: the sixteen warps are shared out to `rows` tokens.
struct ChunksOfThread {
  int token;
  int first;
  int stride;

  __device__ explicit ChunksOfThread(int rows) {
    const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
    const int warps_log2 = rows > 8 ? 0 : rows > 4 ? 1 : rows > 2 ? 2 : rows > 1 ? 3 : 4;
    token = warp >> warps_log2;
    first = (warp & ((1 << warps_log2) - 1)) * kWarpLanes + lane;
    stride = kWarpLanes << warps_log2;
  }
};

// Tokens past the last row are zero. By all that multiply, before there is an x.
__device__ inline void ClearX(const SharedX& to, int rows) {
  const int chunks = to.slice_blocks * 8;
  for (int token = rows + threadIdx.x / kWarpLanes; token < to.tokens; token += kWarps) {
    for (int i = threadIdx.x % kWarpLanes; i < chunks; i += kWarpLanes) {
      *reinterpret_cast<uint4*>(to.Chunk(token, i)) = uint4();
    }
  }
}

// `x` is row 0's first value of the slice, rows are `row_bytes` apart, and `row_chunks` chunks lie
// before a row's end: what is beyond is zero.
__device__ inline void CopyX(const SharedX& to, const uint8_t* x, int64_t row_bytes, int row_chunks,
                             int rows) {
  const ChunksOfThread own(rows);
  if (own.token < rows) {
    const uint8_t* row = x + own.token * row_bytes;
    for (int i = own.first; i < to.slice_blocks * 8; i += own.stride) {
      CopyAsync16(SharedAddress(to.Chunk(own.token, i)), row + static_cast<int64_t>(i) * 16,
                  i < row_chunks);
    }
  }
  asm volatile("cp.async.wait_all;");
}

// Eight values of fp32 on their way to 16 bits.
struct EightValues {
  float4 low, high;
};
// Past the L1 cache: another multiprocessor wrote them.
__device__ inline EightValues LoadResidual(const float* from) {
  const auto* quads = reinterpret_cast<const float4*>(from);
  return {__ldcg(quads), __ldcg(quads + 1)};
}

__device__ inline EightValues LoadWeights(const float* from) {
  const auto* quads = reinterpret_cast<const float4*>(from);
  return {quads[0], quads[1]};
}

// Of a row, from `count` parts of it. All are asked for at once.
__device__ inline float SumOfSquares(const float* parts, int count) {
  constexpr int kMost = (kMostSquares + kWarpLanes - 1) / kWarpLanes;
  const int lane = threadIdx.x % kWarpLanes;
  float own[kMost];
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    own[i] = lane + i * kWarpLanes < count ? __ldcg(parts + lane + i * kWarpLanes) : 0;
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kMost; ++i) sum += own[i];
  return ReduceWarp(sum, Add());
}

// Waits for the kernel ahead; x = residual * scale * weight of columns [first_col, ..) of each row,
// the scale from the parts of the row's sum of squares, in their order.
template <class Scalar>
__device__ void MakeX(const SharedX& to, const NormedX& normed, int inputs, int first_col,
                      int rows) {
  const ChunksOfThread own(rows);
  const int chunks = to.slice_blocks * 8;
  const float* weight = normed.weight + first_col;
  EightValues next = {}, next_weights = {};
  if (own.first < chunks) next_weights = LoadWeights(weight + own.first * 8);
  asm volatile("griddepcontrol.wait;" ::: "memory");
  if (own.token >= rows) return;
  const int64_t row = normed.chosen == nullptr ? own.token : normed.chosen[own.token];
  const float* residual = normed.residual + row * inputs + first_col;
  if (own.first < chunks) next = LoadResidual(residual + own.first * 8);
  const float squares = SumOfSquares(normed.squares + row * kMostSquares, normed.parts);
  const float scale = 1 / sqrtf(squares / static_cast<float>(inputs) + normed.epsilon);
  for (int i = own.first; i < chunks; i += own.stride) {
    const EightValues v = next;
    const float4 a = next_weights.low, b = next_weights.high;
    if (i + own.stride < chunks) {
      next = LoadResidual(residual + (i + own.stride) * 8);
      next_weights = LoadWeights(weight + (i + own.stride) * 8);
    }
    uint4 packed;
    packed.x = PackPair<Scalar>(v.low.x * scale * a.x, v.low.y * scale * a.y);
    packed.y = PackPair<Scalar>(v.low.z * scale * a.z, v.low.w * scale * a.w);
    packed.z = PackPair<Scalar>(v.high.x * scale * b.x, v.high.y * scale * b.y);
    packed.w = PackPair<Scalar>(v.high.z * scale * b.z, v.high.w * scale * b.w);
    *reinterpret_cast<uint4*>(to.Chunk(own.token, i)) = packed;
  }
}

}  // namespace vernier::cuda
