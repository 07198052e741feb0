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
// 16-bit values come as they lie, in rows: a stage is four k-blocks of 64 rows, copied as boxes of
// a tensor, and the four warps of a k-block have 16 rows each. (Copied row by row, 512 bytes at
// once, the copy engine's 60 clocks a copy were half of the bandwidth.)
//
// Up to eight rows of x that are short enough, a warp's fragments of it stay in registers for all
// groups: with the table's lookups, reading them is what shared memory would not keep up with.
//
// Of int8 x a k-block is two records, 128 columns, and sums are whole numbers (m16n8k32).
//
// x may be made here from the residual (gemm_rows16_x.cuh), and the sums may be gated or added to
// the residual (gemm_rows16_finish.cuh): for few rows a kernel of its own for either costs more
// than what it does. Every block makes its slice of x anew.
//
// Limits: 16 rows; the slice of x, the table and the sums within a multiprocessor's shared memory.
#include <algorithm>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_rows16.h"
#include "kernels/cuda/gemm_rows16_finish.cuh"
#include "kernels/cuda/gemm_rows16_layout.cuh"
#include "kernels/cuda/gemm_rows16_x.cuh"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor_map.h"

namespace vernier::cuda {
namespace {

// K is cut into blocks of so many columns.
template <class Decoder>
constexpr int kBlockCols = Decoder::kBlockRecords* kRecordCols;
template <class Decoder>
constexpr bool kInt8X = Decoder::kActivation == Activation::kInt8;

// A lane's share of a k-block of x: the B operand of its four steps.
template <int kColumnBlocks>
struct XFragments {
  uint32_t b[kColumnBlocks][8];  // [column block][step, register]

  // `x` is this lane's address of its first 16 bytes for ldmatrix, `column_stride` what lies
  // between column blocks.
  __device__ void Load(uint32_t x, uint32_t column_stride) {
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
      LoadMatrix4(x + n * column_stride, &b[n][0]);
      LoadMatrix4((x + n * column_stride) ^ 64, &b[n][4]);  // the other half of the segment
    }
  }
};

// sums += record * x. `table_offset` is 4 * lane.
template <class Decoder, int kColumnBlocks>
__device__ inline void Accumulate(const typename Decoder::Record& record, const uint8_t* table,
                                  int table_offset, const XFragments<kColumnBlocks>& x,
                                  Sums<Decoder, kColumnBlocks>& sums) {
  constexpr int kTiles = Decoder::kWarpTiles;  // multiplied side by side
  typename Decoder::Sum block[kTiles][kColumnBlocks][4];
#pragma unroll
  for (int i = 0; i < kTiles * kColumnBlocks * 4; ++i) {
    (&block[0][0][0])[i] = Decoder::kHasTable ? 0 : (&sums[0][0][0])[i];
  }
#pragma unroll
  for (int step = 0; step < 4; ++step) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      uint32_t a[4];
      record.Decode(table, table_offset, tile, step, a);
#pragma unroll
      for (int n = 0; n < kColumnBlocks; ++n) {
        if constexpr (kInt8X<Decoder>) {
          MultiplyInt8(a, x.b[n][step * 2], x.b[n][step * 2 + 1], block[tile][n]);
        } else {
          Multiply<typename Decoder::Scalar>(a, x.b[n][step * 2], x.b[n][step * 2 + 1],
                                             block[tile][n]);
        }
      }
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float low = 1, high = 1;
    if constexpr (Decoder::kHasTable) {
      low = tile == 0 ? record.absmax.x : record.absmax.z;
      high = tile == 0 ? record.absmax.y : record.absmax.w;
    }
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        auto& sum = sums[tile][n][i];
        if constexpr (Decoder::kHasTable) {
          sum += block[tile][n][i] * (i < 2 ? low : high);
        } else {
          sum = block[tile][n][i];
        }
      }
    }
  }
}

__device__ inline Rows16Work WorkOf(const Rows16Arguments& args, int blocks) {
  const int groups = (args.outputs + kGroupRows - 1) / kGroupRows;
  const int cluster = blockIdx.x >> args.cluster_log2;
  Rows16Work work;
  work.rank = ClusterRank();
  work.first_block = work.rank * blocks >> args.cluster_log2;
  work.slice_blocks = ((work.rank + 1) * blocks >> args.cluster_log2) - work.first_block;
  work.first_group = cluster * groups / args.clusters;
  work.last_group = (cluster + 1) * groups / args.clusters;
  return work;
}

// Where the halves of a group lie, in 32 rows of the weight: of kGate one is the gate's.
struct Halves {
  int stride;   // of groups
  int between;  // the halves

  __device__ explicit Halves(const Rows16Arguments& args) {
    const bool gate = args.operands.result == GemmResult::kGate;
    stride = gate ? 1 : 2;
    between = gate ? args.outputs / kGroupRows : 1;
  }
};

// The stages of a ring as they are filled, one after the other.
struct FilledStage {
  uint32_t ring;
  uint32_t filled;
  uint32_t emptied;
  int stages;
  int stage_bytes;
  int stage = 0;
  int round = 0;

  __device__ uint32_t barrier() const { return filled + stage * kBarrierBytes; }
  __device__ uint32_t to() const { return ring + stage * stage_bytes; }
  __device__ void AwaitEmpty() const {
    if (round > 0) AwaitPhase(emptied + stage * kBarrierBytes, (round - 1) % 2);
  }
  __device__ void Next() {
    if (++stage < stages) return;
    stage = 0;
    ++round;
  }
};

// A warp's way through the stages, by what it has of each.
template <class Decoder>
struct StageReader {
  static constexpr int kStageBytes = StageBytes(Decoder::kEncoding, Decoder::kActivation);

  typename Decoder::Place place;  // in shared memory
  uint32_t filled;                // the stage's barrier
  int to_emptied;                 // from it to the one that says that all warps have read
  int stages;
  int stage = 0;
  int parity = 0;

  __device__ void Load(const uint8_t* shared, int lane, typename Decoder::Record* record) {
    AwaitPhase(filled, parity);
    __syncwarp();
    record->Load(shared, place);
    __syncwarp();
    if (lane == 0) Arrive(filled + to_emptied);
    place.Move(kStageBytes);
    filled += kBarrierBytes;
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
      place.Move(-stages * kStageBytes);
      filled -= stages * kBarrierBytes;
    }
  }
};

// For both records of a row group, the next eight k-blocks a stage. By one thread.
template <class Decoder>
__device__ inline void FillRecords(const Rows16Arguments& args, const Rows16Work& work,
                                   FilledStage at) {
  constexpr int kBlockBytes = Decoder::kBlockRecords * Decoder::kRecordBytes;
  constexpr int kSlices = SlicesOf(Decoder::kEncoding);
  const int64_t row_bytes = static_cast<int64_t>(args.inputs / kRecordCols) * Decoder::kRecordBytes;
  const Halves halves(args);
  const uint8_t* row = args.operands.weight + halves.stride * work.first_group * row_bytes +
                       static_cast<int64_t>(work.first_block) * kBlockBytes;
  const int64_t between = halves.between * row_bytes;
  // Of the slice: the last block of a row may have one record of two, and x is zero beyond.
  const int slice_bytes =
      static_cast<int>(min(static_cast<int64_t>(work.slice_blocks) * kBlockBytes,
                           row_bytes - static_cast<int64_t>(work.first_block) * kBlockBytes));
  for (int group = work.first_group; group < work.last_group;
       ++group, row += halves.stride * row_bytes) {
    for (int block = 0; block < work.slice_blocks; block += kSlices, at.Next()) {
      at.AwaitEmpty();
      const int bytes = min(kSlices * kBlockBytes, slice_bytes - block * kBlockBytes);
      ExpectBytes(at.barrier(), 2 * bytes);
      CopyBulk(at.to(), row + block * kBlockBytes, bytes, at.barrier());
      CopyBulk(at.to() + kSlices * kBlockBytes, row + between + block * kBlockBytes, bytes,
               at.barrier());
    }
  }
}

// The same of 16-bit values, four k-blocks a stage, a box of 32 rows a lane. By a warp.
__device__ inline void FillValues(const Rows16Arguments& args, const Rows16Work& work,
                                  FilledStage at) {
  constexpr int kSlices = SlicesOf(PackedEncoding::kValues);
  constexpr int kBoxBytes = kRecordRows * kValueRowBytes;
  const int lane = threadIdx.x % 32;
  const Halves halves(args);
  for (int group = work.first_group; group < work.last_group; ++group) {
    const int row = (halves.stride * group + lane % 2 * halves.between) * kRecordRows;
    for (int block = 0; block < work.slice_blocks; block += kSlices, at.Next()) {
      at.AwaitEmpty();
      const int boxes = 2 * min(kSlices, work.slice_blocks - block);
      if (lane == 0) ExpectBytes(at.barrier(), boxes * kBoxBytes);
      __syncwarp();
      if (lane < boxes) {
        CopyBox(at.to() + lane * kBoxBytes, &args.values,
                (work.first_block + block + lane / 2) * kRecordCols, row, at.barrier());
      }
    }
  }
}

// The slice of x, once the kernel ahead has ended.
template <class Decoder>
__device__ inline void BringX(const Rows16Arguments& args, const Rows16Work& work, const SharedX& x,
                              float* scales) {
  using Scalar = typename Decoder::Scalar;
  constexpr int kValueBytes = kSegmentBytes / kBlockCols<Decoder>;
  const int first_col = work.first_block * kBlockCols<Decoder>;
  const NormedX& normed = args.operands.normed;
  ClearX(x, args.rows);
  if (!kInt8X<Decoder> && normed.weighted != nullptr) {
    MakeX<Scalar>(x, normed, args.inputs, first_col, args.rows, scales);
    return;
  }
  asm volatile("griddepcontrol.wait;" ::: "memory");
  CopyX(
      x,
      static_cast<const uint8_t*>(args.operands.x) + static_cast<int64_t>(first_col) * kValueBytes,
      static_cast<int64_t>(args.inputs) * kValueBytes, (args.inputs - first_col) * kValueBytes / 16,
      args.rows);
}

// kHeld: the k-blocks of a warp whose x it holds in registers, all that it has; or 0.
template <class Decoder, int kColumnBlocks, int kHeld>
__global__ void __launch_bounds__(kAllThreads, 1)
    GemmRows16(const __grid_constant__ Rows16Arguments args) {
  constexpr int kTokens = kColumnBlocks * kTokensPerColumnBlock;
  constexpr int kSlices = SlicesOf(Decoder::kEncoding);
  constexpr int kRowWarps = kWarps / kSlices;  // that share a k-block
  constexpr int kStageBytes = StageBytes(Decoder::kEncoding, Decoder::kActivation);
  constexpr bool kValues = Decoder::kEncoding == PackedEncoding::kValues;
  extern __shared__ __align__(1024) uint8_t shared[];
  // By a shuffle: what follows from it is then known to be one for all lanes.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = threadIdx.x % 32;
  const int blocks = (args.inputs + kBlockCols<Decoder> - 1) / kBlockCols<Decoder>;
  const Rows16Work work = WorkOf(args, blocks);
  const SharedLayout layout =
      LayoutOf(Decoder::kEncoding, Decoder::kActivation, kColumnBlocks,
               (blocks + (1 << args.cluster_log2) - 1) >> args.cluster_log2, args.ring);
  Reducer<Decoder, kColumnBlocks> reducer(args, work, shared, layout);

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
    const FilledStage first = {shared_base + layout.ring_offset, filled, emptied, args.ring,
                               kStageBytes};
    if constexpr (kValues) {
      FillValues(args, work, first);
    } else if (lane == 0) {
      FillRecords<Decoder>(args, work, first);
    }
    __syncwarp();
    asm volatile("barrier.cluster.wait.acquire.aligned;");
    return;
  }
  if constexpr (Decoder::kHasTable) {
    BuildPairTable<typename Decoder::Scalar>(args.codebook, shared, kThreads);
  }
  const SharedX x = {shared, layout.hole_segments, layout.x_offset, kTokens, work.slice_blocks};
  reducer.AskForScales(work.first_group);
  // Where the first sums will lie.
  BringX<Decoder>(args, work, x, reinterpret_cast<float*>(shared + layout.sums_offset));
  asm volatile("barrier.cluster.wait.acquire.aligned;");
  SyncMultipliers();

  const int slice = warp / kRowWarps, part = warp % kRowWarps;
  StageReader<Decoder> reader = {typename Decoder::Place(0, lane), filled,
                                 args.ring * kBarrierBytes, args.ring};
  reader.place.Move(
      layout.ring_offset +
      (kValues ? (slice * kGroupTiles + part) * kTileRows * kValueRowBytes
               : (part * kSlices + slice) * Decoder::kBlockRecords * Decoder::kRecordBytes));
  int table_offset = 4 * lane;
  HoldRegister(table_offset);
  // This lane's row of ldmatrix in segment 0, were it in a hole and were it beyond.
  const uint32_t chunk = (lane / 8 ^ lane % 8) * 16;
  const uint32_t x_hole = shared_base + kPairTableHole + lane % 8 * kPairTableRowBytes + chunk;
  const uint32_t x_beyond =
      shared_base + layout.x_offset + (lane % 8 - layout.hole_segments) * kSegmentBytes + chunk;
  const auto x_of = [&](int block) {
    const bool hole = block * kTokens < layout.hole_segments;
    XFragments<kColumnBlocks> fragments;
    fragments.Load(hole ? x_hole + block * kTokens * kPairTableRowBytes
                        : x_beyond + block * kTokens * kSegmentBytes,
                   kTokensPerColumnBlock * (hole ? kPairTableRowBytes : kSegmentBytes));
    return fragments;
  };
  XFragments<kColumnBlocks> held[std::max(kHeld, 1)] = {};
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int block = slice + i * kSlices;
    if (block < work.slice_blocks) held[i] = x_of(block);
  }
  Sums<Decoder, kColumnBlocks> sums = {};
  // The next stage's k-block of this warp.
  const auto next_record = [&] {
    typename Decoder::Record record;
    reader.Load(shared, lane, &record);
    return record;
  };
  const auto accumulate = [&](const typename Decoder::Record& record,
                              const XFragments<kColumnBlocks>& of_x) {
    Accumulate<Decoder, kColumnBlocks>(record, shared, table_offset, of_x, sums);
  };
#pragma unroll 1
  for (int group = work.first_group; group < work.last_group; ++group) {
    reducer.AskForScales(group + 1);
    if constexpr (kHeld > 0) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        if (i * kSlices >= work.slice_blocks) break;
        const auto record = next_record();
        if (slice + i * kSlices < work.slice_blocks) accumulate(record, held[i]);
      }
    } else {
#pragma unroll 1
      for (int block = slice; block - slice < work.slice_blocks; block += kSlices) {
        const auto record = next_record();
        if (block < work.slice_blocks) accumulate(record, x_of(block));
      }
    }
    reducer.Finish(group, warp, lane, sums);
  }
  reducer.End();
}

template <class Decoder, int kColumnBlocks, int kHeld = 0>
cudaError_t Launch(const GemmPlan& plan, const Rows16Arguments& args, cudaStream_t stream) {
  const auto kernel = GemmRows16<Decoder, kColumnBlocks, kHeld>;
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMaxSharedBytes);
  if (prepared != cudaSuccess) return prepared;
  const ClusterLaunch launch = {plan.cluster, plan.clusters, kAllThreads, plan.shared_bytes};
  return LaunchClusters(kernel, launch, stream, args);
}

template <class Decoder>
cudaError_t LaunchTokens(const GemmPlan& plan, const Rows16Arguments& args, cudaStream_t stream) {
  if (plan.tile_tokens != kTokensPerColumnBlock) return Launch<Decoder, 2>(plan, args, stream);
  if constexpr (Decoder::kHasTable) {
    constexpr int kHeld = 4;  // 32 registers
    const int blocks = (args.inputs + kBlockCols<Decoder> - 1) / kBlockCols<Decoder>;
    if (blocks <= kHeld * SlicesOf(Decoder::kEncoding) << args.cluster_log2) {
      return Launch<Decoder, 1, kHeld>(plan, args, stream);
    }
  }
  return Launch<Decoder, 1>(plan, args, stream);
}

template <class Scalar>
cudaError_t LaunchFor(const GemmProblem& problem, const GemmPlan& plan, const Rows16Arguments& args,
                      cudaStream_t stream) {
  if (problem.encoding == PackedEncoding::kValues) {
    return LaunchTokens<ValueDecoder<Scalar>>(plan, args, stream);
  }
  return IsFourBits(problem.encoding) ? LaunchTokens<FourBitDecoder<Scalar>>(plan, args, stream)
                                      : LaunchTokens<Int8Decoder<Scalar>>(plan, args, stream);
}

// The boxes that FillValues copies.
cudaError_t DescribeValues(const GemmProblem& problem, const uint8_t* weight, CUtensorMap* map) {
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
  const cudaError_t found = EncodeTiled(&encode);
  if (found != cudaSuccess) return found;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(problem.inputs),
                              static_cast<cuuint64_t>(problem.outputs)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(problem.inputs) * 2};
  const cuuint32_t box[] = {kRecordCols, kRecordRows}, steps[] = {1, 1};
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, const_cast<uint8_t*>(weight), sizes, strides,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// Clusters that run at once on an H100 or H200, one block a multiprocessor: the multiprocessors of
// a cluster lie in one GPC, and those have 16 or 18.
struct ClusterRow {
  int cluster;
  int clusters;
};
constexpr ClusterRow kClusterRows[] = {{1, 132}, {2, 66}, {4, 30}, {8, 15}};

// Kernels of at most so many blocks take turns with their neighbours, whose weights come in
// meanwhile on the other multiprocessors: 576 x 576 takes 1.9 us then.
constexpr int kHalfOfDevice = 66;
// Records that a warp of such a kernel may have: more take longer than a cluster's exchange of
// sums.
constexpr int64_t kMostSmallRecords = 3;

struct CostedPlan {
  GemmPlan plan;  // cluster 0: there is no room
  int64_t cost = INT64_MAX;
  int64_t records = 0;  // of the busiest warp, a group
  bool is_small = false;
};

CostedPlan PlanFor(const GemmProblem& problem, const ClusterRow& row) {
  const int column_blocks = (problem.rows + kTokensPerColumnBlock - 1) / kTokensPerColumnBlock;
  const int groups = (problem.outputs + kGroupRows - 1) / kGroupRows;
  const int block_cols = BlockCols(problem.activation);
  const int blocks = (problem.inputs + block_cols - 1) / block_cols;
  const int slice_blocks = (blocks + row.cluster - 1) / row.cluster;
  const int slices = SlicesOf(problem.encoding);
  const auto bytes = [&](int ring) {
    return LayoutOf(problem.encoding, problem.activation, column_blocks, slice_blocks, ring).bytes;
  };
  int ring = kMaxRing;
  while (ring > 1 && bytes(ring) > kMaxSharedBytes) --ring;
  if (ring == 1) return {};
  const int clusters = std::min(groups, row.clusters);
  // Records of the busiest warp; the end of a group costs about half of one.
  const int records = (slice_blocks + slices - 1) / slices * (block_cols / kRecordCols);
  const int64_t cost = static_cast<int64_t>((groups + clusters - 1) / clusters) * (2 * records + 1);
  return {{GemmKernel::kRows16, column_blocks * kTokensPerColumnBlock, row.cluster, clusters, ring,
           std::max(bytes(ring), kAloneBytes)},
          cost,
          records,
          clusters == groups && row.cluster * clusters <= kHalfOfDevice &&
              records <= kMostSmallRecords};
}

}  // namespace

int SquaresOf(const GemmPlan& plan) {
  const int parts = kGroupRows / plan.cluster / kWarpLanes;
  return plan.cluster * plan.clusters * (parts > 1 ? parts : 1);
}

GemmPlan PlanRows16(const GemmProblem& problem, int cluster) {
  GemmPlan best;
  for (const ClusterRow& row : kClusterRows) {
    if (row.cluster == cluster) best = PlanFor(problem, row).plan;
  }
  return best;
}

GemmPlan PlanRows16(const GemmProblem& problem) {
  CostedPlan small;
  for (const ClusterRow& row : kClusterRows) {
    const CostedPlan plan = PlanFor(problem, row);
    if (!plan.is_small) continue;
    if (small.plan.cluster == 0 || plan.records <= small.records) small = plan;
  }
  if (small.plan.cluster > 0) return small.plan;
  // 16-bit values: two blocks are fastest for all shapes tried (`gemm_bench --tune`, H200).
  if (problem.encoding == PackedEncoding::kValues) {
    const GemmPlan pairs = PlanRows16(problem, 2);
    if (pairs.cluster > 0) return pairs;
  }
  CostedPlan best;
  for (const ClusterRow& row : kClusterRows) {
    const CostedPlan plan = PlanFor(problem, row);
    // Of equals the larger cluster: its slices of x leave more room for the ring.
    if (plan.plan.cluster > 0 && plan.cost <= best.cost) best = plan;
  }
  return best.plan;
}

cudaError_t LaunchRows16(const GemmProblem& problem, const GemmPlan& plan,
                         const GemmOperands& operands, cudaStream_t stream) {
  int cluster_log2 = 0;
  while (1 << cluster_log2 < plan.cluster) ++cluster_log2;
  Rows16Arguments args = {{},
                          operands,
                          problem.rows,
                          problem.outputs,
                          problem.inputs,
                          cluster_log2,
                          plan.clusters,
                          plan.ring,
                          Codebook(problem.encoding, problem.activation)};
  if (problem.encoding == PackedEncoding::kValues) {
    const cudaError_t error = DescribeValues(problem, operands.weight, &args.values);
    if (error != cudaSuccess) return error;
  }
  if (problem.activation == Activation::kInt8) {
    return LaunchTokens<Int8ByInt8Decoder>(plan, args, stream);
  }
  return problem.activation == Activation::kF16
             ? LaunchFor<__half>(problem, plan, args, stream)
             : LaunchFor<__nv_bfloat16>(problem, plan, args, stream);
}

}  // namespace vernier::cuda
