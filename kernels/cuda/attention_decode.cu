// Rows with one new token. As many blocks of threads as fit at once have equal shares of all keys,
// and take them in turns, a row's for one tile of heads each. Each of four warps takes every fourth
// block of the cache and keeps a ring of copies under way, into its next turns too; at the end of a
// turn the warps' results are merged in order, and those of a row that was cut by whoever comes
// last.
//
// For few rows the kernel also makes the heads (heads.cuh) from what the product of q, k and v
// left: every block those of q that it attends with, and the one with a row's newest key that key
// and value, which go to the cache and into the block's own copy of it. The older keys are then on
// their way before the product ahead has ended.
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/decode_tile.cuh"
#include "kernels/cuda/decode_turns.cuh"
#include "kernels/cuda/heads.cuh"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kThreads = kDecodeWarps * kWarpLanes;

// What was never written is not multiplied: zeros instead, in slots from `slots` on.
template <class Codes, int kHeadDim>
__device__ void ClearSlots(uint8_t* tile, int slots) {
  using Kv = KvTile<Codes, kHeadDim>;
  if (slots >= kSlotsPerBlock) return;
  for (int at = slots * Kv::kSlotBytes + threadIdx.x % kWarpLanes * 16; at < Kv::kCodeBytes;
       at += kWarpLanes * 16) {
    *reinterpret_cast<uint4*>(tile + at) = uint4();
  }
  // The next bulk copy comes after these stores.
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncwarp();
}

// Adds up what the warps found in a turn, in order; to the partials, or where there are no other
// keys of the row, to the result.
template <class Codes, int kHeadDim>
__device__ void MergeWarps(const AttentionParameters& p, const DecodeSplit& split, const Work& work,
                           const float* parts) {
  constexpr int kStride = DecodeLayout<Codes, kHeadDim>::kPartStride;
  for (int i = threadIdx.x; i < work.heads * kHeadDim; i += kThreads) {
    const int head = i / kHeadDim, column = i % kHeadDim;
    const float* part = parts + head * kStride;
    float most = -FLT_MAX, sum = 0, value = 0;
#pragma unroll
    for (int w = 0; w < kDecodeWarps; ++w) {
      most = fmaxf(most, part[w * kDecodeHeads * kStride + kHeadDim]);
    }
#pragma unroll
    for (int w = 0; w < kDecodeWarps; ++w) {
      const float* of_warp = part + w * kDecodeHeads * kStride;
      const float weight = Exp2(of_warp[kHeadDim] - most);
      sum += of_warp[kHeadDim + 1] * weight;
      value += of_warp[column] * weight;
    }
    const int64_t of_head = work.first_head + head;
    if (work.partial < 0) {
      Store(p.out.data, p.out.type, work.row * p.out.stride + of_head * kHeadDim + column,
            value / sum);
      continue;
    }
    float* out = split.partials +
                 (static_cast<int64_t>(work.partial) * kDecodeHeads + head) * (kHeadDim + 2);
    out[2 + column] = value;
    if (column == 0) {
      out[0] = most;
      out[1] = sum;
    }
  }
}

// Merges `count` partials of one row's head, a warp, in order: partial(i) is [2 + dim]. The values
// of several are asked for before their weights are known.
template <int kHeadDim, int kAtOnce, class Partial>
__device__ void MergePartials(int count, const Partial& partial, const Matrix& out, int64_t at) {
  constexpr int kColumns = kHeadDim / kWarpLanes;
  const int lane = threadIdx.x % kWarpLanes;
  float ahead[kAtOnce][kColumns];
  const auto ask = [&](int first) {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i >= count) break;
      const float* part = partial(first + i) + 2 + lane;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) ahead[i][j] = __ldcg(part + j * kWarpLanes);
    }
  };
  ask(0);
  float largest = lane < count ? __ldcg(partial(lane)) : -FLT_MAX;
  float own_sum = lane < count ? __ldcg(partial(lane) + 1) : 0;
  float most = largest;
  for (int i = lane + kWarpLanes; i < count; i += kWarpLanes) {
    most = fmaxf(most, __ldcg(partial(i)));
  }
  most = ReduceWarp(most, Larger());
  float sum = 0;
  float values[kColumns] = {};
  for (int first = 0; first < count; first += kWarpLanes) {
    if (const int own = first + lane; first > 0) {
      largest = own < count ? __ldcg(partial(own)) : -FLT_MAX;
      own_sum = own < count ? __ldcg(partial(own) + 1) : 0;
    }
    const float weight = first + lane < count ? Exp2(largest - most) : 0.0f;
    sum += ReduceWarp(own_sum * weight, Add());
    for (int i = 0; i < min(kWarpLanes, count - first); i += kAtOnce) {
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const float of_part = __shfl_sync(0xffffffffu, weight, i + k);
        if (first + i + k >= count) break;
#pragma unroll
        for (int j = 0; j < kColumns; ++j) values[j] += ahead[k][j] * of_part;
      }
      ask(first + i + kAtOnce);
    }
  }
  const float inverse = __fdividef(1, sum);
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
    const int column = lane + j * kWarpLanes;
    Store(out.data, out.type, at + column, values[j] * inverse);
  }
}

// Whoever comes last of those that share a row's keys for a tile merges what all have left.
template <int kHeadDim, int kAtOnce>
__device__ void MergeShared(const AttentionParameters& p, const DecodeSplit& split,
                            const Work& work) {
  __shared__ bool is_last;
  __syncthreads();
  if (threadIdx.x == 0) {
    int* const arrivals = split.arrivals + work.first_sharer;
    is_last = CountIn(arrivals) == work.sharers - 1;
    if (is_last) *arrivals = 0;  // for the next layer
  }
  __syncthreads();
  if (!is_last) return;
  for (int head = threadIdx.x / kWarpLanes; head < work.heads; head += kDecodeWarps) {
    const auto partial = [&](int i) {
      const int at = i == 0 ? work.first_partial : kPartialsPerBlock * (work.first_sharer + i);
      return split.partials + (static_cast<int64_t>(at) * kDecodeHeads + head) * (kHeadDim + 2);
    };
    MergePartials<kHeadDim, kAtOnce>(
        work.sharers, partial, p.out,
        work.row * p.out.stride + static_cast<int64_t>(work.first_head + head) * kHeadDim);
  }
}

// The heads of a turn, [q of the tile, the newest key, the newest value][kHeadDim] fp32, and the
// turns of its row, where the warps' parts come to lie at the end of it.
template <class Codes, int kHeadDim>
class TurnHeads {
 public:
  // Asks for what Begin needs.
  __device__ TurnHeads(const AttentionParameters& p, float* parts) : p_(p), values_(parts) {
    static_assert(kHeadDim / 2 <= kThreads);
    if (static_cast<int>(threadIdx.x) < p.heads.rotated_pairs) {
      frequency_ = LoadNow(p.heads.inverse_frequencies + threadIdx.x);
    }
  }

  // All of a block: before the kernel ahead has ended, and after.
  __device__ void Begin(const Work& work) {
    const int newest = (work.end - 1) / kSlotsPerBlock;
    if (work.newest) newest_block_ = LoadKept(p_.step.blocks + work.first_block + newest);
    if (static_cast<int>(threadIdx.x) >= p_.heads.rotated_pairs) return;
    Turns()[threadIdx.x] = TurnOf(static_cast<float>(work.position), frequency_);
  }
  __device__ void Make(const Work& work) const {
    constexpr int kRounds = (kDecodeHeads + 2 + kDecodeWarps - 1) / kDecodeWarps;
    const int heads = p_.shape.num_heads, all = work.heads + (work.newest ? 2 : 0);
    const int warp = threadIdx.x / kWarpLanes;
    const auto head_of = [&](int i) {
      if (i < work.heads) return work.first_head + i;
      return i > work.heads ? heads + p_.shape.num_kv_heads + work.kv_head : heads + work.kv_head;
    };
    RawHead<kHeadDim> raw[kRounds];
#pragma unroll
    for (int r = 0; r < kRounds; ++r) {
      const int i = warp + r * kDecodeWarps;
      if (i < all) raw[r].Ask(HeadSource::Of(p_.heads, head_of(i)), work.row);
    }
#pragma unroll
    for (int r = 0; r < kRounds; ++r) {
      const int i = warp + r * kDecodeWarps;
      if (i >= all) break;
      float* const to = i < work.heads ? Query(i) : i > work.heads ? Value() : Key();
      const HeadSource source = HeadSource::Of(p_.heads, head_of(i));
      raw[r].Put(source.type, to);
      FinishHead(source, kHeadDim, PairsOf(p_.heads, head_of(i)), Turns(), to);
    }
  }
  __device__ float* Query(int i) const { return values_ + i * kHeadDim; }

  // The newest key, or value, into the cache and into a warp's copy of its block.
  __device__ void StoreNewest(const Work& work, int block, bool value, uint8_t* tile) const {
    constexpr KvCode kCode = Feed<Codes, kHeadDim>::kCode;
    const float* from = value ? Value() : Key();
    const int slot = work.end - 1 - block * kSlotsPerBlock;
    const int head = value ? p_.shape.num_kv_heads + work.kv_head : work.kv_head;
    uint8_t* const cached =
        p_.cache.data + newest_block_ * p_.cache.block_bytes + HeadOffset(kCode, kHeadDim, head);
    StoreKvHead(kCode, from, kHeadDim, slot, cached);
    StoreKvHead(kCode, from, kHeadDim, slot, tile);
    // The next bulk copy comes after these stores.
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncwarp();
  }

 private:
  __device__ float* Key() const { return values_ + kDecodeHeads * kHeadDim; }
  __device__ float* Value() const { return Key() + kHeadDim; }
  __device__ float2* Turns() const { return reinterpret_cast<float2*>(Value() + kHeadDim); }
  static_assert((kDecodeHeads + 3) * kHeadDim <=
                kDecodeWarps * kDecodeHeads * DecodeLayout<Codes, kHeadDim>::kPartStride);

  const AttentionParameters& p_;
  float* const values_;
  float frequency_ = 0;       // of this thread's pair
  int64_t newest_block_ = 0;  // of the cache, with the row's newest key
};

// By the blocks of threads that have no share: those with the highest numbers, as many as there may
// be of them.
__device__ inline void BringAhead(const ReadAhead& ahead) {
  constexpr int kBlocks = 64, kPiece = 4096;
  const int block = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  if (block >= kBlocks || thread >= kWarpLanes) return;
  for (int64_t at = (block * kWarpLanes + thread) * kPiece; at + kPiece <= ahead.bytes;
       at += kBlocks * kWarpLanes * kPiece) {
    PrefetchBulkL2(ahead.data + at, kPiece);
  }
}

template <class Codes, int kHeadDim, bool kMakesHeads>
__global__ void __launch_bounds__(kThreads, (DecodeLayout<Codes, kHeadDim>::kBlocks))
    DecodeKernel(const __grid_constant__ AttentionParameters p,
                 const __grid_constant__ DecodeSplit split) {
  using Layout = DecodeLayout<Codes, kHeadDim>;
  // Partials asked for at once. Few rows have many each; of codes of 8 bits registers are short.
  constexpr int kAtOnce = !kMakesHeads || sizeof(Codes) == 1 ? 2 : kHeadDim > 128 ? 4 : 8;
  extern __shared__ __align__(128) uint8_t shared[];
  Ring<Codes, kHeadDim> ring(shared);
  if constexpr (kMakesHeads) {
    AllowKernelBehind();
    // Without a share: the first block, which has one, waits for the kernel ahead.
    if (blockIdx.x > 0 && LoadKept(&split.shares[blockIdx.x].groups) == 0) {
      BringAhead(p.ahead);
      return;
    }
  } else {
    AwaitKernelAhead();
  }
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  float* const parts = reinterpret_cast<float*>(shared + Layout::kParts);
  float* const own_parts = parts + warp * kDecodeHeads * Layout::kPartStride;
  TurnHeads<Codes, kHeadDim> heads(p, parts);
  Feed<Codes, kHeadDim> feed(p, split);
  ring.Fill(&feed);
  DecodeTile<Codes, kHeadDim> tile;
  Share share(p, split);
  bool waits = kMakesHeads;
  Work work;
  while (share.Next(&work)) {
    const int own_head = lane / 4;
    const float* query = p.query + (static_cast<int64_t>(work.row) * p.shape.num_heads +
                                    work.first_head + own_head) *
                                       kHeadDim;
    if constexpr (kMakesHeads) {
      __syncthreads();  // all have merged the turn before
      heads.Begin(work);
      if (waits) AwaitKernelAhead();
      waits = false;
      __syncthreads();
      heads.Make(work);
      __syncthreads();
      query = heads.Query(own_head);
    }
    tile.Begin(QueryScale(p.shape), own_head < work.heads ? query : nullptr);
    for (int block = work.begin / kSlotsPerBlock + warp; block * kSlotsPerBlock < work.end;
         block += kDecodeWarps) {
      const int first = block * kSlotsPerBlock;
      const VisibleSlots visible{max(0, work.begin - first), min(kSlotsPerBlock, work.end - first)};
      const bool newest = kMakesHeads && work.newest && work.end <= first + kSlotsPerBlock;
      uint8_t* const keys = ring.Await();
      if (newest) heads.StoreNewest(work, block, false, keys);
      tile.Score(keys, visible);
      ring.Release(&feed);
      uint8_t* const values = ring.Await();
      if (newest) heads.StoreNewest(work, block, true, values);
      if constexpr (sizeof(Codes) > 1) ClearSlots<Codes, kHeadDim>(values, visible.end);
      tile.AddValues(values, visible);
      ring.Release(&feed);
    }
    tile.End();
    __syncthreads();  // all have merged the turn before
    tile.ForEachValue([&](int head, int column, float value) {
      own_parts[head * Layout::kPartStride + column] = value;
    });
    if (lane < 4) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        own_parts[(2 * lane + j) * Layout::kPartStride + kHeadDim] = tile.largest[j];
        own_parts[(2 * lane + j) * Layout::kPartStride + kHeadDim + 1] = tile.sum[j];
      }
    }
    __syncthreads();
    MergeWarps<Codes, kHeadDim>(p, split, work, parts);
    if (work.partial >= 0) MergeShared<kHeadDim, kAtOnce>(p, split, work);
  }
  if (waits) AwaitKernelAhead();
}

template <class Codes, int kHeadDim>
struct DecodeRoom {
  static cudaError_t Launch(int* blocks) {
    *blocks = DecodeLayout<Codes, kHeadDim>::kBlocks;
    return cudaSuccess;
  }
};

template <class Codes, int kHeadDim>
struct DecodeLauncher {
  static cudaError_t Launch(const AttentionParameters& p, const DecodeSplit& split,
                            cudaStream_t stream) {
    using Layout = DecodeLayout<Codes, kHeadDim>;
    const auto kernel = p.heads.q.data == nullptr ? DecodeKernel<Codes, kHeadDim, false>
                                                  : DecodeKernel<Codes, kHeadDim, true>;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Layout::kBytes);
    if (error != cudaSuccess) return error;
    return LaunchAfter(kernel, dim3(split.blocks), kThreads, Layout::kBytes, stream, p, split);
  }
};

}  // namespace

int DecodeBlocksAtOnce(const HeadShape& shape, KvCode cache) {
  int blocks = 1;
  if (HasTensorKernels(shape, cache)) ForShape<DecodeRoom>(shape, cache, &blocks);
  return blocks;
}

cudaError_t LaunchDecode(const AttentionParameters& p, const DecodeSplit& split,
                         cudaStream_t stream) {
  return ForShape<DecodeLauncher>(p.shape, p.cache.code, p, split, stream);
}

}  // namespace vernier::cuda
