// y = x W^T for many rows of x, on the tensor cores of a warpgroup (wgmma), A from registers.
//
// clang-format off
//              tokens (16 to 256)
//           +---------+        Two blocks of threads, a pair, own a tile: 256 outputs each (fewer where K is
//   block 0 |  tile   |  of y  sliced inside a block, and 128 for 256 tokens). A warpgroup of each copies,
// outputs   |         |        stage after stage of a ring, its records of the weight and half of x's
//           +---------+        [tokens][64], which goes to both blocks (the copy engine's tensor copies;
//   block 1 |         |        rows past the last are zero). A stage waits for the thread that queues its
//           +---------+        copies, so that each has few and computes little.
// clang-format on
//
// Pairs multiply whole tiles in turns, then runs of a line of all columns of the tiles that are
// left (gemm_wide_plan.h): nearly all multiprocessors work, whatever the shape.
// gemm_wide_finish.cuh adds the parts of a tile.
//
// To 64 tokens, NF4: the sums of a block of 64 columns are made from the bare codes and multiplied
// by absmax as they are added (exact, one fused multiply-add a sum). While one warpgroup decodes,
// the others multiply. From 128 tokens: absmax, as a sum of two 16-bit numbers, multiplies the
// decoded codes, which rounds once. int8 adds straight up; the row's scale multiplies the finished
// sum. With int8 x both are multiplied as they are, 128 columns where the others have 64, and the
// finished sum, a whole number, by the scales of both rows.
//
// A block takes most of a multiprocessor's shared memory and registers, so that its beginning and
// end are not hidden behind a neighbour's work: that is what short matrices wait for.
//
// Limits: columns a multiple of 64; outputs and rows of x any number. NF4 above 64 tokens with
// fp16: absmax below 39,900, as the decoded weights are fp16. int8 x: kMostInt8Inputs columns.
#include <cuda.h>

#include <iterator>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_wide.h"
#include "kernels/cuda/gemm_wide_finish.cuh"
#include "kernels/cuda/gemm_wide_layout.cuh"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed_layout.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/warpgroup.cuh"

namespace vernier::cuda {
namespace {

// ---- The warps that copy ----

// Where the next stage comes from. What a piece has throughout is computed once: a stage waits for
// the one thread that copies it.
template <class Shape>
struct Cursor {
  const WideArguments& args;
  int rank;  // in the pair
  WideRun run;
  int between;     // rows of records from the gates to what they gate; 0: not gated
  int blocks = 0;  // left of the piece
  int record = 0;  // row of them
  int block = 0;
  int token = 0;

  __device__ void Begin() {
    const WidePiece piece = run.Next();
    const TilePlace at = args.schedule.PlaceOf(piece.tile);
    blocks = piece.blocks;
    record = (at.row * kPairBlocks + rank) * (between > 0 ? Shape::kRecords / 2 : Shape::kRecords);
    block = piece.first_block;
    token = at.token * Shape::kTokens + rank * (Shape::kTokens / kPairBlocks);
  }
  __device__ bool done() const { return blocks == 0; }
  __device__ int stage_blocks() const { return min(Shape::kStageBlocks, blocks); }
  __device__ void Next() {
    const int passed = stage_blocks();
    blocks -= passed;
    block += passed;
    if (blocks == 0 && !run.done()) Begin();
  }
};

// Fills the ring, stage after stage, with its warp's share of the copies, by one thread a warp:
// CopiesOf says which.
template <class Shape>
struct Copier {
  static_assert(kWarpgroupThreads == kCopyingWarps * 32 && Shape::kStageBlocks <= kCopyingWarps);
  // Stages of weights before the first of x, which would wait behind them.
  static constexpr int kEager = std::clamp(48 * 1024 / Shape::kWeightBytes, 1, Shape::kRing);

  const CUtensorMap* weight;
  const CUtensorMap* x;
  uint32_t shared;
  int warp;

  // A stage's columns past the piece are copied too, and not used.
  __device__ void CopyWeight(const Cursor<Shape>& cursor, int stage) const {
    const uint32_t barrier = Places<Shape>::Filled(shared, stage);
    ExpectBytes(barrier, Shape::kWeightBytes + cursor.stage_blocks() * Shape::kXTileBytes);
    const uint32_t to = shared + Places<Shape>::kWeights + stage * Shape::kWeightBytes;
    const int block = cursor.block * Shape::Decoder::kBlockRecords;
    CopyRecords(to, weight, block, cursor.record, barrier);
    if (cursor.between > 0) {
      CopyRecords(to + Shape::kWeightBytes / 2, weight, block, cursor.record + cursor.between,
                  barrier);
    }
  }
  // This block's half of the tokens, to both.
  __device__ void CopyX(const Cursor<Shape>& cursor, int stage) const {
    constexpr int kHalfBytes = Shape::kXTileBytes / kPairBlocks;
    const int block = CopiedBlock(warp);
    CopyTileToPair(shared + Places<Shape>::kX + stage * Shape::kXBytes +
                       block * Shape::kXTileBytes + cursor.rank * kHalfBytes,
                   x, (cursor.block + block) * Shape::kBlockCols, cursor.token,
                   Places<Shape>::Filled(shared, stage));
  }

  // What may be read before the kernel ahead on the stream has ended.
  __device__ void BeginWeights(Cursor<Shape> cursor) const {
    if (warp > 0) return;
#pragma unroll 1
    for (int i = 0; i < kEager && !cursor.done(); ++i, cursor.Next()) CopyWeight(cursor, i);
  }
  // The rest.
  __device__ void Run(Cursor<Shape> cursor) const {
    int stage = 0;
    int parity = 1;  // a stage's first filling waits for nobody
#pragma unroll 1
    for (int i = 0; !cursor.done(); ++i, cursor.Next()) {
      const WideCopies copies = CopiesOf(warp, i, kEager, cursor.stage_blocks());
      if (copies.any()) AwaitPhase(Places<Shape>::Emptied(shared, stage), parity);
      if (copies.weight) CopyWeight(cursor, stage);
      if (copies.x) CopyX(cursor, stage);
      if (++stage == Shape::kRing) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
};

// ---- The warpgroups that multiply ----

// What a warpgroup multiplies at once, decoded: a block of 64 columns, or a half of one.
template <class Shape>
struct Unit {
  uint32_t a[Shape::kUnitSteps][4];
  float2 absmax;  // of its rows, where sums of blocks are multiplied by it

  // Has it decoded by here: the compiler would put some of it off until after the wait.
  __device__ void Hold() {
#pragma unroll
    for (int i = 0; i < Shape::kUnitSteps * 4; ++i) {
      asm volatile("" : "+r"((&a[0][0])[i])::"memory");
    }
  }
};

// sums = W x over the columns of a piece that are this warpgroup's.
template <class Shape>
struct Multiplier {
  using Product = WarpgroupProduct<typename Shape::Input, Shape::kTokens>;
  static constexpr int kParts = kSteps / Shape::kUnitSteps;  // units of a block
  static constexpr int kBlocks = Reader<Shape>::kBlocks;
  // The units of a stage are written out one after the other, so that an address is the stage's and
  // a constant; of two stages where one has a single unit, as two take turns in registers.
  static constexpr int kTurns = std::max(kBlocks * kParts, 2);
  static constexpr int kNone = -1;

  Reader<Shape>& reader;
  typename Shape::Sum (&sums)[Shape::kSums];
  float block[Shape::kBlockSums ? Shape::kSums : 1];  // this block's, before absmax
  typename Shape::Tile tile;                          // of the block that is being decoded
  int ended = kNone;                                  // stage whose last products may still run

  static constexpr int BlockOf(int turn) { return turn / kParts % kBlocks; }  // of its stage
  static constexpr int PartOf(int turn) { return turn % kParts; }             // of its block
  static constexpr bool EndsBlock(int turn) { return PartOf(turn) == kParts - 1; }
  static constexpr bool EndsStage(int turn) {
    return EndsBlock(turn) && BlockOf(turn) == kBlocks - 1;
  }

  __device__ void Decode(int turn, Unit<Shape>& unit) {
    if (PartOf(turn) == 0) tile.Load(reader.records(BlockOf(turn)), reader.place);
#pragma unroll
    for (int step = 0; step < Shape::kUnitSteps; ++step) {
      tile.Decode(reader.shared_bytes, reader.table_offset, PartOf(turn) * Shape::kUnitSteps + step,
                  unit.a[step]);
    }
    unit.Hold();
    if constexpr (Shape::kBlockSums) unit.absmax = tile.absmax;
  }

  // Queues the products of `now`.
  template <int kTurn>
  __device__ void Queue(const Unit<Shape>& now) {
    const uint64_t x =
        reader.x(BlockOf(kTurn)) + PartOf(kTurn) * Shape::kUnitSteps * kDescriptorStep;
    WarpgroupFence();
#pragma unroll
    for (int step = 0; step < Shape::kUnitSteps; ++step) {
      if constexpr (Shape::kBlockSums) {
        Product::Add(block, now.a[step], x + step * kDescriptorStep, PartOf(kTurn) + step != 0);
      } else {
        Product::Add(sums, now.a[step], x + step * kDescriptorStep, 1);
      }
    }
    WarpgroupCommit();
  }
  // Decodes what follows.
  template <int kTurn>
  __device__ void DecodeNext(Unit<Shape>& next) {
    if (EndsStage(kTurn)) reader.Await();
    Decode((kTurn + 1) % kTurns, next);
  }

  // Multiplies `now` while `next` is decoded, if there are `more`. The products of `now` still run
  // on return where sums are added straight up; then those before them have ended.
  template <int kTurn>
  __device__ void Turn(const Unit<Shape>& now, Unit<Shape>& next, bool more) {
    const int stage = reader.stage;
    const bool leaves = EndsStage(kTurn) || !more;
    if constexpr (Shape::kBlockSums) {
      HoldRegisters(block);
      Queue<kTurn>(now);
      if (EndsStage(kTurn)) reader.NextStage();
      if (PartOf(kTurn) > 0) WarpgroupWait<1>();
      if (more) DecodeNext<kTurn>(next);
      if (!EndsBlock(kTurn)) return;
      WarpgroupWait<0>();
      HoldRegisters(block);
      if (leaves) reader.Leave(stage);
#pragma unroll
      for (int i = 0; i < Shape::kSums; ++i) {
        // Said as one, so that it is for every token.
        sums[i] = __fmaf_rn(block[i], i % 4 < 2 ? now.absmax.x : now.absmax.y, sums[i]);
      }
    } else {
      Queue<kTurn>(now);
      if (EndsStage(kTurn)) reader.NextStage();
      WarpgroupWait<1>();
      if (ended != kNone) reader.Leave(ended);
      ended = leaves ? stage : kNone;
      if (more) DecodeNext<kTurn>(next);
    }
  }

  // Turns from kTurn on, of `left` blocks from turn 0 on.
  template <int kTurn = 0>
  __device__ void Turns(Unit<Shape>& now, Unit<Shape>& next, int left) {
    const bool more = !EndsBlock(kTurn) || left > (kTurn + 1) / kParts;
    Turn<kTurn>(now, next, more);
    if constexpr (kTurn + 1 < kTurns) {
      if (more) Turns<kTurn + 1>(next, now, left);
    }
  }

  // Of a piece of `blocks`, which begins at the beginning of a stage, as the next one will.
  __device__ void Run(int blocks) {
    const int mine = (blocks - reader.slice + Shape::kSlices - 1) / Shape::kSlices;
    if (mine > 0) {
      Unit<Shape> even, odd;
      reader.Await();
      Decode(0, even);
#pragma unroll 1
      for (int left = mine; left > 0; left -= kTurns / kParts) Turns(even, odd, left);
    }
    if constexpr (!Shape::kBlockSums) {
      WarpgroupWait<0>();
      HoldRegisters(sums);
      if (ended != kNone) reader.Leave(ended);
    }
    if (mine % kBlocks != 0) reader.NextStage();
    // A last stage without columns for this slice.
    if (Shape::kSlices > 1 && (blocks - 1) % Shape::kStageBlocks < reader.slice) {
      reader.Await();
      reader.Leave(reader.stage);
      reader.NextStage();
    }
  }
};

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    GemmWide(const __grid_constant__ WideArguments args, const __grid_constant__ CUtensorMap weight,
             const __grid_constant__ CUtensorMap x) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = SharedAddress(shared);
  // By a shuffle: what follows from it is then known to be one for all lanes.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = threadIdx.x % 32;
  const int pair = blockIdx.x / kPairBlocks;
  const int rank = blockIdx.x % kPairBlocks;
  WideRun run(args.schedule, pair);
  asm volatile("griddepcontrol.launch_dependents;");
  if (threadIdx.x == Shape::kMultipliers) {
    for (int i = 0; i < Shape::kRing; ++i) {
      InitBarrier(Places<Shape>::Filled(base, i), 1);
      InitBarrier(Places<Shape>::Emptied(base, i), kPairBlocks * Shape::kWarpgroups * 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  // Both blocks' barriers stand before one copies to the other.
  asm volatile("barrier.cluster.arrive.relaxed.aligned;");
  if (warp >= Shape::kWarpgroups * 4) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Shape::kCopyRegisters));
    const Copier<Shape> copier = {&weight, &x, base, warp % 4};
    Cursor<Shape> cursor = {args, rank, run, args.gated ? args.outputs / 2 / kRecordRows : 0};
    cursor.Begin();
    if (lane == 0) copier.BeginWeights(cursor);
    __syncwarp();
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    // x may be what the kernel ahead on the stream still writes.
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (lane == 0) copier.Run(cursor);
    __syncwarp();
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Shape::kMultiplyRegisters));
    if constexpr (Shape::Decoder::kHasTable) {
      BuildPairTable<typename Shape::Scalar>(args.codebook, shared, Shape::kMultipliers);
    }
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    SyncSome(1, Shape::kMultipliers);
    asm volatile("griddepcontrol.wait;" ::: "memory");  // of y and the workspace too
    const int warpgroup = warp / 4;
    const int group = warpgroup % Shape::kGroups;
    Reader<Shape> reader(base, shared, lane,
                         group * kGroupRows / kRecordRows + warp % 4 / kTilesPerRecord,
                         warp % kTilesPerRecord, warpgroup / Shape::kGroups);
    const Finisher<Shape> finisher = {args, shared, pair, rank, warpgroup, group, reader.slice};
#pragma unroll 1
    while (!run.done()) {
      const WidePiece piece = run.Next();
      typename Shape::Sum sums[Shape::kSums] = {};
      Multiplier<Shape>{reader, sums}.Run(piece.blocks);
      finisher.Finish(piece, sums);
    }
    __syncwarp();
  }
  // Nobody leaves before what the other block sends to its barriers has arrived.
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}

// ---- Launch ----

// x as [rows][inputs], fetched by halves of tiles of tokens x a block of columns; what lies past
// the last row or column is zero.
cudaError_t DescribeX(const GemmProblem& problem, const void* x, int tokens, CUtensorMap* map) {
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
  const cudaError_t found = EncodeTiled(&encode);
  if (found != cudaSuccess) return found;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(problem.inputs),
                               static_cast<cuuint64_t>(problem.rows)};
  const int block_cols = BlockCols(problem.activation);
  const int value_bytes = kXRowBytes / block_cols;
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(problem.inputs) * value_bytes};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(block_cols),
                             static_cast<cuuint32_t>(tokens / kPairBlocks)};
  const cuuint32_t steps[2] = {1, 1};
  const CUtensorMapDataType type =
      problem.activation == Activation::kInt8  ? CU_TENSOR_MAP_DATA_TYPE_UINT8
      : problem.activation == Activation::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                               : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const CUresult result =
      encode(map, type, 2, const_cast<void*>(x), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// The weight as [rows of records][records of a row][words], fetched by a block's share of a stage,
// of a gated product by its halves; what lies past a row is zero.
template <class Shape>
cudaError_t DescribeWeight(const WideArguments& args, const void* weight, CUtensorMap* map) {
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
  const cudaError_t found = EncodeTiled(&encode);
  if (found != cudaSuccess) return found;
  constexpr cuuint32_t kWords = Shape::Decoder::kRecordBytes / sizeof(uint64_t);
  const cuuint64_t records = static_cast<cuuint64_t>(args.row_records);
  const cuuint64_t sizes[3] = {kWords, records,
                               static_cast<cuuint64_t>(RecordGroups(args.outputs))};
  const cuuint64_t strides[2] = {Shape::Decoder::kRecordBytes,
                                 records * Shape::Decoder::kRecordBytes};
  const cuuint32_t box[3] = {
      kWords, Shape::kStageBlocks * Shape::Decoder::kBlockRecords,
      static_cast<cuuint32_t>(args.gated ? Shape::kRecords / 2 : Shape::kRecords)};
  const cuuint32_t steps[3] = {1, 1, 1};
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT64, 3, const_cast<void*>(weight), sizes, strides, box,
             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template <class Shape>
cudaError_t Launch(const WideArguments& args, const void* weight, const CUtensorMap& x,
                   cudaStream_t stream) {
  CUtensorMap records;
  const cudaError_t described = DescribeWeight<Shape>(args, weight, &records);
  if (described != cudaSuccess) return described;
  const auto kernel = GemmWide<Shape>;
  static const cudaError_t prepared = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Places<Shape>::kEnd);
  if (prepared != cudaSuccess) return prepared;
  const ClusterLaunch launch = {kPairBlocks, args.schedule.pairs, Shape::kThreads,
                                Places<Shape>::kEnd};
  return LaunchClusters(kernel, launch, stream, args, records, x);
}

template <class Decoder, int kIndex = 0>
cudaError_t LaunchTile(const GemmPlan& plan, const WideArguments& args, const void* weight,
                       const CUtensorMap& x, cudaStream_t stream) {
  if constexpr (kIndex == std::size(kWideTiles)) {
    return cudaErrorInvalidValue;
  } else {
    constexpr WideTile kTile = kWideTiles[kIndex];
    return plan.tile_tokens == kTile.tokens && plan.slices == kTile.slices
               ? Launch<TileShape<Decoder, kIndex>>(args, weight, x, stream)
               : LaunchTile<Decoder, kIndex + 1>(plan, args, weight, x, stream);
  }
}

template <class Scalar>
cudaError_t LaunchFor(const GemmProblem& problem, const GemmPlan& plan, const WideArguments& args,
                      const void* weight, const CUtensorMap& x, cudaStream_t stream) {
  return IsFourBits(problem.encoding)
             ? LaunchTile<FourBitDecoder<Scalar>>(plan, args, weight, x, stream)
             : LaunchTile<Int8Decoder<Scalar>>(plan, args, weight, x, stream);
}

}  // namespace

cudaError_t LaunchWide(const GemmProblem& problem, const GemmPlan& plan,
                       const GemmOperands& operands, cudaStream_t stream) {
  CUtensorMap x;
  const cudaError_t described = DescribeX(problem, operands.x, plan.tile_tokens, &x);
  if (described != cudaSuccess) return described;
  const WideArguments args = {operands.row_scales,
                              operands.x_scales,
                              operands.y,
                              static_cast<uint8_t*>(operands.workspace),
                              problem.rows,
                              problem.outputs,
                              static_cast<int>(RecordBlocks(problem.inputs)),
                              operands.result == GemmResult::kGate,
                              operands.gating,
                              ScheduleOf(problem, plan),
                              Codebook(problem.encoding, problem.activation)};
  if (problem.activation == Activation::kInt8) {
    return LaunchTile<Int8ByInt8Decoder>(plan, args, operands.weight, x, stream);
  }
  return problem.activation == Activation::kF16
             ? LaunchFor<__half>(problem, plan, args, operands.weight, x, stream)
             : LaunchFor<__nv_bfloat16>(problem, plan, args, operands.weight, x, stream);
}

}  // namespace vernier::cuda
