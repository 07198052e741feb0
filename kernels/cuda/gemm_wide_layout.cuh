// How a block of gemm_wide is made up: its threads, where everything lies in its shared memory, and
// a lane's way through it.
#pragma once

#include <algorithm>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_wide_plan.h"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/packed_layout.h"
#include "kernels/cuda/warpgroup.cuh"

namespace vernier::cuda {

inline constexpr int kTileRecords = kTileOutputs / kRecordRows;
inline constexpr int kStepCols = 16;                    // of one wgmma
inline constexpr int kSteps = kRecordCols / kStepCols;  // of one record
inline constexpr int kSumStride = kTileOutputs + 4;  // floats a token: a fragment's over all banks
inline constexpr int kMaxSharedBytes = 227 * 1024;
inline constexpr int kMaxRing = 10;  // stages
inline constexpr int kXRowBytes = kRecordCols * 2;

// What a lane decodes from: absmax apart, or multiplied in.
template <class Decoder, bool kBlockSums>
struct TileOf {
  using Type = typename Decoder::ScaledTile;
};
template <class Decoder>
struct TileOf<Decoder, true> {
  using Type = typename Decoder::BareTile;
};

// How a block's threads share a tile of `kTokens` tokens.
template <class DecoderType, int kTokenCount>
struct TileShape {
  using Decoder = DecoderType;
  using Scalar = typename Decoder::Scalar;
  static constexpr int kTokens = kTokenCount;
  static constexpr bool kTall = kTokens > 64;
  static constexpr int kWarpgroups = kTall ? 2 : 4;
  static constexpr int kGroups = kTileOutputs / kGroupRows / kWarpgroups;  // of 64 a warpgroup
  static constexpr int kMultipliers = kWarpgroups * kWarpgroupThreads;
  static constexpr int kThreads = kMultipliers + kWarpgroupThreads;  // one more, that copies
  // Registers a thread. Those that multiply take what the copying warpgroup gives back, no more
  // than the block was launched with: they would wait forever.
  static constexpr int kCopyRegisters = kTall ? 40 : 32;
  static constexpr int kMultiplyRegisters = kTall ? 232 : 112;
  static_assert(kMultipliers * kMultiplyRegisters + kWarpgroupThreads * kCopyRegisters <=
                kThreads * (65536 / kThreads / 8 * 8));
  static constexpr int kUnitSteps = kGroups == 1 ? kSteps : kSteps / 2;  // decoded at once
  static constexpr bool kBlockSums = Decoder::kHasTable && !kTall;
  static constexpr int kSums = kTokens / 2;  // a lane, of 64 outputs
  using Tile = typename TileOf<Decoder, kBlockSums>::Type;

  static constexpr int kTableBytes = Decoder::kHasTable ? kPairTableBytes : 0;
  // Blocks of 64 columns a stage. More make longer copies of NF4's short records, and coarser
  // stages.
  static constexpr int kStageBlocks = !kBlockSums ? 1 : kTokens == 64 ? 2 : 4;
  static constexpr int kXTileBytes = kTokens * kXRowBytes;                // of a block
  static constexpr int kXBytes = kStageBlocks * kXTileBytes;              // of a stage
  static constexpr int kRowBytes = kStageBlocks * Decoder::kRecordBytes;  // a row of records
  static constexpr int kWeightBytes = kTileRecords * kRowBytes;           // of a stage
  static constexpr int kStageBytes = kXBytes + kWeightBytes + 2 * kBarrierBytes;
  static constexpr int kRing = std::min(kMaxRing, (kMaxSharedBytes - kTableBytes) / kStageBytes);
  static_assert(kRing * (kXBytes + kWeightBytes) >= kTokens * kSumStride * 4);
};

// Offsets in shared memory.
template <class Shape>
struct Places {
  // [ring][block][tokens][64], each at a multiple of 1024
  static constexpr int kX = Shape::kTableBytes;
  static constexpr int kWeights = kX + Shape::kRing * Shape::kXBytes;  // [ring][8][block] records
  static constexpr int kBarriers = kWeights + Shape::kRing * Shape::kWeightBytes;
  static constexpr int kEnd = kBarriers + Shape::kRing * 2 * kBarrierBytes;
  static constexpr int kTileSums = kX;  // [tokens][kSumStride] fp32, when the ring is done with
  static_assert(kEnd <= kMaxSharedBytes);

  // The barriers of a stage, in a block whose shared memory begins at `shared`: its bytes are
  // there; all warps have read them.
  static __device__ uint32_t Filled(uint32_t shared, int stage) {
    return shared + kBarriers + stage * 2 * kBarrierBytes;
  }
  static __device__ uint32_t Emptied(uint32_t shared, int stage) {
    return Filled(shared, stage) + kBarrierBytes;
  }
};

// A lane's way through the stages.
template <class Shape>
struct Reader {
  uint32_t shared;
  const uint8_t* shared_bytes;
  int lane;
  int record_offset;  // of this warp's tile of 16 outputs, in a stage's weights
  int tile;           // 0 or 1, in its record
  int stage = 0;
  int parity = 0;
  int block = 0;  // of the stage

  __device__ void Await() const { AwaitPhase(Places<Shape>::Filled(shared, stage), parity); }
  __device__ const uint8_t* record(int group) const {
    return shared_bytes + Places<Shape>::kWeights + stage * Shape::kWeightBytes + record_offset +
           group * kGroupRows / kRecordRows * Shape::kRowBytes +
           block * Shape::Decoder::kRecordBytes;
  }
  __device__ uint64_t x() const {
    return TileDescriptor(shared + Places<Shape>::kX + stage * Shape::kXBytes +
                          block * Shape::kXTileBytes);
  }
  // Gives stage `left` back to the warps that copy.
  __device__ void Leave(int left) const {
    __syncwarp();
    if (lane == 0) Arrive(Places<Shape>::Emptied(shared, left));
  }
  __device__ bool ends_stage() const { return block == Shape::kStageBlocks - 1; }
  __device__ void Next() {
    if (++block < Shape::kStageBlocks) return;
    block = 0;
    if (++stage == Shape::kRing) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace vernier::cuda
