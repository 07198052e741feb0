// y = x W^T for 1 to 16 rows of x: the weights are the A operand of mma.sync m16n8k16, tokens its
// n.
//
// clang-format off
//   K ->            slice of block 0      slice of block 1      A cluster takes a row group (64 rows of W)
//   row group 0   | p0 p1 .. p7 p0 .. |  | p0 p1 .. p7 p0 .. |  at a time. Each of its blocks keeps its
//   row group 1   | p0 p1 .. p7 p0 .. |  | p0 p1 .. p7 p0 .. |  slice of x in shared memory for all groups;
//   ...                                                         its eight pairs of warps take k-blocks in turn.
// clang-format on
//
// One more warp fills a ring of stages, eight k-blocks each, by bulk copies: some 70 KB are under
// way a multiprocessor, begun before griddepcontrol.wait. (Held in registers instead, the compiler
// made the use of one record wait for the loads of the next.)
//
// A group's sums go from the warps through shared memory to the block of the cluster that owns the
// rows, each in a fixed order. Data that crosses blocks counts itself in at a transaction barrier;
// a release at cluster scope would wait for every load under way.
//
// Of int8 x a k-block is two records, 128 columns, and sums are whole numbers (m16n8k32).
//
// Limits: 16 rows; the slice of x, the table and the sums within a multiprocessor's shared memory.
#include <algorithm>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_rows16.h"
#include "kernels/cuda/gemm_rows16_layout.cuh"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

struct Arguments {
  const uint8_t* weight;
  const float* row_scales;
  const void* x;
  const float* x_scales;  // int8 x
  void* y;
  int rows;
  int outputs;
  int inputs;
  int cluster_log2;
  int clusters;
  int ring;  // stages
  Nf4Codebook codebook;
};

// Of the warps that multiply.
__device__ inline void SyncMultipliers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

// A warp's sums of one row group: [tile][column block][fragment of m16n8].
template <class Decoder, int kColumnBlocks>
using Sums = typename Decoder::Sum[kTilesPerRecord][kColumnBlocks][4];

// K is cut into blocks of so many columns.
template <class Decoder>
constexpr int kBlockCols = Decoder::kBlockRecords* kRecordCols;
template <class Decoder>
constexpr bool kInt8X = Decoder::kActivation == Activation::kInt8;

// sums += record * x. `x` is this lane's address of its first 16 bytes for ldmatrix,
// `column_stride` what lies between column blocks.
template <class Decoder, int kColumnBlocks>
__device__ inline void Accumulate(const typename Decoder::Record& record, const uint8_t* table,
                                  int lane, uint32_t x, uint32_t column_stride,
                                  Sums<Decoder, kColumnBlocks>& sums) {
  constexpr int kPair = 2;       // tiles multiplied side by side
  uint32_t b[kColumnBlocks][8];  // [step][register]
#pragma unroll
  for (int n = 0; n < kColumnBlocks; ++n) {
    LoadMatrix4(x + n * column_stride, &b[n][0]);
    LoadMatrix4((x + n * column_stride) ^ 64, &b[n][4]);  // the other half of the segment
  }
#pragma unroll
  for (int first = 0; first < kTilesPerRecord; first += kPair) {
    typename Decoder::Sum block[kPair][kColumnBlocks][4];
#pragma unroll
    for (int i = 0; i < kPair * kColumnBlocks * 4; ++i) {
      (&block[0][0][0])[i] = Decoder::kHasTable ? 0 : (&sums[first][0][0])[i];
    }
#pragma unroll
    for (int step = 0; step < 4; ++step) {
#pragma unroll
      for (int tile = 0; tile < kPair; ++tile) {
        uint32_t a[4];
        record.Decode(table, lane * 4, first + tile, step, a);
#pragma unroll
        for (int n = 0; n < kColumnBlocks; ++n) {
          if constexpr (kInt8X<Decoder>) {
            MultiplyInt8(a, b[n][step * 2], b[n][step * 2 + 1], block[tile][n]);
          } else {
            Multiply<typename Decoder::Scalar>(a, b[n][step * 2], b[n][step * 2 + 1],
                                               block[tile][n]);
          }
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kPair; ++tile) {
      float low = 1, high = 1;
      if constexpr (Decoder::kHasTable) {
        low = __shfl_sync(~0u, record.absmax, (first + tile) * 2, 4);
        high = __shfl_sync(~0u, record.absmax, (first + tile) * 2 + 1, 4);
      }
#pragma unroll
      for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          auto& sum = sums[first + tile][n][i];
          if constexpr (Decoder::kHasTable) {
            sum += block[tile][n][i] * (i < 2 ? low : high);
          } else {
            sum = block[tile][n][i];
          }
        }
      }
    }
  }
}

// The slice of x into shared memory, 16 bytes a copy, what lies past the last row or column zero. A
// segment's chunks are exchanged by its token, so that eight tokens' chunks lie in different banks.
template <class Decoder, int kColumnBlocks>
__device__ inline void LoadX(const Arguments& args, uint8_t* shared, const SharedLayout& layout,
                             int first_block, int slice_blocks) {
  constexpr int kTokens = kColumnBlocks * kTokensPerColumnBlock;
  constexpr int kWarpsPerToken = kWarps / kTokens;
  const int token = threadIdx.x / 32 / kWarpsPerToken;
  constexpr int kValueBytes = kSegmentBytes / kBlockCols<Decoder>;
  const bool valid = token < args.rows;
  const char* x =
      static_cast<const char*>(args.x) + (static_cast<int64_t>(valid ? token : 0) * args.inputs +
                                          first_block * kBlockCols<Decoder>)*kValueBytes;
  const int row_chunks =
      (args.inputs - first_block * kBlockCols<Decoder>)*kValueBytes / 16;  // to the row's end
  for (int i = threadIdx.x % (32 * kWarpsPerToken); i < slice_blocks * 8;
       i += 32 * kWarpsPerToken) {
    const int segment = i / 8 * kTokens + token;
    uint8_t* to = segment < layout.hole_segments
                      ? shared + segment * kPairTableRowBytes + kPairTableHole
                      : shared + layout.x_offset + (segment - layout.hole_segments) * kSegmentBytes;
    CopyAsync16(SharedAddress(to + (i % 8 ^ token % 8) * 16), x + i * 16, valid && i < row_chunks);
  }
  asm volatile("cp.async.wait_all;");
}

// What one block of the grid works on.
struct Work {
  int rank;         // in its cluster
  int first_block;  // of its slice of K
  int slice_blocks;
  int first_group;  // half groups of its cluster
  int last_group;
};

__device__ inline Work WorkOf(const Arguments& args, int blocks) {
  const int groups = (args.outputs + kGroupRows - 1) / kGroupRows;
  const int cluster = blockIdx.x >> args.cluster_log2;
  Work work;
  work.rank = ClusterRank();
  work.first_block = work.rank * blocks >> args.cluster_log2;
  work.slice_blocks = ((work.rank + 1) * blocks >> args.cluster_log2) - work.first_block;
  work.first_group = cluster * groups / args.clusters;
  work.last_group = (cluster + 1) * groups / args.clusters;
  return work;
}

// From the sums of the warps to y, by all that multiply.
template <class Decoder, int kColumnBlocks>
struct Reducer {
  using Scalar = typename Decoder::Scalar;
  static constexpr int kTokens = kColumnBlocks * kTokensPerColumnBlock;
  static constexpr int kSlotBytes = kGroupRows * kTokens * 4;
  static constexpr int kQuads = kGroupRows / 4;  // of rows, a token
  using Sum = typename Decoder::Sum;
  using Quad = typename Decoder::Quad;

  const Arguments& args;
  const Work& work;
  uint8_t* shared;
  int sums_offset;
  int slots_offset;
  int barriers_offset;

  __device__ int parity(int group) const { return (group - work.first_group) % 2; }
  __device__ uint32_t barrier(int group) const {
    return SharedAddress(shared + barriers_offset) + parity(group) * kBarrierBytes;
  }

  // By one thread, before the cluster's first barrier.
  __device__ void InitBarriers() const {
    for (int group = work.first_group; group < work.first_group + 2; ++group) {
      InitBarrier(barrier(group), 1);
      ExpectBytes(barrier(group), kSlotBytes);
    }
    asm volatile("fence.mbarrier_init.release.cluster;");
  }

  // Leaves a warp's sums for the block, and clears them.
  __device__ void Leave(int warp, int lane, Sums<Decoder, kColumnBlocks>& sums) const {
    Sum* mine = reinterpret_cast<Sum*>(shared + sums_offset) +
                warp / 2 * kColumnBlocks * kPairSums + warp % 2 * kRecordRows +
                lane % 4 * 2 * kSumStride + lane / 4;
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int tile = 0; tile < kTilesPerRecord; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          mine[n * kPairSums + tile * kTileRows + i / 2 * 8 + i % 2 * kSumStride] =
              sums[tile][n][i];
          sums[tile][n][i] = 0;
        }
      }
    }
  }

  // Adds the pairs' sums of four rows for one token, and sends them to the block that owns the
  // rows.
  __device__ void Send(int group) const {
    const int token = threadIdx.x / kQuads;
    const int row = threadIdx.x % kQuads * 4;
    if (token >= kTokens) return;
    const Sum* sums = reinterpret_cast<const Sum*>(shared + sums_offset) +
                      token / kTokensPerColumnBlock * kPairSums +
                      token % kTokensPerColumnBlock * kSumStride + row;
    Quad sum = {0, 0, 0, 0};
#pragma unroll
    for (int pair = 0; pair < kSlices; ++pair) {
      const Quad part = *reinterpret_cast<const Quad*>(sums + pair * kColumnBlocks * kPairSums);
      sum.x += part.x;
      sum.y += part.y;
      sum.z += part.z;
      sum.w += part.w;
    }
    const int owned_log2 = kGroupRowsLog2 - args.cluster_log2;
    const int owner = row >> owned_log2;
    const int place =
        ((work.rank * kTokens + token) << owned_log2) + (row & ((1 << owned_log2) - 1));
    const uint32_t slot = SharedAddress(shared + slots_offset) + parity(group) * kSlotBytes;
    SendAsync(RemoteAddress(slot + place * 4, owner), sum, RemoteAddress(barrier(group), owner));
  }

  // Adds what the blocks sent for `group`, in the order of their ranks, and writes y.
  __device__ void Write(int group) const {
    AwaitPhase(barrier(group), (group - work.first_group) / 2 % 2);
    if (threadIdx.x == 0) ExpectBytes(barrier(group), kSlotBytes);
    const Sum* slot =
        reinterpret_cast<const Sum*>(shared + slots_offset + parity(group) * kSlotBytes);
    const int owned_log2 = kGroupRowsLog2 - args.cluster_log2;
    const int first_output = group * kGroupRows + (work.rank << owned_log2);
    for (int i = threadIdx.x; i < kTokens << owned_log2; i += kThreads) {
      const int token = i >> owned_log2;
      const int output = first_output + (i & ((1 << owned_log2) - 1));
      if (token >= args.rows || output >= args.outputs) continue;
      Sum sum = 0;
      for (int source = 0; source < 1 << args.cluster_log2; ++source) {
        sum += slot[(source * kTokens << owned_log2) + i];
      }
      const float scale =
          Decoder::kHasTable ? 1 / Nf4Multiplier<Scalar>::kValue : args.row_scales[output];
      static_cast<Scalar*>(args.y)[static_cast<int64_t>(token) * args.outputs + output] =
          Round<Scalar>(kInt8X<Decoder> ? sum * scale * args.x_scales[token] : sum * scale);
    }
  }

  // The end of `group` for one warp. The slots of the group before hold this block's own part too,
  // so once they are full its sums have been read; and what a block sends for a group shows that it
  // has read its slots of the group before, so two slots are enough.
  __device__ void Finish(int group, int warp, int lane, Sums<Decoder, kColumnBlocks>& sums) const {
    if (group > work.first_group) Write(group - 1);
    __syncwarp();
    Leave(warp, lane, sums);
    SyncMultipliers();
    Send(group);
    __syncwarp();
  }
};

// Fills the ring, stage after stage: for both records of a row group, the next eight k-blocks. By
// one thread.
template <class Decoder>
__device__ inline void FillRing(const Arguments& args, const Work& work, uint32_t ring,
                                uint32_t filled, uint32_t emptied) {
  constexpr int kBlockBytes = Decoder::kBlockRecords * Decoder::kRecordBytes;
  const int64_t row_bytes = static_cast<int64_t>(args.inputs / kRecordCols) * Decoder::kRecordBytes;
  const uint8_t* row = args.weight + 2 * work.first_group * row_bytes +
                       static_cast<int64_t>(work.first_block) * kBlockBytes;
  // Of the slice: the last block of a row may have one record of two, and x is zero beyond.
  const int slice_bytes =
      static_cast<int>(min(static_cast<int64_t>(work.slice_blocks) * kBlockBytes,
                           row_bytes - static_cast<int64_t>(work.first_block) * kBlockBytes));
  int stage = 0;
  int round = 0;
  for (int group = work.first_group; group < work.last_group; ++group, row += 2 * row_bytes) {
    for (int block = 0; block < work.slice_blocks; block += kSlices) {
      const uint32_t barrier = filled + stage * kBarrierBytes;
      if (round > 0) AwaitPhase(emptied + stage * kBarrierBytes, (round - 1) % 2);
      const int bytes = min(kSlices * kBlockBytes, slice_bytes - block * kBlockBytes);
      const uint32_t to = ring + stage * StageBytes(Decoder::kEncoding, Decoder::kActivation);
      ExpectBytes(barrier, 2 * bytes);
      CopyBulk(to, row + block * kBlockBytes, bytes, barrier);
      CopyBulk(to + kSlices * kBlockBytes, row + row_bytes + block * kBlockBytes, bytes, barrier);
      if (++stage == args.ring) {
        stage = 0;
        ++round;
      }
    }
  }
}

template <class Decoder, int kColumnBlocks>
__global__ void __launch_bounds__(kAllThreads, 1)
    GemmRows16(const __grid_constant__ Arguments args) {
  constexpr int kTokens = kColumnBlocks * kTokensPerColumnBlock;
  extern __shared__ __align__(1024) uint8_t shared[];
  // By a shuffle: what follows from it is then known to be one for all lanes.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = threadIdx.x % 32;
  const int blocks = (args.inputs + kBlockCols<Decoder> - 1) / kBlockCols<Decoder>;
  const Work work = WorkOf(args, blocks);
  const SharedLayout layout =
      LayoutOf(Decoder::kEncoding, Decoder::kActivation, kColumnBlocks,
               (blocks + (1 << args.cluster_log2) - 1) >> args.cluster_log2, args.ring);
  const Reducer<Decoder, kColumnBlocks> reducer = {
      args, work, shared, layout.sums_offset, layout.slots_offset, layout.barriers_offset};

  asm volatile("griddepcontrol.launch_dependents;");
  const uint32_t shared_base = SharedAddress(shared);
  const uint32_t filled = shared_base + layout.barriers_offset + 2 * kBarrierBytes;
  const uint32_t emptied = filled + args.ring * kBarrierBytes;
  const bool fills = warp == kWarps;
  if (fills && lane == 0) {
    for (int i = 0; i < args.ring; ++i) {
      InitBarrier(filled + i * kBarrierBytes, 1);
      InitBarrier(emptied + i * kBarrierBytes, kWarps);
    }
    reducer.InitBarriers();
  }
  __syncwarp();
  // Every block's barriers stand before another block sends to it.
  asm volatile("barrier.cluster.arrive.relaxed.aligned;");
  if (fills) {
    if (lane == 0) FillRing<Decoder>(args, work, shared_base + layout.ring_offset, filled, emptied);
    __syncwarp();
    asm volatile("barrier.cluster.wait.acquire.aligned;");
    return;
  }
  if constexpr (Decoder::kHasTable) {
    BuildPairTable<typename Decoder::Scalar>(args.codebook, shared, kThreads);
  }
  asm volatile("griddepcontrol.wait;" ::: "memory");
  LoadX<Decoder, kColumnBlocks>(args, shared, layout, work.first_block, work.slice_blocks);
  asm volatile("barrier.cluster.wait.acquire.aligned;");
  SyncMultipliers();

  const int pair = warp / 2;
  const uint8_t* mine =
      shared + layout.ring_offset +
      (warp % 2 * kSlices + pair) * Decoder::kBlockRecords * Decoder::kRecordBytes;
  // This lane's row of ldmatrix in segment 0, were it in a hole and were it beyond.
  const uint32_t chunk = (lane / 8 ^ lane % 8) * 16;
  const uint32_t x_hole = shared_base + kPairTableHole + lane % 8 * kPairTableRowBytes + chunk;
  const uint32_t x_beyond =
      shared_base + layout.x_offset + (lane % 8 - layout.hole_segments) * kSegmentBytes + chunk;
  Sums<Decoder, kColumnBlocks> sums = {};
  int stage = 0;
  int parity = 0;
#pragma unroll 1
  for (int group = work.first_group; group < work.last_group; ++group) {
#pragma unroll 1
    for (int block = pair; block - pair < work.slice_blocks; block += kSlices) {
      AwaitPhase(filled + stage * kBarrierBytes, parity);
      __syncwarp();
      typename Decoder::Record record;
      record.Load(mine + stage * StageBytes(Decoder::kEncoding, Decoder::kActivation), lane);
      __syncwarp();
      if (lane == 0) Arrive(emptied + stage * kBarrierBytes);
      if (++stage == args.ring) {
        stage = 0;
        parity ^= 1;
      }
      if (block >= work.slice_blocks) continue;
      const bool hole = block * kTokens < layout.hole_segments;
      Accumulate<Decoder, kColumnBlocks>(
          record, shared, lane,
          hole ? x_hole + block * kTokens * kPairTableRowBytes
               : x_beyond + block * kTokens * kSegmentBytes,
          kTokensPerColumnBlock * (hole ? kPairTableRowBytes : kSegmentBytes), sums);
    }
    reducer.Finish(group, warp, lane, sums);
  }
  if (work.last_group > work.first_group) reducer.Write(work.last_group - 1);
}

template <class Decoder, int kColumnBlocks>
cudaError_t Launch(const GemmPlan& plan, const Arguments& args, cudaStream_t stream) {
  const auto kernel = GemmRows16<Decoder, kColumnBlocks>;
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMaxSharedBytes);
  if (prepared != cudaSuccess) return prepared;
  const ClusterLaunch launch = {plan.cluster, plan.clusters, kAllThreads, plan.shared_bytes};
  return LaunchClusters(kernel, launch, stream, args);
}

template <class Decoder>
cudaError_t LaunchTokens(const GemmPlan& plan, const Arguments& args, cudaStream_t stream) {
  return plan.tile_tokens == kTokensPerColumnBlock ? Launch<Decoder, 1>(plan, args, stream)
                                                   : Launch<Decoder, 2>(plan, args, stream);
}

template <class Scalar>
cudaError_t LaunchFor(const GemmProblem& problem, const GemmPlan& plan, const Arguments& args,
                      cudaStream_t stream) {
  return problem.encoding == PackedEncoding::kNf4
             ? LaunchTokens<Nf4Decoder<Scalar>>(plan, args, stream)
             : LaunchTokens<Int8Decoder<Scalar>>(plan, args, stream);
}

// Clusters that run at once on an H100 or H200, one block a multiprocessor: the multiprocessors of
// a cluster lie in one GPC, and those have 16 or 18.
struct ClusterRow {
  int cluster;
  int clusters;
};
constexpr ClusterRow kClusterRows[] = {{1, 132}, {2, 66}, {4, 30}, {8, 15}};

}  // namespace

GemmPlan PlanRows16(const GemmProblem& problem) {
  const int column_blocks = (problem.rows + kTokensPerColumnBlock - 1) / kTokensPerColumnBlock;
  const int groups = (problem.outputs + kGroupRows - 1) / kGroupRows;
  const int block_cols = BlockCols(problem.activation);
  const int blocks = (problem.inputs + block_cols - 1) / block_cols;
  GemmPlan best;
  int64_t best_cost = INT64_MAX;
  for (const ClusterRow& row : kClusterRows) {
    const int slice_blocks = (blocks + row.cluster - 1) / row.cluster;
    const auto bytes = [&](int ring) {
      return LayoutOf(problem.encoding, problem.activation, column_blocks, slice_blocks, ring)
          .bytes;
    };
    int ring = kMaxRing;
    while (ring > 1 && bytes(ring) > kMaxSharedBytes) --ring;
    if (ring == 1) continue;
    const int clusters = std::min(groups, row.clusters);
    // Records of the busiest warp; the end of a group costs about half of one.
    const int records = (slice_blocks + kSlices - 1) / kSlices * (block_cols / kRecordCols);
    const int64_t cost =
        static_cast<int64_t>((groups + clusters - 1) / clusters) * (2 * records + 1);
    // Of equals the larger cluster: its slices of x leave more room for the ring.
    if (cost <= best_cost) {
      best_cost = cost;
      best = {GemmKernel::kRows16,
              column_blocks * kTokensPerColumnBlock,
              row.cluster,
              clusters,
              ring,
              std::max(bytes(ring), kAloneBytes)};
    }
  }
  return best;
}

cudaError_t LaunchRows16(const GemmProblem& problem, const GemmPlan& plan,
                         const GemmOperands& operands, cudaStream_t stream) {
  int cluster_log2 = 0;
  while (1 << cluster_log2 < plan.cluster) ++cluster_log2;
  const Arguments args = {operands.weight, operands.row_scales, operands.x,      operands.x_scales,
                          operands.y,      problem.rows,        problem.outputs, problem.inputs,
                          cluster_log2,    plan.clusters,       plan.ring,       {}};
  if (problem.activation == Activation::kInt8) {
    return LaunchTokens<Int8ByInt8Decoder>(plan, args, stream);
  }
  return problem.activation == Activation::kF16
             ? LaunchFor<__half>(problem, plan, args, stream)
             : LaunchFor<__nv_bfloat16>(problem, plan, args, stream);
}

}  // namespace vernier::cuda
