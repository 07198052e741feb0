// y = x W^T for many rows of x, on the tensor cores of a warpgroup (wgmma), A from registers.
//
//            tokens (16 to 128)
//         +---------+              A block of threads owns a tile of 256 outputs, or with others of
//   256   |  tile   |  of y        its cluster, each with a slice of K. A warpgroup of its own
//   copies:
// outputs |         |              for each 64 columns the 8 records of the weight (bulk copies)
// and
//         +---------+              x's [tokens][64] (the copy engine's tensor copy, swizzled; rows
//                                  past the last are zero), into a ring of stages. Its four warps
//                                  share the copies: one thread would be what all wait for.
//
// Two shapes of a block, by its tokens:
//   to 64   four warpgroups of 64 outputs; NF4: the sums of a block of 64 columns are made from the
//           bare codes and multiplied by absmax as they are added (exact, one fused multiply-add a
//           sum). While one warpgroup decodes, the others multiply.
//   128     two warpgroups of 128 outputs, so that a tile of x serves twice as many; absmax, as a
//           sum of two 16-bit numbers, multiplies the decoded codes, which rounds once.
// int8 adds straight up; the row's scale multiplies the finished sum.
//
// At the end the sums go to shared memory, each block of the cluster takes its share of the tile,
// adds the others' sums in the order of their ranks, and writes y.
//
// A block takes most of a multiprocessor's shared memory and registers, so that its beginning and
// end (4 to 6 us) are not hidden behind a neighbour's work: that is what short matrices wait for.
//
// Limits: columns a multiple of 64; outputs and rows of x any number. NF4 above 64 tokens with
// fp16: absmax below 39,900, as the decoded weights are fp16.
#include <cuda.h>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_wide.h"
#include "kernels/cuda/gemm_wide_layout.cuh"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed_layout.h"
#include "kernels/cuda/warpgroup.cuh"

namespace vernier::cuda {
namespace {

struct Arguments {
  const uint8_t* weight;
  const float* row_scales;
  void* y;
  int rows;
  int outputs;
  int inputs;
  int cluster;
  int token_tiles;
  Nf4Codebook codebook;
};

// What one block of the grid works on.
struct Work {
  int rank;  // in its cluster
  int first_output;
  int first_token;
  int first_block;  // of its slice of K, in records
  int blocks;
};

__device__ inline Work WorkOf(const Arguments& args, int tokens) {
  const int blocks = args.inputs / kRecordCols;
  const int tile = blockIdx.x / args.cluster;
  Work work;
  work.rank = blockIdx.x % args.cluster;
  work.first_output = tile / args.token_tiles * kTileOutputs;
  work.first_token = tile % args.token_tiles * tokens;
  work.first_block = work.rank * blocks / args.cluster;
  work.blocks = (work.rank + 1) * blocks / args.cluster - work.first_block;
  return work;
}

// ---- The warps that copy ----

__device__ inline void CopyTile(uint32_t to, const CUtensorMap* map, int col, int row,
                                uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(map), "r"(col), "r"(row), "r"(barrier)
      : "memory");
}

// Fills the ring, stage after stage, with its warp's share of the copies. By one thread a warp.
template <class Shape>
__device__ inline void FillRing(const Arguments& args, const CUtensorMap* x, const Work& work,
                                uint32_t shared) {
  constexpr int kRecordBytes = Shape::Decoder::kRecordBytes;
  constexpr int kRing = Shape::kRing;
  const int64_t row_bytes = static_cast<int64_t>(args.inputs / kRecordCols) * kRecordBytes;
  // A warp's rows of records; of a stage's blocks of x, the one of its number.
  constexpr int kWarps = kWarpgroupThreads / 32;
  const int warp = threadIdx.x % kWarpgroupThreads / 32;
  const int first_record = work.first_output / kRecordRows;
  const int records =
      min(kTileRecords, static_cast<int>(RecordGroups(args.outputs)) - first_record);
  const uint8_t* weight = args.weight + (first_record + warp) * row_bytes +
                          static_cast<int64_t>(work.first_block) * kRecordBytes;
  const auto copy_weight = [&](int first, int stage) {
    const uint32_t barrier = Places<Shape>::Filled(shared, stage);
    const int blocks = min(Shape::kStageBlocks, work.blocks - first);
    if (warp == 0) ExpectBytes(barrier, blocks * (records * kRecordBytes + Shape::kXTileBytes));
    uint32_t to =
        shared + Places<Shape>::kWeights + stage * Shape::kWeightBytes + warp * Shape::kRowBytes;
    const uint8_t* from = weight;
#pragma unroll 1
    for (int i = warp; i < records; i += kWarps) {
      CopyBulk(to, from, blocks * kRecordBytes, barrier);
      to += kWarps * Shape::kRowBytes;
      from += kWarps * row_bytes;
    }
    weight += Shape::kRowBytes;
  };
  const auto copy_x = [&](int first, int stage) {
    static_assert(Shape::kStageBlocks <= kWarps);
    if (warp < min(Shape::kStageBlocks, work.blocks - first)) {
      CopyTile(shared + Places<Shape>::kX + stage * Shape::kXBytes + warp * Shape::kXTileBytes, x,
               (work.first_block + first + warp) * kRecordCols, work.first_token,
               Places<Shape>::Filled(shared, stage));
    }
  };
  constexpr int kAhead = kRing * Shape::kStageBlocks;
#pragma unroll 1
  for (int i = 0; i < kRing && i * Shape::kStageBlocks < work.blocks; ++i) {
    copy_weight(i * Shape::kStageBlocks, i);
  }
  // x may be what the kernel ahead on the stream still writes.
  asm volatile("griddepcontrol.wait;" ::: "memory");
#pragma unroll 1
  for (int i = 0; i < kRing && i * Shape::kStageBlocks < work.blocks; ++i) {
    copy_x(i * Shape::kStageBlocks, i);
  }
  int stage = 0;
  int parity = 0;
#pragma unroll 1
  for (int first = kAhead; first < work.blocks; first += Shape::kStageBlocks) {
    AwaitPhase(Places<Shape>::Emptied(shared, stage), parity);
    copy_weight(first, stage);
    copy_x(first, stage);
    if (++stage == kRing) {
      stage = 0;
      parity ^= 1;
    }
  }
}

// ---- The warpgroups that multiply ----

// What a warpgroup multiplies at once, decoded: a block of 64 columns, or a half of one where it
// has two groups of outputs.
template <class Shape>
struct Unit {
  uint32_t a[Shape::kUnitSteps][Shape::kGroups][4];

  // Has it decoded by here: the compiler would put some of it off until after the wait.
  __device__ void Hold() {
#pragma unroll
    for (int i = 0; i < Shape::kUnitSteps * Shape::kGroups * 4; ++i) {
      asm volatile("" : "+r"((&a[0][0][0])[i])::"memory");
    }
  }
};

// sums = W x over `blocks` of 64 columns.
template <class Shape>
struct Multiplier {
  using Product = WarpgroupProduct<typename Shape::Scalar, Shape::kTokens>;
  static constexpr int kParts = kSteps / Shape::kUnitSteps;  // units of a block

  Reader<Shape> reader;
  float (&sums)[Shape::kGroups][Shape::kSums];
  float block[Shape::kBlockSums ? Shape::kSums : 1];  // this block's, before absmax
  typename Shape::Tile tiles[Shape::kGroups];         // of the block that is being decoded

  // Part `part` of the reader's block.
  __device__ void Decode(int part, Unit<Shape>& unit) {
#pragma unroll
    for (int group = 0; group < Shape::kGroups; ++group) {
      if (part == 0) tiles[group].Load(reader.record(group), reader.tile, reader.lane);
#pragma unroll
      for (int step = 0; step < Shape::kUnitSteps; ++step) {
        tiles[group].Decode(reader.shared_bytes, reader.lane * 4, part * Shape::kUnitSteps + step,
                            unit.a[step][group]);
      }
    }
    unit.Hold();
  }

  // Queues the products of `now`, which is part kPart of its block, and moves on.
  template <int kPart>
  __device__ void Queue(const Unit<Shape>& now) {
    const uint64_t x = reader.x() + kPart * Shape::kUnitSteps * kDescriptorStep;
    WarpgroupFence();
#pragma unroll
    for (int step = 0; step < Shape::kUnitSteps; ++step) {
#pragma unroll
      for (int group = 0; group < Shape::kGroups; ++group) {
        if constexpr (Shape::kBlockSums) {
          Product::Add(block, now.a[step][group], x + step * kDescriptorStep, step != 0);
        } else {
          Product::Add(sums[group], now.a[step][group], x + step * kDescriptorStep, 1);
        }
      }
    }
    WarpgroupCommit();
    if (kPart == kParts - 1) reader.Next();
  }
  // Decodes what follows part kPart.
  template <int kPart>
  __device__ void DecodeNext(Unit<Shape>& next) {
    constexpr bool kLast = kPart == kParts - 1;
    if (kLast && reader.block == 0) reader.Await();
    Decode(kLast ? 0 : kPart + 1, next);
  }

  // Multiplies `now` while `next` is decoded. The products of `now` still run on return where sums
  // are added straight up; then those before them have ended.
  template <int kPart>
  __device__ void Turn(const Unit<Shape>& now, Unit<Shape>& next, bool first, bool more) {
    const int stage = reader.stage;
    if constexpr (Shape::kBlockSums) {
      const bool leaves = reader.ends_stage();
      const float2 absmax = tiles[0].absmax;
      HoldRegisters(block);
      Queue<kPart>(now);
      if (more) DecodeNext<kPart>(next);
      WarpgroupWait<0>();
      HoldRegisters(block);
      if (leaves) reader.Leave(stage);
#pragma unroll
      for (int i = 0; i < Shape::kSums; ++i) {
        sums[0][i] += block[i] * (i % 4 < 2 ? absmax.x : absmax.y);
      }
    } else {
      static_assert(Shape::kStageBlocks == 1);
      Queue<kPart>(now);
      WarpgroupWait<1>();
      if (kPart == 0 && !first) reader.Leave(stage == 0 ? Shape::kRing - 1 : stage - 1);
      if (more) DecodeNext<kPart>(next);
    }
  }

  __device__ void Run(int blocks) {
    Unit<Shape> even, odd;
    reader.Await();
    Decode(0, even);
    const int units = blocks * kParts;
#pragma unroll 1
    for (int i = 0; i < units; i += 2) {
      Turn<0>(even, odd, i == 0, i + 1 < units);
      if (i + 1 < units) Turn<kParts - 1>(odd, even, false, i + 2 < units);
    }
    if constexpr (!Shape::kBlockSums) {
      WarpgroupWait<0>();
#pragma unroll
      for (int group = 0; group < Shape::kGroups; ++group) HoldRegisters(sums[group]);
    }
  }
};

// ---- From sums to y ----

__device__ inline float4 LoadRemote(uint32_t address) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

__device__ inline void SyncCluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}

// Leaves the sums of this warpgroup for the cluster, by those that multiply.
template <class Shape>
__device__ inline void LeaveSums(uint8_t* shared,
                                 const float (&sums)[Shape::kGroups][Shape::kSums]) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  float* mine = reinterpret_cast<float*>(shared + Places<Shape>::kTileSums) +
                warp / 4 * Shape::kGroups * kGroupRows + warp % 4 * kTileRows + lane / 4 +
                lane % 4 * 2 * kSumStride;
#pragma unroll
  for (int group = 0; group < Shape::kGroups; ++group) {
#pragma unroll
    for (int i = 0; i < Shape::kSums; ++i) {
      mine[group * kGroupRows + i % 4 / 2 * 8 + (i / 4 * 8 + i % 2) * kSumStride] = sums[group][i];
    }
  }
}

// Adds the cluster's sums of this block's share of the tile and writes them, four outputs a thread.
template <class Shape>
__device__ inline void WriteShare(const Arguments& args, const Work& work, uint32_t shared) {
  using Scalar = typename Shape::Scalar;
  constexpr int kQuads = kTileOutputs / 4;  // a token
  const int tokens = min(Shape::kTokens, args.rows - work.first_token);
  const bool whole = args.outputs % 4 == 0;
  for (int i = work.rank * Shape::kMultipliers + threadIdx.x; i < tokens * kQuads;
       i += args.cluster * Shape::kMultipliers) {
    const int token = i / kQuads;
    const int row = i % kQuads * 4;
    const uint32_t place = shared + Places<Shape>::kTileSums + (token * kSumStride + row) * 4;
    float sum[4] = {};
    for (int rank = 0; rank < args.cluster; ++rank) {
      const float4 part = LoadRemote(RemoteAddress(place, rank));
      sum[0] += part.x;
      sum[1] += part.y;
      sum[2] += part.z;
      sum[3] += part.w;
    }
    const int output = work.first_output + row;
    Scalar* y = static_cast<Scalar*>(args.y) +
                static_cast<int64_t>(work.first_token + token) * args.outputs + output;
    Scalar rounded[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float scale = 1 / Nf4Multiplier<Scalar>::kValue;
      if constexpr (!Shape::Decoder::kHasTable) {
        scale = output + j < args.outputs ? args.row_scales[output + j] : 0;
      }
      rounded[j] = Round<Scalar>(sum[j] * scale);
    }
    if (whole && output < args.outputs) {
      *reinterpret_cast<uint2*>(y) = *reinterpret_cast<const uint2*>(rounded);
    } else {
      for (int j = 0; j < 4 && output + j < args.outputs; ++j) y[j] = rounded[j];
    }
  }
}

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    GemmWide(const __grid_constant__ Arguments args, const __grid_constant__ CUtensorMap x) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = SharedAddress(shared);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const Work work = WorkOf(args, Shape::kTokens);
  asm volatile("griddepcontrol.launch_dependents;");
  if (threadIdx.x == Shape::kMultipliers) {
    for (int i = 0; i < Shape::kRing; ++i) {
      InitBarrier(Places<Shape>::Filled(base, i), 1);
      InitBarrier(Places<Shape>::Emptied(base, i), Shape::kWarpgroups * 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (warp >= Shape::kWarpgroups * 4) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Shape::kCopyRegisters));
    if (lane == 0) FillRing<Shape>(args, &x, work, base);
    __syncwarp();
    SyncCluster();
    if (args.cluster > 1) SyncCluster();
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Shape::kMultiplyRegisters));
    if constexpr (Shape::Decoder::kHasTable) {
      BuildPairTable<typename Shape::Scalar>(args.codebook, shared, Shape::kMultipliers);
      asm volatile("bar.sync 1, %0;" ::"n"(Shape::kMultipliers) : "memory");
    }
    float sums[Shape::kGroups][Shape::kSums] = {};
    Reader<Shape> reader = {base, shared, lane, 0, warp % 2};
    reader.record_offset = (warp / 4 * Shape::kGroups * 2 + warp % 4 / 2) * Shape::kRowBytes;
    Multiplier<Shape>{reader, sums, {}, {}}.Run(work.blocks);
    // The sums take the ring's place: nobody may still read it.
    asm volatile("bar.sync 1, %0;" ::"n"(Shape::kMultipliers) : "memory");
    LeaveSums<Shape>(shared, sums);
    __syncwarp();
    SyncCluster();
    WriteShare<Shape>(args, work, base);
    // A block's sums stay until all have read them.
    __syncwarp();
    if (args.cluster > 1) SyncCluster();
  }
}

// ---- Launch ----

cudaError_t EncodeTiled(decltype(&cuTensorMapEncodeTiled)* encode) {
  static void* function = nullptr;
  static const cudaError_t found = [] {
    cudaDriverEntryPointQueryResult result;
    return cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                            cudaEnableDefault, &result);
  }();
  *encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  return found == cudaSuccess && function == nullptr ? cudaErrorNotSupported : found;
}

// x as [rows][inputs], fetched by tiles of tokens x 64; rows past the last are zero.
cudaError_t DescribeX(const GemmProblem& problem, const void* x, int tokens, CUtensorMap* map) {
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
  const cudaError_t found = EncodeTiled(&encode);
  if (found != cudaSuccess) return found;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(problem.inputs),
                               static_cast<cuuint64_t>(problem.rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(problem.inputs) * 2};
  const cuuint32_t box[2] = {kRecordCols, static_cast<cuuint32_t>(tokens)};
  const cuuint32_t steps[2] = {1, 1};
  const CUtensorMapDataType type = problem.activation == Activation::kF16
                                       ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                       : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const CUresult result =
      encode(map, type, 2, const_cast<void*>(x), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template <class Shape>
cudaError_t Launch(const GemmPlan& plan, const Arguments& args, const CUtensorMap& x,
                   cudaStream_t stream) {
  const auto kernel = GemmWide<Shape>;
  static const cudaError_t prepared = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Places<Shape>::kEnd);
  if (prepared != cudaSuccess) return prepared;
  const ClusterLaunch launch = {plan.cluster, plan.clusters, Shape::kThreads, Places<Shape>::kEnd};
  return LaunchClusters(kernel, launch, stream, args, x);
}

template <class Decoder>
cudaError_t LaunchTokens(const GemmPlan& plan, const Arguments& args, const CUtensorMap& x,
                         cudaStream_t stream) {
  switch (plan.tile_tokens) {
    case 16:
      return Launch<TileShape<Decoder, 16>>(plan, args, x, stream);
    case 32:
      return Launch<TileShape<Decoder, 32>>(plan, args, x, stream);
    case 64:
      return Launch<TileShape<Decoder, 64>>(plan, args, x, stream);
    case 128:
      return Launch<TileShape<Decoder, 128>>(plan, args, x, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <class Scalar>
cudaError_t LaunchFor(const GemmProblem& problem, const GemmPlan& plan, const Arguments& args,
                      const CUtensorMap& x, cudaStream_t stream) {
  return problem.encoding == PackedEncoding::kNf4
             ? LaunchTokens<Nf4Decoder<Scalar>>(plan, args, x, stream)
             : LaunchTokens<Int8Decoder<Scalar>>(plan, args, x, stream);
}

}  // namespace

cudaError_t LaunchWide(const GemmProblem& problem, const GemmPlan& plan,
                       const GemmOperands& operands, cudaStream_t stream) {
  CUtensorMap x;
  const cudaError_t described = DescribeX(problem, operands.x, plan.tile_tokens, &x);
  if (described != cudaSuccess) return described;
  const Arguments args = {operands.weight,
                          operands.row_scales,
                          operands.y,
                          problem.rows,
                          problem.outputs,
                          problem.inputs,
                          plan.cluster,
                          (problem.rows + plan.tile_tokens - 1) / plan.tile_tokens,
                          {}};
  return problem.activation == Activation::kF16
             ? LaunchFor<__half>(problem, plan, args, x, stream)
             : LaunchFor<__nv_bfloat16>(problem, plan, args, x, stream);
}

}  // namespace vernier::cuda
