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

// Waits for the kernel ahead; x = weighted residual * scale of columns [first_col, ..) of each row,
// the scale from the parts of the row's sum of squares, in their order, by one warp a row: all
// blocks ask for these few lines at once. `scales` is shared memory for a number a row.
template <class Scalar>
__device__ void MakeX(const SharedX& to, const NormedX& normed, int inputs, int first_col, int rows,
                      float* scales) {
  const ChunksOfThread own(rows);
  const int quads = own.token < rows ? to.slice_blocks * (kSegmentBytes / 8) : 0;
  asm volatile("griddepcontrol.wait;" ::: "memory");
  int64_t row = own.token;
  if (normed.chosen != nullptr && own.token < rows) row = normed.chosen[own.token];
  const auto* const values =
      reinterpret_cast<const float4*>(normed.weighted + row * inputs + first_col);
  // Past the L1 cache: another multiprocessor wrote them.
  float4 next = {};
  if (own.first < quads) next = __ldcg(values + own.first);
  if (own.token < rows && own.first < kWarpLanes) {
    const float squares = SumOfSquares(normed.squares + row * kMostSquares, normed.parts);
    scales[own.token] = 1 / sqrtf(squares / static_cast<float>(inputs) + normed.epsilon);
  }
  SyncMultipliers();
  const float scale = own.token < rows ? scales[own.token] : 0;
  for (int i = own.first; i < quads; i += own.stride) {
    const float4 v = next;
    if (i + own.stride < quads) next = __ldcg(values + i + own.stride);
    const uint2 packed = {PackPair<Scalar>(v.x * scale, v.y * scale),
                          PackPair<Scalar>(v.z * scale, v.w * scale)};
    *reinterpret_cast<uint2*>(to.Chunk(own.token, i / 2) + i % 2 * 8) = packed;
  }
}

}  // namespace vernier::cuda
