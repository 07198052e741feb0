// How a block of gemm_rows16 is made up: its warps, and where everything lies in its shared memory.
#pragma once

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/packed_layout.h"

namespace vernier::cuda {

// Sixteen warps multiply: a pair for each of eight k-blocks, each with one record (32 rows) of the
// group; of 16-bit values four for each of four, each with one tile (16 rows). One more fills the
// ring.
inline constexpr int kWarps = 16;
inline constexpr int kGroupTiles = kGroupRows / kTileRows;
inline constexpr int kThreads = kWarps * 32;  // that multiply
inline constexpr int kAllThreads = kThreads + 32;
inline constexpr int kGroupRowsLog2 = 6;
static_assert(1 << kGroupRowsLog2 == kGroupRows);
inline constexpr int kMaxRing = 6;  // stages
inline constexpr int kTokensPerColumnBlock = 8;
inline constexpr int kSegmentBytes = 128;  // one token's values of a k-block
// A slice's sums are 8 tokens of 64 rows; the padding spreads the stores of a fragment over banks.
inline constexpr int kSumStride = kGroupRows + 4;
inline constexpr int kSliceSums = kTokensPerColumnBlock * kSumStride;
inline constexpr int kSwizzleBytes = 1024;  // after which the copy engine's swizzle repeats
inline constexpr int kMaxSharedBytes = 227 * 1024;
// A block asks for more than half, so that a multiprocessor takes one: two of them, from neighbours
// on a stream, end up unevenly spread (4096 x 4096, 8 rows, H200: 10.5 us against 7.5).
inline constexpr int kAloneBytes = 120 * 1024;

// Of the warps that multiply.
__device__ inline void SyncMultipliers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

// Shared memory: [pair table][x beyond its holes][ring][sums of warps][slots of the
// cluster][barriers].
struct SharedLayout {
  int x_offset;  // of the segments that do not fit the holes of the table
  int hole_segments;
  int ring_offset;      // [stage][record of the group][k-block], or [stage][k-block][row]
  int sums_offset;      // [slice][column block][token][row, padded]
  int slots_offset;     // two slots, by the parity of the group: [source][token][owned row]
  int barriers_offset;  // one a slot, then filled and emptied of each stage
  int bytes;
};

// K-blocks of a stage: as many warps share the rows of one.
VERNIER_HOST_DEVICE constexpr int SlicesOf(PackedEncoding encoding) {
  const int warp_tiles = encoding == PackedEncoding::kValues ? 1 : kTilesPerRecord;
  return kWarps * warp_tiles / kGroupTiles;
}

VERNIER_HOST_DEVICE constexpr int StageBytes(PackedEncoding encoding, Activation activation) {
  if (encoding == PackedEncoding::kValues) {
    return SlicesOf(encoding) * kGroupRows * kValueRowBytes;
  }
  return 2 * SlicesOf(encoding) * RecordBytes(encoding) * (BlockCols(activation) / kRecordCols);
}

VERNIER_HOST_DEVICE constexpr SharedLayout LayoutOf(PackedEncoding encoding, Activation activation,
                                                    int column_blocks, int slice_blocks, int ring) {
  const bool has_table = IsFourBits(encoding);
  const int tokens = column_blocks * kTokensPerColumnBlock;
  const int segments = slice_blocks * tokens;
  SharedLayout layout = {};
  layout.x_offset = has_table ? kPairTableBytes : 0;
  layout.hole_segments = has_table ? kPairTableBytes / kPairTableRowBytes : 0;
  const int beyond = segments > layout.hole_segments ? segments - layout.hole_segments : 0;
  layout.ring_offset = layout.x_offset + beyond * kSegmentBytes;
  if (encoding == PackedEncoding::kValues) {
    layout.ring_offset = (layout.ring_offset + kSwizzleBytes - 1) / kSwizzleBytes * kSwizzleBytes;
  }
  layout.sums_offset = layout.ring_offset + ring * StageBytes(encoding, activation);
  layout.slots_offset = layout.sums_offset + SlicesOf(encoding) * kSliceSums * column_blocks * 4;
  layout.barriers_offset = layout.slots_offset + 2 * kGroupRows * tokens * 4;
  layout.bytes = layout.barriers_offset + (2 + 2 * ring) * kBarrierBytes;
  return layout;
}

}  // namespace vernier::cuda
