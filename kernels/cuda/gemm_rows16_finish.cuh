// From the sums of a block's warps to what becomes of them, of gemm_rows16.
//
// A group's sums go from the warps through shared memory to the block of the cluster that owns the
// rows, each in a fixed order. Data that crosses blocks counts itself in at a transaction barrier;
// a release at cluster scope would wait for every load under way.
#pragma once

#include <cuda.h>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gating.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_rows16_layout.cuh"
#include "kernels/cuda/instructions.cuh"

namespace vernier::cuda {

struct Rows16Arguments {
  CUtensorMap values;  // of the weight, where it has 16-bit values
  GemmOperands operands;
  int rows;
  int outputs;
  int inputs;
  int cluster_log2;
  int clusters;
  int ring;  // stages
  Codebook codebook;
};

// What one block of the grid works on.
struct Rows16Work {
  int rank;         // in its cluster
  int first_block;  // of its slice of K
  int slice_blocks;
  int first_group;  // half groups of its cluster
  int last_group;
};

// A warp's sums of one row group: [tile][column block][fragment of m16n8].
template <class Decoder, int kColumnBlocks>
using Sums = typename Decoder::Sum[Decoder::kWarpTiles][kColumnBlocks][4];

template <class Decoder, int kColumnBlocks>
class Reducer {
 public:
  using Scalar = typename Decoder::Scalar;
  using Sum = typename Decoder::Sum;
  using Quad = typename Decoder::Quad;
  static constexpr int kTokens = kColumnBlocks * kTokensPerColumnBlock;
  static constexpr int kSlices = SlicesOf(Decoder::kEncoding);
  static constexpr int kSlotBytes = kGroupRows * kTokens * 4;
  static constexpr int kQuads = kGroupRows / 4;  // of rows, a token

  __device__ Reducer(const Rows16Arguments& args, const Rows16Work& work, uint8_t* shared,
                     const SharedLayout& layout)
      : args_(args),
        work_(work),
        shared_(shared),
        sums_offset_(layout.sums_offset),
        slots_offset_(layout.slots_offset),
        barriers_offset_(layout.barriers_offset),
        owned_log2_(kGroupRowsLog2 - args.cluster_log2) {}

  // By one thread, before the cluster's first barrier.
  __device__ void InitBarriers() const {
    for (int group = work_.first_group; group < work_.first_group + 2; ++group) {
      InitBarrier(Barrier(group), 1);
      ExpectBytes(Barrier(group), SentBytes());
    }
    asm volatile("fence.mbarrier_init.release.cluster;");
  }

  // Before `group` is multiplied: its scales, and the next norm's weights, on their way into the L2
  // cache. From memory they would be there later than the last sum.
  __device__ void AskForScales(int group) const {
    const int own = static_cast<int>(threadIdx.x), half_log2 = owned_log2_ - 1;
    if (own >> owned_log2_ > 0 || group >= work_.last_group) return;
    if constexpr (Decoder::kEncoding == PackedEncoding::kInt8) {
      const bool gate = args_.operands.result == GemmResult::kGate;
      const int output = gate ? (own >> half_log2) * (args_.outputs / 2) + FirstGated(group) +
                                    (own & ((1 << half_log2) - 1))
                              : FirstOutput(group) + own;
      PrefetchL2(args_.operands.row_scales + output);
    }
    const float* const norm = args_.operands.next_norm;
    const int output = FirstOutput(group) + own;
    if (norm != nullptr && output < args_.outputs) PrefetchL2(norm + output);
  }

  // The end of `group` for one warp. The slots of the group before hold this block's own part too,
  // so once they are full its sums have been read; and what a block sends for a group shows that it
  // has read its slots of the group before, so two slots are enough.
  __device__ void Finish(int group, int warp, int lane, Sums<Decoder, kColumnBlocks>& sums) {
    if (group > work_.first_group) Write(group - 1);
    __syncwarp();
    Leave(warp, lane, sums);
    SyncMultipliers();
    Send(group);
    __syncwarp();
  }

  // After the last group.
  __device__ void End() {
    if (work_.last_group > work_.first_group) Write(work_.last_group - 1);
    if (args_.operands.result == GemmResult::kResidual) LeaveSquares();
  }

 private:
  // In its cluster.
  __device__ bool IsAlone() const { return args_.cluster_log2 == 0; }

  // Of the outputs of a group that this block owns: the first; of a gated group's gates.
  __device__ int FirstOutput(int group) const {
    return group * kGroupRows + (work_.rank << owned_log2_);
  }
  __device__ int FirstGated(int group) const {
    return group * (kGroupRows / 2) + (work_.rank << (owned_log2_ - 1));
  }

  __device__ int Parity(int group) const { return (group - work_.first_group) % 2; }
  __device__ uint32_t Barrier(int group) const {
    return SharedAddress(shared_ + barriers_offset_) + Parity(group) * kBarrierBytes;
  }

  // What a block is sent of a group.
  __device__ uint32_t SentBytes() const { return args_.rows * kGroupRows * sizeof(Sum); }

  // Leaves a warp's sums for the block, and clears them.
  __device__ void Leave(int warp, int lane, Sums<Decoder, kColumnBlocks>& sums) const {
    constexpr int kRowWarps = kGroupTiles / Decoder::kWarpTiles;  // of a slice
    Sum* mine = reinterpret_cast<Sum*>(shared_ + sums_offset_) +
                warp / kRowWarps * kColumnBlocks * kSliceSums +
                warp % kRowWarps * Decoder::kWarpTiles * kTileRows + lane % 4 * 2 * kSumStride +
                lane / 4;
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int tile = 0; tile < Decoder::kWarpTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (n * kTokensPerColumnBlock + lane % 4 * 2 + i % 2 < args_.rows) {
            mine[n * kSliceSums + tile * kTileRows + i / 2 * 8 + i % 2 * kSumStride] =
                sums[tile][n][i];
          }
          sums[tile][n][i] = 0;
        }
      }
    }
  }

  // Adds the slices' sums of four rows for one token, and sends them to the block that owns the
  // rows: of kGate as many of the first half of the group as of the second.
  __device__ void Send(int group) const {
    const int token = threadIdx.x / kQuads;
    const int row = threadIdx.x % kQuads * 4;
    if (token >= args_.rows) return;
    const Sum* sums = reinterpret_cast<const Sum*>(shared_ + sums_offset_) +
                      token / kTokensPerColumnBlock * kSliceSums +
                      token % kTokensPerColumnBlock * kSumStride + row;
    Quad sum = {0, 0, 0, 0};
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) {
      const Quad part = *reinterpret_cast<const Quad*>(sums + slice * kColumnBlocks * kSliceSums);
      sum.x += part.x;
      sum.y += part.y;
      sum.z += part.z;
      sum.w += part.w;
    }
    int owner = row >> owned_log2_, owned = row & ((1 << owned_log2_) - 1);
    if (args_.operands.result == GemmResult::kGate) {
      const int half_log2 = owned_log2_ - 1, in_half = row % (kGroupRows / 2);
      owner = in_half >> half_log2;
      owned = (row / (kGroupRows / 2) << half_log2) + (in_half & ((1 << half_log2) - 1));
    }
    const int place = ((work_.rank * kTokens + token) << owned_log2_) + owned;
    uint8_t* const slot = shared_ + slots_offset_ + Parity(group) * kSlotBytes + place * 4;
    if (IsAlone()) {
      *reinterpret_cast<Quad*>(slot) = sum;
    } else {
      SendAsync(RemoteAddress(SharedAddress(slot), owner), sum,
                RemoteAddress(Barrier(group), owner));
    }
  }

  // Waits until the blocks have sent `group`; they may send the one after the next then.
  __device__ const Sum* Receive(int group) const {
    if (IsAlone()) {
      SyncMultipliers();
    } else {
      AwaitPhase(Barrier(group), (group - work_.first_group) / 2 % 2);
      if (threadIdx.x == 0) ExpectBytes(Barrier(group), SentBytes());
    }
    return reinterpret_cast<const Sum*>(shared_ + slots_offset_ + Parity(group) * kSlotBytes);
  }

  // What the blocks sent for one place, in the order of their ranks.
  __device__ float Total(const Sum* slot, int place, float scale, int token) const {
    Sum sum = 0;
    for (int source = 0; source < 1 << args_.cluster_log2; ++source) {
      sum += slot[(source * kTokens << owned_log2_) + place];
    }
    if constexpr (Decoder::kActivation == Activation::kInt8) {
      return sum * scale * args_.operands.x_scales[token];
    }
    return sum * scale;
  }

  __device__ float ScaleOf(int output) const {
    if constexpr (Decoder::kHasTable) return args_.codebook.inverse;
    if constexpr (Decoder::kEncoding == PackedEncoding::kValues) return 1;
    return args_.operands.row_scales[output];
  }

  __device__ void Write(int group) {
    if (args_.operands.result == GemmResult::kGate) {
      WriteGated(group);
    } else {
      WriteRows(group);
    }
  }

  __device__ void WriteRows(int group) {
    const GemmResult result = args_.operands.result;
    const int first_output = FirstOutput(group);
    const auto output_of = [&](int i) { return first_output + (i & ((1 << owned_log2_) - 1)); };
    const auto valid = [&](int i) {
      return i < kTokens << owned_log2_ && i >> owned_log2_ < args_.rows &&
             output_of(i) < args_.outputs;
    };
    const float* const norm = args_.operands.next_norm;
    float scales[kColumnBlocks], before[kColumnBlocks], weights[kColumnBlocks];
    // What the write needs is asked for before the sums are there.
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
      const int i = threadIdx.x + n * kThreads;
      scales[n] = before[n] = weights[n] = 0;
      if (!valid(i)) continue;
      scales[n] = ScaleOf(output_of(i));
      if (result == GemmResult::kResidual) {
        before[n] = __ldcg(static_cast<const float*>(args_.operands.y) +
                           static_cast<int64_t>(i >> owned_log2_) * args_.outputs + output_of(i));
        if (norm != nullptr) weights[n] = norm[output_of(i)];
      }
    }
    const Sum* slot = Receive(group);
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
      const int i = threadIdx.x + n * kThreads;
      if (!valid(i)) continue;
      const int token = i >> owned_log2_;
      const int64_t at = static_cast<int64_t>(token) * args_.outputs + output_of(i);
      const float value = Total(slot, i, scales[n], token) + before[n];
      if (result == GemmResult::kStore) {
        static_cast<Scalar*>(args_.operands.y)[at] = Round<Scalar>(value);
      } else {
        static_cast<float*>(args_.operands.y)[at] = value;
        if (norm != nullptr) args_.operands.weighted[at] = value * weights[n];
        squares_[n] += value * value;
      }
    }
  }

  __device__ void WriteGated(int group) {
    const int half_log2 = owned_log2_ - 1, width = args_.outputs / 2;
    const int i = threadIdx.x, token = i >> half_log2, owned = i & ((1 << half_log2) - 1);
    const int column = FirstGated(group) + owned;
    const bool valid = token < min(args_.rows, kTokens);
    const float gate_scale = valid ? ScaleOf(column) : 0;
    const float up_scale = valid ? ScaleOf(width + column) : 0;
    const Sum* slot = Receive(group);
    if (!valid) return;
    const int place = (token << owned_log2_) + owned;
    const float gate = Total(slot, place, gate_scale, token);
    const float up = Total(slot, place + (1 << half_log2), up_scale, token);
    static_cast<Scalar*>(args_.operands.y)[static_cast<int64_t>(token) * width + column] =
        Round<Scalar>(Act(args_.operands.gating, gate) * up);
  }

  // The sums of squares of what this block added to: by whole warps, a token's lanes lie together.
  __device__ void LeaveSquares() const {
    const int lanes_log2 = min(owned_log2_, 5);
    const int parts_log2 = owned_log2_ - lanes_log2;
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
      const int i = threadIdx.x + n * kThreads, token = i >> owned_log2_;
      float sum = squares_[n];
      for (int offset = 1 << lanes_log2 >> 1; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      }
      if (token >= args_.rows || (i & ((1 << lanes_log2) - 1)) != 0) continue;
      const int part = (blockIdx.x << parts_log2) + (i >> lanes_log2 & ((1 << parts_log2) - 1));
      args_.operands.squares[token * kMostSquares + part] = sum;
    }
  }

  const Rows16Arguments& args_;
  const Rows16Work& work_;
  uint8_t* const shared_;
  const int sums_offset_;
  const int slots_offset_;
  const int barriers_offset_;
  const int owned_log2_;
  float squares_[kColumnBlocks] = {};  // of one token each
};

}  // namespace vernier::cuda
