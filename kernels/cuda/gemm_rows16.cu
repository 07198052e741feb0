// y = x W^T for 1 to 16 rows of x: the weights are the A operand of mma.sync m16n8k16, tokens its
// n.
//
//               K ->   slice of block 0   slice of block 1      one cluster: a row group (64 rows
//               of W)
//   row group 0      | w0 w1 .. w7 w0 ..| w0 w1 .. w7 w0 ..|   at a time; each block keeps its
//   slice row group 1      | w0 w1 .. w7 w0 ..| ...                  of x in shared memory for all
//   of them;
//   ...                                                        its warps take records in turn
//
// Each warp has a ring of records in shared memory, filled by bulk copies: some 70 KB are under way
// a multiprocessor, begun before griddepcontrol.wait. (Held in registers instead, the compiler made
// the use of one record wait for the loads of the next.)
//
// A group's sums go from the warps to one of them, in turn, through shared memory, and from there
// to the block of the cluster that owns the rows, each in a fixed order. Nobody else waits: a warp
// only signals that its sums are there. Data that crosses blocks counts itself in at a transaction
// barrier; a release at cluster scope would wait for every load under way.
//
// Limits: 16 rows; the slice of x, the table and the sums within a multiprocessor's shared memory.
#include <algorithm>

#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_rows16.h"

namespace vernier::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kRecordRowsLog2 = 6;
static_assert(1 << kRecordRowsLog2 == kRecordRows);
constexpr int kMaxRing = 4;  // records under way a warp
constexpr int kTokensPerColumnBlock = 8;
constexpr int kSegmentBytes = 128;  // one token's 64 values of one record's columns
constexpr int kBarrierBytes = 8;
// A warp's sums are 8 tokens of 64 rows; the padding spreads the stores of a fragment over banks.
constexpr int kSumStride = kRecordRows + 4;
constexpr int kWarpSums = kTokensPerColumnBlock * kSumStride;
constexpr int kMaxSharedBytes = 227 * 1024;
// A block asks for more than half, so that a multiprocessor takes one: two of them, from neighbours
// on a stream, end up unevenly spread (4096 x 4096, 8 rows, H200: 10.5 us against 7.5).
constexpr int kAloneBytes = 120 * 1024;

struct Arguments {
  const uint8_t* weight;
  const float* row_scales;
  const void* x;
  void* y;
  int rows;
  int outputs;
  int inputs;
  int cluster_log2;
  int clusters;
  int ring;  // records of a warp
};

// Shared memory: [pair table][x beyond its holes][rings][sums of warps][slots of the
// cluster][barriers].
struct SharedLayout {
  int x_offset;  // of the segments that do not fit the holes of the table
  int hole_segments;
  int rings_offset;     // [warp][ring][record]
  int sums_offset;      // [warp][column block][token][row, padded]
  int slots_offset;     // two slots, by the parity of the group: [source][token][owned row]
  int barriers_offset;  // one a slot, then [warp][ring]
  int bytes;
};

__host__ __device__ constexpr SharedLayout LayoutOf(PackedEncoding encoding, int column_blocks,
                                                    int slice_blocks, int ring) {
  const bool has_table = encoding == PackedEncoding::kNf4;
  const int tokens = column_blocks * kTokensPerColumnBlock;
  const int segments = slice_blocks * tokens;
  SharedLayout layout = {};
  layout.x_offset = has_table ? kPairTableBytes : 0;
  layout.hole_segments = has_table ? kPairTableBytes / kPairTableRowBytes : 0;
  const int beyond = segments > layout.hole_segments ? segments - layout.hole_segments : 0;
  layout.rings_offset = layout.x_offset + beyond * kSegmentBytes;
  layout.sums_offset = layout.rings_offset + kWarps * ring * RecordBytes(encoding);
  layout.slots_offset = layout.sums_offset + kWarps * kWarpSums * column_blocks * 4;
  layout.barriers_offset = layout.slots_offset + 2 * kRecordRows * tokens * 4;
  layout.bytes = layout.barriers_offset + (2 + kWarps * ring) * kBarrierBytes;
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

__device__ inline int ClusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

// ---- Transaction barriers ----

__device__ inline void InitBarrier(uint32_t barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier));
}
__device__ inline void ExpectBytes(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes));
}
// By a whole warp.
__device__ inline void AwaitPhase(uint32_t barrier, int parity) {
  uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.b32 %0, 1, 0, done;\n"
        "}\n"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  }
  __syncwarp();
}
// The address of `local` in block `rank` of the cluster.
__device__ inline uint32_t RemoteAddress(uint32_t local, int rank) {
  uint32_t remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(rank));
  return remote;
}
__device__ inline void Send(uint32_t remote, const float4& v, uint32_t remote_barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(remote),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(remote_barrier)
      : "memory");
}

// `bytes` of global memory into shared memory; they count themselves in at `barrier`.
__device__ inline void CopyBulk(uint32_t to, const uint8_t* from, int bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// ---- Named barriers of the whole block: a signal that does not wait, and a wait ----

// kSumsRead is two, used in turn: a warp that has reduced signals it without waiting, and may come
// to the next wait while others have yet to reach this one.
enum NamedBarrier { kSumsWritten = 1, kSumsRead = 2 };
__device__ inline void Signal(int id) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "n"(kThreads) : "memory");
}
__device__ inline void Await(int id) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(kThreads) : "memory");
}

// A warp's sums of one row group: [tile][column block][fragment of m16n8].
template <int kColumnBlocks>
using Sums = float[kTilesPerRecord][kColumnBlocks][4];

// sums += record * x. `x_segments` is the shared address of the record's first token.
template <class Decoder, int kColumnBlocks>
__device__ inline void Accumulate(const typename Decoder::Record& record, const uint8_t* table,
                                  int lane, uint32_t x_segments, uint32_t segment_stride,
                                  Sums<kColumnBlocks>& sums) {
  using Scalar = typename Decoder::Scalar;
  constexpr int kPair = 2;       // tiles multiplied side by side
  uint32_t b[kColumnBlocks][8];  // [k16 step][register]
#pragma unroll
  for (int n = 0; n < kColumnBlocks; ++n) {
    const uint32_t segment = x_segments + (n * kTokensPerColumnBlock + lane % 8) * segment_stride;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      LoadMatrix4(segment + ((half * 4 + lane / 8) ^ (lane % 8)) * 16, &b[n][half * 4]);
    }
  }
#pragma unroll
  for (int first = 0; first < kTilesPerRecord; first += kPair) {
    float block[kPair][kColumnBlocks][4];
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
          Multiply<Scalar>(a, b[n][step * 2], b[n][step * 2 + 1], block[tile][n]);
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kPair; ++tile) {
      float low = 1, high = 1;
      if constexpr (Decoder::kHasTable) {
        low = __shfl_sync(~0u, record.absmax.x, first + tile, 4);
        high = __shfl_sync(~0u, record.absmax.y, first + tile, 4);
      }
#pragma unroll
      for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& sum = sums[first + tile][n][i];
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

// A warp's way through its records: k-blocks w, w + 8, ... of the slice, group after group.
struct RecordWalk {
  const uint8_t* record;
  int block;      // of the slice
  int remaining;  // records

  __device__ void Advance(int warp, int slice_blocks, int64_t group_bytes, int record_bytes) {
    --remaining;
    block += kWarps;
    record += kWarps * record_bytes;
    if (block >= slice_blocks) {
      record += group_bytes - static_cast<int64_t>(block - warp) * record_bytes;
      block = warp;
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

// What one block of the grid works on.
struct Work {
  int rank;         // in its cluster
  int first_block;  // of its slice of K
  int slice_blocks;
  int first_group;  // half groups of its cluster
  int last_group;
};

__device__ inline Work WorkOf(const Arguments& args) {
  const int blocks = args.inputs / kRecordCols;
  const int groups = (args.outputs + kRecordRows - 1) / kRecordRows;
  const int cluster = blockIdx.x >> args.cluster_log2;
  Work work;
  work.rank = ClusterRank();
  work.first_block = work.rank * blocks >> args.cluster_log2;
  work.slice_blocks = ((work.rank + 1) * blocks >> args.cluster_log2) - work.first_block;
  work.first_group = cluster * groups / args.clusters;
  work.last_group = (cluster + 1) * groups / args.clusters;
  return work;
}

// From the sums of the warps to y, by one warp a group.
template <class Decoder, int kColumnBlocks>
struct Reducer {
  using Scalar = typename Decoder::Scalar;
  static constexpr int kTokens = kColumnBlocks * kTokensPerColumnBlock;
  static constexpr int kSlotBytes = kRecordRows * kTokens * 4;

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
      InitBarrier(barrier(group));
      ExpectBytes(barrier(group), kSlotBytes);
    }
    asm volatile("fence.mbarrier_init.release.cluster;");
  }

  // Leaves a warp's sums where the reducing warp finds them, and clears them.
  __device__ void Leave(int warp, int lane, Sums<kColumnBlocks>& sums) const {
    float* mine = reinterpret_cast<float*>(shared + sums_offset) +
                  warp * kColumnBlocks * kWarpSums + lane % 4 * 2 * kSumStride + lane / 4;
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int tile = 0; tile < kTilesPerRecord; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          mine[n * kWarpSums + tile * kTileRows + i / 2 * 8 + i % 2 * kSumStride] =
              sums[tile][n][i];
          sums[tile][n][i] = 0;
        }
      }
    }
  }

  // Adds the warps' sums, sixteen lanes a token and four rows a lane: `parts`, two tokens each.
  __device__ void Collect(int lane, float4 (&parts)[4 * kColumnBlocks]) const {
    const float* sums = reinterpret_cast<const float*>(shared + sums_offset) +
                        lane / 16 * kSumStride + lane % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4 * kColumnBlocks; ++i) {
      parts[i] = {0, 0, 0, 0};
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) {
        const float4 part = *reinterpret_cast<const float4*>(
            sums + (warp * kColumnBlocks * kTokensPerColumnBlock + i * 2) * kSumStride);
        parts[i].x += part.x;
        parts[i].y += part.y;
        parts[i].z += part.z;
        parts[i].w += part.w;
      }
    }
  }

  // Sends the block's sums to the blocks that own the rows.
  __device__ void Scatter(int group, int lane, const float4 (&parts)[4 * kColumnBlocks]) const {
    const int owned_log2 = kRecordRowsLog2 - args.cluster_log2;
    const int row = lane % 16 * 4;
    const int owner = row >> owned_log2;
    const uint32_t slot =
        RemoteAddress(SharedAddress(shared + slots_offset) + parity(group) * kSlotBytes, owner);
    const uint32_t remote_barrier = RemoteAddress(barrier(group), owner);
#pragma unroll
    for (int i = 0; i < 4 * kColumnBlocks; ++i) {
      const int place = ((work.rank * kTokens + i * 2 + lane / 16) << owned_log2) +
                        (row & ((1 << owned_log2) - 1));
      Send(slot + place * 4, parts[i], remote_barrier);
    }
  }

  // Adds what the blocks sent for `group`, in the order of their ranks, and writes y.
  __device__ void Write(int group, int lane) const {
    AwaitPhase(barrier(group), (group - work.first_group) / 2 % 2);
    if (lane == 0) ExpectBytes(barrier(group), kSlotBytes);
    __syncwarp();
    const float* slot =
        reinterpret_cast<const float*>(shared + slots_offset + parity(group) * kSlotBytes);
    const int owned_log2 = kRecordRowsLog2 - args.cluster_log2;
    const int first_output = group * kRecordRows + (work.rank << owned_log2);
    for (int i = lane; i < kTokens << owned_log2; i += 32) {
      const int token = i >> owned_log2;
      const int output = first_output + (i & ((1 << owned_log2) - 1));
      if (token >= args.rows || output >= args.outputs) continue;
      float sum = 0;
      for (int source = 0; source < 1 << args.cluster_log2; ++source) {
        sum += slot[(source * kTokens << owned_log2) + i];
      }
      const float scale =
          Decoder::kHasTable ? 1 / Nf4Multiplier<Scalar>::kValue : args.row_scales[output];
      static_cast<Scalar*>(args.y)[static_cast<int64_t>(token) * args.outputs + output] =
          Round<Scalar>(sum * scale);
    }
  }

  // The end of `group` for one warp. What a block sends for a group shows that it has read its
  // slots of the one before, so two slots are enough.
  __device__ void Finish(int group, int warp, int lane, Sums<kColumnBlocks>& sums) const {
    const int turn = group - work.first_group;
    if (turn > 0 && warp != (turn - 1) % kWarps) Await(kSumsRead + (turn - 1) % 2);
    Leave(warp, lane, sums);
    if (warp != turn % kWarps) {
      Signal(kSumsWritten);
      return;
    }
    Await(kSumsWritten);
    float4 parts[4 * kColumnBlocks];
    Collect(lane, parts);
    if (group + 1 < work.last_group) Signal(kSumsRead + turn % 2);
    if (turn > 0) Write(group - 1, lane);
    Scatter(group, lane, parts);
    if (group + 1 == work.last_group) Write(group, lane);
    __syncwarp();
  }
};

template <class Decoder, int kColumnBlocks>
__global__ void __launch_bounds__(kThreads, 1) GemmRows16(const Arguments args) {
  constexpr int kTokens = kColumnBlocks * kTokensPerColumnBlock;
  constexpr int kRecordBytes = Decoder::kRecordBytes;
  extern __shared__ __align__(1024) uint8_t shared[];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const Work work = WorkOf(args);
  const int blocks = args.inputs / kRecordCols;
  const SharedLayout layout =
      LayoutOf(Decoder::kEncoding, kColumnBlocks,
               (blocks + (1 << args.cluster_log2) - 1) >> args.cluster_log2, args.ring);
  const Reducer<Decoder, kColumnBlocks> reducer = {
      args, work, shared, layout.sums_offset, layout.slots_offset, layout.barriers_offset};

  asm volatile("griddepcontrol.launch_dependents;");
  const uint32_t shared_base = SharedAddress(shared);
  const uint32_t filled =
      shared_base + layout.barriers_offset + (2 + warp * args.ring) * kBarrierBytes;
  const uint8_t* ring = shared + layout.rings_offset + warp * args.ring * kRecordBytes;
  if (lane == 0) {
    for (int i = 0; i < args.ring; ++i) InitBarrier(filled + i * kBarrierBytes);
    if (warp == 0) reducer.InitBarriers();
    asm volatile("fence.mbarrier_init.release.cluster;");
  }
  __syncwarp();
  // Every block's barriers stand before another block sends to it.
  asm volatile("barrier.cluster.arrive.relaxed.aligned;");

  const int64_t group_bytes = static_cast<int64_t>(blocks) * kRecordBytes;
  const int group_turns = (work.slice_blocks - warp + kWarps - 1) / kWarps;  // of this warp
  RecordWalk walk = {args.weight + work.first_group * group_bytes +
                         static_cast<int64_t>(work.first_block + warp) * kRecordBytes,
                     warp, group_turns * (work.last_group - work.first_group)};
  const auto fill = [&](int slot) {
    if (walk.remaining <= 0) return;
    if (lane == 0) {
      ExpectBytes(filled + slot * kBarrierBytes, kRecordBytes);
      CopyBulk(SharedAddress(ring + slot * kRecordBytes), walk.record, kRecordBytes,
               filled + slot * kBarrierBytes);
    }
    walk.Advance(warp, work.slice_blocks, group_bytes, kRecordBytes);
  };
  for (int i = 0; i < args.ring; ++i) fill(i);
  if constexpr (Decoder::kHasTable) BuildPairTable<typename Decoder::Scalar>(shared, kThreads);
  asm volatile("griddepcontrol.wait;" ::: "memory");
  LoadX<kColumnBlocks>(args, shared, layout, work.first_block, work.slice_blocks);
  asm volatile("barrier.cluster.wait.acquire.aligned;");
  __syncthreads();

  Sums<kColumnBlocks> sums = {};
  int slot = 0;
  int parity = 0;
#pragma unroll 1
  for (int group = work.first_group; group < work.last_group; ++group) {
#pragma unroll 1
    for (int block = warp; block < work.slice_blocks; block += kWarps) {
      AwaitPhase(filled + slot * kBarrierBytes, parity);
      typename Decoder::Record record;
      record.Load(ring + slot * kRecordBytes, lane);
      __syncwarp();
      fill(slot);
      if (++slot == args.ring) {
        slot = 0;
        parity ^= 1;
      }
      const int segment = block * kTokens;
      const bool hole = segment < layout.hole_segments;
      const int x_offset = hole
                               ? segment * kPairTableRowBytes + kPairTableHole
                               : layout.x_offset + (segment - layout.hole_segments) * kSegmentBytes;
      Accumulate<Decoder, kColumnBlocks>(record, shared, lane, shared_base + x_offset,
                                         hole ? kPairTableRowBytes : kSegmentBytes, sums);
    }
    reducer.Finish(group, warp, lane, sums);
  }
}

template <class Decoder, int kColumnBlocks>
cudaError_t Launch(const GemmPlan& plan, const Arguments& args, cudaStream_t stream) {
  const auto kernel = GemmRows16<Decoder, kColumnBlocks>;
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

template <class Scalar>
cudaError_t LaunchFor(const GemmProblem& problem, const GemmPlan& plan, const Arguments& args,
                      cudaStream_t stream) {
  if (problem.encoding == PackedEncoding::kNf4) {
    return plan.column_blocks == 1 ? Launch<Nf4Decoder<Scalar>, 1>(plan, args, stream)
                                   : Launch<Nf4Decoder<Scalar>, 2>(plan, args, stream);
  }
  return plan.column_blocks == 1 ? Launch<Int8Decoder<Scalar>, 1>(plan, args, stream)
                                 : Launch<Int8Decoder<Scalar>, 2>(plan, args, stream);
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
  const int groups = static_cast<int>(RecordGroups(problem.outputs));
  const int blocks = static_cast<int>(RecordBlocks(problem.inputs));
  GemmPlan best;
  int64_t best_cost = INT64_MAX;
  for (const ClusterRow& row : kClusterRows) {
    const int slice_blocks = (blocks + row.cluster - 1) / row.cluster;
    const auto bytes = [&](int ring) {
      return LayoutOf(problem.encoding, column_blocks, slice_blocks, ring).bytes;
    };
    int ring = kMaxRing;
    while (ring > 1 && bytes(ring) > kMaxSharedBytes) --ring;
    if (ring == 1) continue;
    const int clusters = std::min(groups, row.clusters);
    // Records of the busiest warp; the end of a group costs about half of one.
    const int64_t cost = static_cast<int64_t>((groups + clusters - 1) / clusters) *
                         (2 * ((slice_blocks + kWarps - 1) / kWarps) + 1);
    if (cost < best_cost) {
      best_cost = cost;
      best = {column_blocks, row.cluster, clusters, ring, std::max(bytes(ring), kAloneBytes)};
    }
  }
  return best;
}

cudaError_t LaunchRows16(const GemmProblem& problem, const GemmPlan& plan,
                         const GemmOperands& operands, cudaStream_t stream) {
  int cluster_log2 = 0;
  while (1 << cluster_log2 < plan.cluster) ++cluster_log2;
  const Arguments args = {
      operands.weight, operands.row_scales, operands.x,   operands.y,    problem.rows,
      problem.outputs, problem.inputs,      cluster_log2, plan.clusters, plan.ring};
  return problem.activation == Activation::kF16
             ? LaunchFor<__half>(problem, plan, args, stream)
             : LaunchFor<__nv_bfloat16>(problem, plan, args, stream);
}

}  // namespace vernier::cuda
