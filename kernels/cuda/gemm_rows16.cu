// y = x W^T for 1 to 16 rows of x: the weights are the A operand of mma.sync m16n8k16, tokens its
// n.
//
//            K ->   slice of block 0   slice of block 1   ...      one cluster: a row group at a
//            time
//   row group 0   | w0 w1 .. w7 w0 ..| w0 w1 .. w7 w0 ..| ...      each block keeps its slice of x
//   row group 1   | w0 w1 .. w7 w0 ..| ...                         in shared memory for all groups;
//   ...                                                            warps take 64 x 64 records in
//   turn
//
// A warp holds the packed registers of its next kDepth records: up to 72 KB a multiprocessor are
// under way. They are asked for before griddepcontrol.wait, so that with two blocks a
// multiprocessor the next GEMM of a stream has its first records while this one ends. A group's
// sums go from warp to block through shared memory, from block to cluster through distributed
// shared memory, each in a fixed order; the barrier of group i is waited for after the records of
// group i + 1.
//
// Limits: 16 rows; the slice of x, the table and the sums within half of a multiprocessor's shared
// memory.
#include <cooperative_groups.h>

#include <algorithm>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_rows16.h"

namespace vernier::cuda {
namespace {

// A warp takes half of a record's rows; eight of them share out the records of a slice. Sixteen
// warps of 64 registers hide the latency of the table and of the multiplications; eight of 128 did
// not.
constexpr int kWarps = 16;
constexpr int kTurnRecords = kWarps / 2;
constexpr int kThreads = kWarps * 32;
constexpr int kTokensPerColumnBlock = 8;
constexpr int kSegmentBytes = 128;  // one token's 64 values of one record's columns
constexpr int kMaxCluster = 8;      // the largest that every device takes
// Sums of two warps are 8 tokens of 64 rows; the padding spreads the stores of a fragment over
// banks.
constexpr int kSumStride = kRecordRows + 4;
constexpr int kRecordSums = kTokensPerColumnBlock * kSumStride;
// Half of a multiprocessor's 228 KB, less the 1 KB that a block costs.
constexpr int kMaxSharedBytes = 113 * 1024;

struct Arguments {
  const uint8_t* weight;
  const float* row_scales;
  const void* x;
  void* y;
  int rows;
  int outputs;
  int inputs;
};

// Shared memory: [pair table][x beyond its holes][sums of warps][slots of the cluster].
struct SharedLayout {
  int x_offset;  // of the segments that do not fit the holes of the table
  int hole_segments;
  int sums_offset;
  int slots_offset;
  int bytes;
};

__host__ __device__ constexpr SharedLayout LayoutOf(bool has_table, int column_blocks,
                                                    int slice_blocks) {
  const int segments = slice_blocks * column_blocks * kTokensPerColumnBlock;
  const int holes = has_table ? kPairTableBytes / kPairTableRowBytes : 0;
  const int beyond = segments > holes ? segments - holes : 0;
  SharedLayout layout = {};
  layout.x_offset = has_table ? kPairTableBytes : 0;
  layout.hole_segments = holes;
  layout.sums_offset = layout.x_offset + beyond * kSegmentBytes;
  layout.slots_offset = layout.sums_offset + kTurnRecords * kRecordSums * 4;
  layout.bytes = layout.slots_offset + 2 * kRecordRows * column_blocks * kTokensPerColumnBlock * 4;
  return layout;
}

__device__ inline uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ inline void CopyAsync16(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(valid ? 16 : 0));
}

__device__ inline void LoadMatrix4(uint32_t address, uint32_t* out) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}

// c += a b, shapes 16 x 16 and 16 x 8.
template <class Scalar>
__device__ inline void Multiply(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4]);
template <>
__device__ inline void Multiply<__half>(const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                        float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline void Multiply<__nv_bfloat16>(const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                               float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline void ClusterArrive() { asm volatile("barrier.cluster.arrive.release.aligned;"); }
__device__ inline void ClusterWait() { asm volatile("barrier.cluster.wait.acquire.aligned;"); }

// A warp's sums of its half of one row group: [tile][column block][fragment of m16n8].
template <int kColumnBlocks>
using Sums = float[kTilesPerHalf][kColumnBlocks][4];

// sums += half record * x. `x_segments` is the shared address of the record's first token.
template <class Decoder, int kColumnBlocks>
__device__ inline void Accumulate(const typename Decoder::HalfRecord& record, const uint8_t* table,
                                  int lane, uint32_t x_segments, uint32_t segment_stride,
                                  Sums<kColumnBlocks>& sums) {
  using Scalar = typename Decoder::Scalar;
  float block[kTilesPerHalf][kColumnBlocks][4];
#pragma unroll
  for (int i = 0; i < kTilesPerHalf * kColumnBlocks * 4; ++i) {
    (&block[0][0][0])[i] = Decoder::kHasTable ? 0 : (&sums[0][0][0])[i];
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t b[kColumnBlocks][4];  // of two k16 steps
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
      const uint32_t segment = x_segments + (n * kTokensPerColumnBlock + lane % 8) * segment_stride;
      LoadMatrix4(segment + ((half * 4 + lane / 8) ^ (lane % 8)) * 16, b[n]);
    }
#pragma unroll
    for (int step = 0; step < 2; ++step) {
#pragma unroll
      for (int tile = 0; tile < kTilesPerHalf; ++tile) {
        uint32_t a[4];
        record.Decode(table, lane * 4, tile, half * 2 + step, a);
#pragma unroll
        for (int n = 0; n < kColumnBlocks; ++n) {
          Multiply<Scalar>(a, b[n][step * 2], b[n][step * 2 + 1], block[tile][n]);
        }
      }
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTilesPerHalf; ++tile) {
    float low = 1, high = 1;
    if constexpr (Decoder::kHasTable) {
      low = __shfl_sync(~0u, record.absmax, (lane & ~3) | tile * 2);
      high = __shfl_sync(~0u, record.absmax, (lane & ~3) | tile * 2 + 1);
    }
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (Decoder::kHasTable) {
          sums[tile][n][i] += block[tile][n][i] * (i < 2 ? low : high);
        } else {
          sums[tile][n][i] = block[tile][n][i];
        }
      }
    }
  }
}

// A warp's way through its records: k-blocks k, k + 8, ... of the slice, group after group.
struct RecordWalk {
  const uint8_t* record;
  int block;      // of the slice; may lie past its end, then the turn is empty
  int remaining;  // turns

  // `padded_blocks` is the slice rounded up to whole turns.
  __device__ void Advance(int padded_blocks, int64_t turn_bytes, int64_t skip_bytes) {
    --remaining;
    block += kTurnRecords;
    record += turn_bytes;
    if (block >= padded_blocks) {
      block -= padded_blocks;
      record += skip_bytes;  // to the slice of the next group
    }
  }
};

template <class Scalar>
__device__ inline Scalar Round(float value);
template <>
__device__ inline __half Round<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ inline __nv_bfloat16 Round<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// The slice of x into shared memory, 16 bytes a copy, rows past the last one zero. A segment's
// chunks are exchanged by its token, so that eight tokens' chunks lie in different banks.
template <int kColumnBlocks>
__device__ inline void LoadX(const Arguments& args, uint8_t* shared, const SharedLayout& layout,
                             int first_block, int slice_blocks) {
  constexpr int kTokens = kColumnBlocks * kTokensPerColumnBlock;
  const char* x = static_cast<const char*>(args.x);
  const int chunks = slice_blocks * kTokens * 8;
  for (int i = threadIdx.x; i < chunks; i += kThreads) {
    const int chunk = i % 8;
    const int block = i / 8 % slice_blocks;
    const int token = i / 8 / slice_blocks;
    const int segment = block * kTokens + token;
    uint8_t* to = segment < layout.hole_segments
                      ? shared + segment * kPairTableRowBytes + kPairTableHole
                      : shared + layout.x_offset + (segment - layout.hole_segments) * kSegmentBytes;
    const bool valid = token < args.rows;
    const int64_t from = (static_cast<int64_t>(valid ? token : 0) * args.inputs +
                          (first_block + block) * kRecordCols + chunk * 8) *
                         2;
    CopyAsync16(SharedAddress(to + (chunk ^ (token % 8)) * 16), x + from, valid);
  }
  asm volatile("cp.async.wait_all;");
}

template <class Decoder, int kColumnBlocks, int kDepth>
__global__ void __launch_bounds__(kThreads, 2) GemmRows16(const Arguments args) {
  using Scalar = typename Decoder::Scalar;
  constexpr int kTokens = kColumnBlocks * kTokensPerColumnBlock;
  constexpr int64_t kTurnBytes = static_cast<int64_t>(kTurnRecords) * Decoder::kRecordBytes;
  extern __shared__ __align__(1024) uint8_t shared[];
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  const int ranks = static_cast<int>(cluster.num_blocks());
  const int rank = static_cast<int>(cluster.block_rank());
  const int lane = threadIdx.x % 32;
  const int first = threadIdx.x / 64;     // k-block of the slice that this warp begins with
  const int part = threadIdx.x / 32 % 2;  // half of a record's rows

  const int blocks = args.inputs / kRecordCols;
  const int first_block = rank * blocks / ranks;
  const int slice_blocks = (rank + 1) * blocks / ranks - first_block;
  const int turns = (slice_blocks + kTurnRecords - 1) / kTurnRecords;
  const int padded_blocks = turns * kTurnRecords;
  const SharedLayout layout =
      LayoutOf(Decoder::kHasTable, kColumnBlocks, (blocks + ranks - 1) / ranks);
  const int groups = (args.outputs + kRecordRows - 1) / kRecordRows;
  const int clusters = gridDim.x / ranks;
  const int my_cluster = blockIdx.x / ranks;
  const int first_group = static_cast<int>(static_cast<int64_t>(my_cluster) * groups / clusters);
  const int last_group = static_cast<int>(static_cast<int64_t>(my_cluster + 1) * groups / clusters);

  asm volatile("griddepcontrol.launch_dependents;");
  ClusterArrive();  // every block of the cluster runs before another writes to it

  const int64_t skip_bytes = static_cast<int64_t>(blocks - padded_blocks) * Decoder::kRecordBytes;
  const int64_t first_record = static_cast<int64_t>(first_group) * blocks + first_block + first;
  RecordWalk load = {args.weight + first_record * Decoder::kRecordBytes, first,
                     turns * (last_group - first_group)};
  const uint64_t policy = EvictFirst();
  typename Decoder::HalfRecord records[kDepth];
  const auto load_next = [&](typename Decoder::HalfRecord* record) {
    if (load.remaining > 0 && load.block < slice_blocks) {
      record->Load(load.record, part, lane, policy);
    }
    load.Advance(padded_blocks, kTurnBytes, skip_bytes);
  };
#pragma unroll
  for (int d = 0; d < kDepth; ++d) load_next(&records[d]);
  if constexpr (Decoder::kHasTable) BuildPairTable<Scalar>(shared, kThreads);
  asm volatile("griddepcontrol.wait;" ::: "memory");
  LoadX<kColumnBlocks>(args, shared, layout, first_block, slice_blocks);
  __syncthreads();

  float* block_sums = reinterpret_cast<float*>(shared + layout.sums_offset);
  float* slots = reinterpret_cast<float*>(shared + layout.slots_offset);
  const int owned_rows = kRecordRows / ranks;  // of a group, this block writes to y

  // Adds the slots of `group` in the order of the ranks and writes this block's rows to y.
  const auto write_rows = [&](int group) {
    const float* slot = slots + (group - first_group) % 2 * kRecordRows * kTokens;
    for (int i = threadIdx.x; i < kTokens * owned_rows; i += kThreads) {
      const int token = i / owned_rows;
      const int row = i % owned_rows;
      float sum = 0;
      for (int source = 0; source < ranks; ++source) {
        sum += slot[(source * kTokens + token) * owned_rows + row];
      }
      const int output = group * kRecordRows + rank * owned_rows + row;
      if (token >= args.rows || output >= args.outputs) continue;
      const float scale =
          Decoder::kHasTable ? 1 / Nf4Multiplier<Scalar>::kValue : args.row_scales[output];
      static_cast<Scalar*>(args.y)[static_cast<int64_t>(token) * args.outputs + output] =
          Round<Scalar>(sum * scale);
    }
  };

  Sums<kColumnBlocks> sums = {};
  // Warps' sums of `group` to the block, the block's to the slots of the blocks that own the rows.
  const auto reduce = [&](int group) {
    ClusterWait();  // of the group before; also: nobody reads block_sums any more
    if (group > first_group) write_rows(group - 1);
    float* slot = slots + (group - first_group) % 2 * kRecordRows * kTokens;
    float* mine = block_sums + first * kRecordSums + lane % 4 * 2 * kSumStride +
                  part * kTilesPerHalf * kTileRows + lane / 4;
    const int token = threadIdx.x / kRecordRows;  // one output a thread
    const int row = threadIdx.x % kRecordRows;
    float* remote = cluster.map_shared_rank(slot, row / owned_rows) + rank * kTokens * owned_rows +
                    row % owned_rows;
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
      if (n > 0) __syncthreads();
#pragma unroll
      for (int tile = 0; tile < kTilesPerHalf; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          mine[tile * kTileRows + i / 2 * 8 + i % 2 * kSumStride] = sums[tile][n][i];
          sums[tile][n][i] = 0;
        }
      }
      __syncthreads();
      float sum = 0;
#pragma unroll
      for (int source = 0; source < kTurnRecords; ++source) {
        sum += block_sums[source * kRecordSums + token * kSumStride + row];
      }
      remote[(n * kTokensPerColumnBlock + token) * owned_rows] = sum;
    }
    ClusterArrive();
  };

  const uint32_t shared_base = SharedAddress(shared);
  int block = first;
  int group = first_group;
  for (int left = turns * (last_group - first_group); left > 0;) {
#pragma unroll
    for (int d = 0; d < kDepth; ++d, --left) {
      if (left <= 0) break;
      if (block < slice_blocks) {
        const int segment = block * kTokens;
        const bool hole = segment < layout.hole_segments;
        const int x_offset =
            hole ? segment * kPairTableRowBytes + kPairTableHole
                 : layout.x_offset + (segment - layout.hole_segments) * kSegmentBytes;
        Accumulate<Decoder, kColumnBlocks>(records[d], shared, lane, shared_base + x_offset,
                                           hole ? kPairTableRowBytes : kSegmentBytes, sums);
      }
      load_next(&records[d]);
      block += kTurnRecords;
      if (block >= padded_blocks) {
        block = first;
        reduce(group++);
      }
    }
  }
  ClusterWait();
  if (last_group > first_group) write_rows(last_group - 1);
}

template <class Decoder, int kColumnBlocks, int kDepth>
cudaError_t Launch(const GemmPlan& plan, const Arguments& args, cudaStream_t stream) {
  const auto kernel = GemmRows16<Decoder, kColumnBlocks, kDepth>;
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMaxSharedBytes);
  if (prepared != cudaSuccess) return prepared;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(plan.cluster), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(plan.cluster * plan.clusters));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(plan.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, kernel, args);
}

// The records under way a warp are what the registers hold beside the sums.
template <class Scalar>
cudaError_t LaunchFor(const GemmProblem& problem, const GemmPlan& plan, const Arguments& args,
                      cudaStream_t stream) {
  if (problem.encoding == PackedEncoding::kNf4) {
    return plan.column_blocks == 1 ? Launch<Nf4Decoder<Scalar>, 1, 2>(plan, args, stream)
                                   : Launch<Nf4Decoder<Scalar>, 2, 1>(plan, args, stream);
  }
  return plan.column_blocks == 1 ? Launch<Int8Decoder<Scalar>, 1, 2>(plan, args, stream)
                                 : Launch<Int8Decoder<Scalar>, 2, 1>(plan, args, stream);
}

// Blocks that run at once, one a multiprocessor; a multiple of every cluster.
constexpr int kBlocks = 128;

}  // namespace

GemmPlan PlanRows16(const GemmProblem& problem) {
  const int column_blocks = (problem.rows + kTokensPerColumnBlock - 1) / kTokensPerColumnBlock;
  const int groups = static_cast<int>(RecordGroups(problem.outputs));
  const int blocks = static_cast<int>(RecordBlocks(problem.inputs));
  GemmPlan best;
  int64_t best_turns = INT64_MAX;
  for (int cluster = 1; cluster <= kMaxCluster; cluster *= 2) {
    const int slice_blocks = (blocks + cluster - 1) / cluster;
    const int bytes =
        LayoutOf(problem.encoding == PackedEncoding::kNf4, column_blocks, slice_blocks).bytes;
    if (bytes > kMaxSharedBytes) continue;
    const int clusters = std::min(groups, kBlocks / cluster);
    // Of the busiest warp; a group's reduction costs about half a record.
    const int64_t turns = static_cast<int64_t>((groups + clusters - 1) / clusters) *
                          (2 * ((slice_blocks + kTurnRecords - 1) / kTurnRecords) + 1);
    if (turns < best_turns) {
      best_turns = turns;
      best = {column_blocks, cluster, clusters, bytes};
    }
  }
  return best;
}

cudaError_t LaunchRows16(const GemmProblem& problem, const GemmPlan& plan,
                         const GemmOperands& operands, cudaStream_t stream) {
  const Arguments args = {operands.weight, operands.row_scales, operands.x,    operands.y,
                          problem.rows,    problem.outputs,     problem.inputs};
  return problem.activation == Activation::kF16
             ? LaunchFor<__half>(problem, plan, args, stream)
             : LaunchFor<__nv_bfloat16>(problem, plan, args, stream);
}

}  // namespace vernier::cuda
