// How a block of threads of gemm_wide is made up: its threads, where everything lies in its shared
// memory, and a lane's way through it.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_wide_plan.h"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/packed_layout.h"
#include "kernels/cuda/warpgroup.cuh"

namespace vernier::cuda {

inline constexpr int kXRowBytes = 128;          // a token's share of a block
inline constexpr int kSteps = kXRowBytes / 32;  // products of a block: wgmma takes 32 bytes
inline constexpr int kMaxSharedBytes = 227 * 1024;
inline constexpr int kMaxRing = 10;  // stages

// Where sums pass on their way out: 256 pieces of 128 bytes, in the holes of the pair table where
// there is one.
inline constexpr int kStagingPieces = 256;
inline constexpr int kStagingPieceBytes = 128;

// What a lane decodes from: absmax apart, or multiplied in.
template <class Decoder, bool kBlockSums>
struct TileOf {
  using Type = typename Decoder::ScaledTile;
};
template <class Decoder>
struct TileOf<Decoder, true> {
  using Type = typename Decoder::BareTile;
};

// How a block's threads share its part of tile kWideTiles[kIndex].
template <class DecoderType, int kIndex>
struct TileShape {
  using Decoder = DecoderType;
  using Scalar = typename Decoder::Scalar;
  using Input = typename Decoder::Input;
  using Sum = typename Decoder::Sum;
  static constexpr bool kInt8X = std::is_same_v<Input, int8_t>;
  static constexpr int kBlockCols = Decoder::kBlockRecords * kRecordCols;
  static constexpr int kBlockBytes = Decoder::kBlockRecords * Decoder::kRecordBytes;
  static constexpr WideTile kTile = kWideTiles[kIndex];
  static constexpr int kTokens = kTile.tokens;
  static constexpr int kSlices = kTile.slices;
  static constexpr int kWarpgroups = kTile.warpgroups;
  static constexpr int kGroups = kWarpgroups / kSlices;  // of 64 outputs, a warpgroup a slice
  static constexpr int kRecords = kGroups * kGroupRows / kRecordRows;
  static constexpr int kMultipliers = kWarpgroups * kWarpgroupThreads;
  static constexpr int kThreads = kMultipliers + kWarpgroupThreads;  // one more, that copies
  // Registers a thread. Those that multiply take what the copying warpgroup gives back, no more
  // than the block was launched with: they would wait forever.
  static constexpr int kCopyRegisters = kWarpgroups == 2 ? 40 : 32;
  static constexpr int kMultiplyRegisters = kWarpgroups == 2 ? 232 : 112;
  static_assert(kMultipliers * kMultiplyRegisters + kWarpgroupThreads * kCopyRegisters <=
                kThreads * (65536 / kThreads / 8 * 8));
  static constexpr bool kBlockSums = Decoder::kHasTable && kTokens <= 64;
  // Decoded at once; two of them are held beside the sums.
  static constexpr int kUnitSteps = kTokens == 64 || kTokens == 128 ? kSteps / 2 : kSteps;
  static constexpr int kSums = kTokens / 2;  // a lane
  using Tile = typename TileOf<Decoder, kBlockSums>::Type;

  static constexpr int kTableBytes = Decoder::kHasTable ? kPairTableBytes : 0;
  static constexpr int kStagingBytes = Decoder::kHasTable ? 0 : kStagingPieces * kStagingPieceBytes;
  // Blocks of columns a stage. More make fewer turns of the ring, and a coarser one.
  static constexpr int kStageBlocks = std::max(kSlices, kTokens > 128 || kInt8X               ? 1
                                                        : kTokens > 32 || !Decoder::kHasTable ? 2
                                                                                              : 4);
  static constexpr int kXTileBytes = kTokens * kXRowBytes;      // of a block
  static constexpr int kXBytes = kStageBlocks * kXTileBytes;    // of a stage
  static constexpr int kRowBytes = kStageBlocks * kBlockBytes;  // a row of records
  static constexpr int kWeightBytes = kRecords * kRowBytes;     // of a stage
  static constexpr int kStageBytes = kXBytes + kWeightBytes + 2 * kBarrierBytes;
  static constexpr int kRing =
      std::min(kMaxRing, (kMaxSharedBytes - kTableBytes - kStagingBytes) / kStageBytes);
  static_assert(kRing >= 3);
};

// Offsets in shared memory.
template <class Shape>
struct Places {
  static constexpr int kStaging = Shape::kTableBytes;  // where there is no table
  // [ring][block][tokens][128 bytes], each at a multiple of 1024
  static constexpr int kX = kStaging + Shape::kStagingBytes;
  static constexpr int kWeights = kX + Shape::kRing * Shape::kXBytes;  // [ring][row][block] records
  static constexpr int kBarriers = kWeights + Shape::kRing * Shape::kWeightBytes;
  static constexpr int kEnd = kBarriers + Shape::kRing * 2 * kBarrierBytes;
  static_assert(kX % 1024 == 0 && kEnd <= kMaxSharedBytes);

  // The barriers of a stage, in a block whose shared memory begins at `shared`: its bytes are
  // there; all warps of the pair have read them.
  static __device__ uint32_t Filled(uint32_t shared, int stage) {
    return shared + kBarriers + stage * 2 * kBarrierBytes;
  }
  static __device__ uint32_t Emptied(uint32_t shared, int stage) {
    return Filled(shared, stage) + kBarrierBytes;
  }
  // Offset of 16-byte chunk `chunk` of staging piece `piece`.
  static __device__ int Staging(int piece, int chunk) {
    constexpr int kStride = Shape::Decoder::kHasTable ? kPairTableRowBytes : kStagingPieceBytes;
    constexpr int kFirst = Shape::Decoder::kHasTable ? kPairTableHole : kStaging;
    return kFirst + piece * kStride + chunk * 16;
  }
};

// A warp's way through the stages.
template <class Shape>
struct Reader {
  // Of a stage, of each slice.
  static constexpr int kBlocks = Shape::kStageBlocks / Shape::kSlices;

  uint32_t shared;
  const uint8_t* shared_bytes;
  uint32_t
      emptied;  // stage 0's barrier: lane 0 knows that of the pair's first block, lane 1 the other
  int lane;
  // Of this lane, in shared memory, in the slice's first record of the stage.
  typename Shape::Decoder::Place place;
  int table_offset;  // of this lane in a row of the pair table
  int slice;         // this warpgroup's
  uint32_t x_low;    // low word of the descriptor of the slice's first block of x of the stage
  int stage = 0;
  int parity = 0;

  // `first_row` is that of this warp's records in a stage's weights, `tile` its tile in a record.
  __device__ Reader(uint32_t shared, const uint8_t* shared_bytes, int lane, int first_row, int tile,
                    int slice)
      : shared(shared),
        shared_bytes(shared_bytes),
        emptied(RemoteAddress(Places<Shape>::Emptied(shared, 0), lane % kPairBlocks)),
        lane(lane),
        place(tile, lane),
        table_offset(4 * lane),
        slice(slice),
        x_low(static_cast<uint32_t>(
            TileDescriptor(shared + Places<Shape>::kX + slice * Shape::kXTileBytes))) {
    place.Move(Places<Shape>::kWeights + first_row * Shape::kRowBytes + slice * Shape::kBlockBytes);
    HoldRegister(table_offset);
  }

  __device__ void Await() const { AwaitPhase(Places<Shape>::Filled(shared, stage), parity); }
  // Of the slice's block `block` of the stage: what `place` is added to, and x.
  __device__ const uint8_t* records(int block) const {
    return shared_bytes + block * Shape::kSlices * Shape::kBlockBytes;
  }
  __device__ uint64_t x(int block) const {
    constexpr uint64_t kHigh = TileDescriptor(0) >> 32 << 32;
    return kHigh | (x_low + block * Shape::kSlices * Shape::kXTileBytes / 16);
  }
  // Gives stage `left` back to the warps of both blocks that copy.
  __device__ void Leave(int left) const {
    __syncwarp();
    if (lane < kPairBlocks) ArriveRemote(emptied + left * 2 * kBarrierBytes);
  }
  __device__ void NextStage() {
    place.Move(Shape::kWeightBytes);
    x_low += Shape::kXBytes / 16;
    if (++stage == Shape::kRing) {
      stage = 0;
      parity ^= 1;
      place.Move(-Shape::kRing * Shape::kWeightBytes);
      x_low -= Shape::kRing * Shape::kXBytes / 16;
    }
  }
};

}  // namespace vernier::cuda
