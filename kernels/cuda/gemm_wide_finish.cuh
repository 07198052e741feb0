// gemm_wide, from a warpgroup's sums to y: the slices of a block are added in shared memory, each
// warpgroup ending up with a share of the tokens, and the parts of a tile that several pairs
// multiplied in the workspace.
//
// The pair with a tile's last columns owns it. The others leave their sums in the workspace and
// count themselves in; the owner waits for them and adds theirs to its own in the order of the
// pairs. It waits for pairs of lower numbers alone, which were launched before it, and they leave
// what they have of an owner's tile first: no two can wait for each other.
#pragma once

#include "kernels/cuda/gating.cuh"
#include "kernels/cuda/gemm_wide_layout.cuh"

namespace vernier::cuda {

struct WideArguments {
  const float* row_scales;
  const float* x_scales;  // int8 x
  void* y;
  uint8_t* workspace;
  int rows;
  int outputs;
  int row_records;  // of the weight
  bool gated;       // GemmResult::kGate
  Gating gating;
  WideSchedule schedule;
  Codebook codebook;
};

// Barriers of the block: 0 has all, 1 all that multiply, then one a warpgroup, one a group of
// outputs with its slices, and one a warpgroup of gates with that of what they gate.
__device__ inline void SyncSome(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// What one warpgroup does with its sums of 64 outputs.
template <class Shape>
struct Finisher {
  using Scalar = typename Shape::Scalar;
  static constexpr int kShareTokens = Shape::kTokens / Shape::kSlices;
  static constexpr int kQuads = kShareTokens / 8;  // four sums each, a lane
  using Sum = typename Shape::Sum;
  using Quad = typename Shape::Decoder::Quad;  // of sums
  using Sums = Sum[Shape::kSums];
  using Share = Sum[kQuads * 4];

  const WideArguments& args;
  uint8_t* shared;
  int pair;
  int rank;       // in the pair
  int warpgroup;  // of the block
  int group;      // of 64 outputs, in the block
  int slice;

  // Of a gated product the first half of a block's groups are rows of the gate, the second the rows
  // that these gate.
  static constexpr bool kGates = CanGate(Shape::kTile) && !Shape::kInt8X;
  static constexpr int kHalf = std::max(Shape::kGroups / 2, 1);
  __device__ bool gated() const { return kGates && args.gated; }
  __device__ bool is_gate() const { return group < kHalf; }

  __device__ int thread() const { return threadIdx.x % kWarpgroupThreads; }
  // Of what this warpgroup ends up with, among those of the block.
  __device__ int place() const { return group * Shape::kSlices + slice; }
  __device__ void SyncWarpgroup() const { SyncSome(2 + warpgroup, kWarpgroupThreads); }
  __device__ void SyncSlices() const {
    SyncSome(2 + kMaxWarpgroups + group, Shape::kSlices * kWarpgroupThreads);
  }

  __device__ void Finish(const WidePiece& piece, const Sums& sums) const {
    Share share;
    if constexpr (Shape::kSlices > 1) {
      AddSlices(sums, share);
    } else {
#pragma unroll
      for (int i = 0; i < Shape::kSums; ++i) share[i] = sums[i];
    }
    if (piece.first_block + piece.blocks < args.schedule.tile_units) {
      LeavePart(piece.tile, share);
      return;
    }
    if (piece.first_block > 0) AddParts(piece.tile, share);
    Write(piece.tile, share);
  }

  // share = what all slices have of this one's tokens, in the order of the slices from this one on.
  __device__ void AddSlices(const Sums& sums, Share& share) const {
    constexpr int kPieces = kStagingPieces / Shape::kGroups;
    constexpr int kOthers = Shape::kSlices - 1;
    // In turns of as many quads as there is room for.
    constexpr int kQuadBytes = Shape::kSlices * kOthers * kWarpgroupThreads * 16;
    constexpr int kTurnQuads = std::min(kQuads, kPieces * kStagingPieceBytes / kQuadBytes);
    static_assert(kTurnQuads > 0 && kQuads % kTurnQuads == 0);
    // Where slice `from` leaves a quad of a turn for the slice `ahead` after it.
    const auto place = [&](int from, int ahead, int quad) {
      const int chunk =
          ((from * kOthers + ahead - 1) * kTurnQuads + quad) * kWarpgroupThreads + thread();
      return reinterpret_cast<Quad*>(
          shared + Places<Shape>::Staging(group * kPieces + chunk / 8, chunk % 8));
    };
#pragma unroll
    for (int first = 0; first < kQuads; first += kTurnQuads) {
      SyncSlices();  // what was in the staging area has been read
#pragma unroll
      for (int to = 0; to < Shape::kSlices; ++to) {
        const int ahead = (to - slice) & kOthers;
#pragma unroll
        for (int i = 0; i < kTurnQuads; ++i) {
          const Sum* const d = sums + (to * kQuads + first + i) * 4;
          if (ahead > 0) {
            *place(slice, ahead, i) = {d[0], d[1], d[2], d[3]};
          } else {
#pragma unroll
            for (int j = 0; j < 4; ++j) share[4 * (first + i) + j] = d[j];
          }
        }
      }
      SyncSlices();
#pragma unroll
      for (int ahead = 1; ahead <= kOthers; ++ahead) {
#pragma unroll
        for (int i = 0; i < kTurnQuads; ++i) {
          Add(*place((slice - ahead) & kOthers, ahead, i), first + i, share);
        }
      }
    }
    SyncSlices();  // what follows uses the same area
  }

  static __device__ void Add(const Quad& part, int quad, Share& sums) {
    sums[4 * quad] += part.x;
    sums[4 * quad + 1] += part.y;
    sums[4 * quad + 2] += part.z;
    sums[4 * quad + 3] += part.w;
  }

  // Where pair `of` leaves its part of a tile: it has one at most.
  __device__ Quad* PartOf(int of) const {
    uint8_t* const block = args.workspace + kCounterBytes +
                           static_cast<int64_t>(of * kPairBlocks + rank) * kMaxPartialBytes;
    return reinterpret_cast<Quad*>(block) + place() * kQuads * kWarpgroupThreads + thread();
  }
  __device__ int* CounterOf(int owner) const {
    return reinterpret_cast<int*>(args.workspace) + (owner * kPairBlocks + rank) * kMaxWarpgroups +
           place();
  }

  __device__ void LeavePart(int tile, const Share& sums) const {
    Quad* const part = PartOf(pair);
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      __stcg(part + i * kWarpgroupThreads,
             Quad{sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]});
    }
    SyncWarpgroup();
    if (thread() == 0) {
      __threadfence();
      atomicAdd(CounterOf(args.schedule.last_pair_of(tile)), 1);
    }
    __syncwarp();
  }

  __device__ void AddParts(int tile, Share& sums) const {
    const int first = args.schedule.first_pair_of(tile);
    if (thread() == 0) {
      int* const counter = CounterOf(pair);
      int count = 0;
      while (count < pair - first) {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(count) : "l"(counter) : "memory");
      }
      *counter = 0;  // for the launch after this one
    }
    SyncWarpgroup();
    // Many loads at once, as each wait for the cache costs half a microsecond, but not more than
    // there are registers for.
    constexpr int kAtOnce = Shape::kTokens == 256 ? 16 : 8;
    constexpr int kPart = std::min(kQuads, kAtOnce);  // quads of one part
    constexpr int kParts = kAtOnce / kPart;
    const Quad none = {0, 0, 0, 0};
#pragma unroll 1
    for (int of = first; of < pair; of += kParts) {
#pragma unroll
      for (int begin = 0; begin < kQuads; begin += kPart) {
        Quad parts[kParts][kPart];
#pragma unroll
        for (int i = 0; i < kParts * kPart; ++i) {
          const Quad* const part = PartOf(of + i / kPart) + (begin + i % kPart) * kWarpgroupThreads;
          (&parts[0][0])[i] = of + i / kPart < pair ? __ldcg(part) : none;
        }
#pragma unroll
        for (int i = 0; i < kParts * kPart; ++i) Add((&parts[0][0])[i], begin + i % kPart, sums);
        asm volatile("" ::: "memory");
      }
    }
  }

  // The scales of the rows of x, lane l with those of tokens l, l + 32, and so on: all loads at
  // once, as each wait takes as long as one.
  static constexpr int kXScales = Shape::kInt8X ? (kShareTokens + 31) / 32 : 1;
  using XScales = float[kXScales];
  __device__ void LoadXScales(int first_token, XScales& scales) const {
    if constexpr (Shape::kInt8X) {
#pragma unroll
      for (int i = 0; i < kXScales; ++i) {
        const int token = first_token + i * 32 + thread() % 32;
        scales[i] = token < args.rows ? args.x_scales[token] : 0;
      }
    }
  }
  // Of the two tokens that this lane has of the eight from `token`, which is known when compiled.
  __device__ float2 XScalesOf(const XScales& scales, int token) const {
    if constexpr (!Shape::kInt8X) return {1, 1};
    const int from = token % 32 + thread() % 4 * 2;
    return {__shfl_sync(~0u, scales[token / 32], from),
            __shfl_sync(~0u, scales[token / 32], from + 1)};
  }
  static __device__ float Result(Sum sum, float output_scale, float x_scale) {
    if constexpr (Shape::kInt8X) return static_cast<float>(sum) * output_scale * x_scale;
    return sum * output_scale;
  }

  // Of those that write one piece of y.
  __device__ void SyncWriters() const {
    if (gated()) {
      SyncSome(2 + 2 * kMaxWarpgroups + group % kHalf * Shape::kSlices + slice,
               2 * kWarpgroupThreads);
    } else {
      SyncWarpgroup();
    }
  }

  // Rounds the sums and writes them: through shared memory, as a lane's lie scattered in y.
  __device__ void Write(int tile, const Share& sums) const {
    // A token's 64 results fill a piece of the staging area.
    constexpr int kPieces = kStagingPieces / Shape::kWarpgroups;
    constexpr int kTurn = std::min(kShareTokens, kPieces);  // tokens at once
    const int lane = thread() % 32;
    const TilePlace at = args.schedule.PlaceOf(tile);
    const int block = at.row * kPairBlocks + rank;
    const int first_output = gated() ? (block * kHalf + group % kHalf) * kGroupRows
                                     : (block * Shape::kGroups + group) * kGroupRows;
    const int first_token = at.token * Shape::kTokens + slice * kShareTokens;
    XScales x_scales;
    LoadXScales(first_token, x_scales);
    float low = args.codebook.inverse;
    float high = low;
    if constexpr (!Shape::Decoder::kHasTable) {
      const int first_row = first_output + (gated() && !is_gate() ? args.outputs / 2 : 0);
      const int row = first_row + thread() / 32 * kTileRows + lane / 4;
      low = row < args.outputs ? args.row_scales[row] : 0;
      high = row + 8 < args.outputs ? args.row_scales[row + 8] : 0;
    }
#pragma unroll
    for (int turn = 0; turn < kShareTokens; turn += kTurn) {
      SyncWriters();  // what was in the staging area has been read
#pragma unroll
      for (int token = 0; token < kTurn; token += 8) {
        const Sum* const d = sums + (turn + token) / 2;
        const float2 scales = XScalesOf(x_scales, turn + token);
        const int row = token + lane % 8;
        const int chunk = (thread() / 32 * 2 + lane / 8 % 2) ^ row % 8;
        StoreMatrix2Transposed(
            SharedAddress(shared + Places<Shape>::Staging(place() * kPieces + row, chunk)),
            PackPair<Scalar>(Result(d[0], low, scales.x), Result(d[1], low, scales.y)),
            PackPair<Scalar>(Result(d[2], high, scales.x), Result(d[3], high, scales.y)));
      }
      SyncWriters();
      const int tokens = min(kTurn, args.rows - first_token - turn);
      if (gated()) {
        WriteGated<kPieces>(tokens, first_token + turn, first_output);
        continue;
      }
      constexpr int kCopies = (kTurn * 8 + kWarpgroupThreads - 1) / kWarpgroupThreads;
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const int chunk = i * kWarpgroupThreads + thread();
        const int row = chunk / 8;
        if (row >= tokens) break;
        CopyOut(*reinterpret_cast<const uint4*>(
                    shared + Places<Shape>::Staging(place() * kPieces + row, chunk % 8 ^ row % 8)),
                first_token + turn + row, first_output + chunk % 8 * 8);
      }
    }
    // The next tile's slices are added where another group may still read.
    if (Shape::kSlices > 1 && gated()) SyncWriters();
  }

  // act(gate) * up of what both warpgroups left in the staging area, half of it each.
  template <int kPieces>
  __device__ void WriteGated(int tokens, int first_token, int first_output) const {
    const int gates = (group % kHalf * Shape::kSlices + slice) * kPieces;
    const int ups = gates + kHalf * Shape::kSlices * kPieces;
#pragma unroll 1
    for (int chunk = (is_gate() ? 0 : kWarpgroupThreads) + thread(); chunk < tokens * 8;
         chunk += 2 * kWarpgroupThreads) {
      const int row = chunk / 8, output = first_output + chunk % 8 * 8;
      if (output >= args.outputs / 2) continue;
      const auto eight = [&](int piece) {
        return *reinterpret_cast<const uint4*>(
            shared + Places<Shape>::Staging(piece + row, chunk % 8 ^ row % 8));
      };
      float h[kEight];
      if (args.gating == Gating::kSilu) {
        GateEight<Scalar, true>(args.gating, eight(gates), eight(ups), h);
      } else {
        GateEight<Scalar, false>(args.gating, eight(gates), eight(ups), h);
      }
      Scalar* const y = static_cast<Scalar*>(args.y) +
                        static_cast<int64_t>(first_token + row) * (args.outputs / 2) + output;
      *reinterpret_cast<uint4*>(y) = NarrowEight<Scalar>(h);
    }
  }

  // Eight results of one token.
  __device__ void CopyOut(const uint4& results, int token, int output) const {
    Scalar* const y =
        static_cast<Scalar*>(args.y) + static_cast<int64_t>(token) * args.outputs + output;
    if (args.outputs % 8 == 0) {
      if (output < args.outputs) *reinterpret_cast<uint4*>(y) = results;
      return;
    }
    const Scalar* const each = reinterpret_cast<const Scalar*>(&results);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (output + i < args.outputs) y[i] = each[i];
    }
  }
};

}  // namespace vernier::cuda
