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
#include "kernels/cuda/heads.cuh"
#include "kernels/cuda/kv_layer.cuh"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kThreads = kDecodeWarps * kWarpLanes;
constexpr int kSharedBytes = 227 << 10;  // of a multiprocessor, for blocks of threads
constexpr int kBlockOverheadBytes = 1 << 10;

// The shared memory of a block of threads: rings of tiles, [warp][slot]; what each warp found,
// [warp][head][kPartStride] fp32: values, largest score, sum; a barrier a slot of a ring.
template <class Codes, int kHeadDim>
struct DecodeLayout {
  static constexpr int kTileBytes = KvTile<Codes, kHeadDim>::kBytes;
  static constexpr int kSlots = 2;  // keys and values of a block
  static constexpr int kWarpBytes = kSlots * kTileBytes;
  // Lanes 4g + t write values g (or the pair 2g) of head 2t: all in different banks.
  static constexpr int kPartStride = kHeadDim + 4;
  static constexpr int kParts = kDecodeWarps * kWarpBytes;
  static constexpr int kBarriers = kParts + kDecodeWarps * kDecodeHeads * kPartStride * 4;
  static constexpr int kBytes = kBarriers + kDecodeWarps * kSlots * kBarrierBytes;
  static constexpr int kFit = kSharedBytes / (kBytes + kBlockOverheadBytes);
  static constexpr int kMost = KvTile<Codes, kHeadDim>::kScaled ? 3 : 2;
  static constexpr int kBlocks = kFit < kMost ? kFit : kMost;  // of threads on a multiprocessor
};

// What a block of threads does in one turn: keys of a row for the heads of a tile.
struct Work {
  int row;          // of q and of the result
  int first_block;  // of the row's, into StepArrays::blocks
  int begin;        // keys in sight
  int end;
  bool newest;  // whether the row's last key is among them
  int kv_head;
  int first_head;
  int heads;
  // Where others have keys of the row for the tile too: what each leaves, in order.
  int partial;        // of these keys; -1: there are no others
  int first_partial;  // then the first of each block of threads from first_sharer + 1 on
  int first_sharer;
  int sharers;
};

// The turns of a block of threads.
class Share {
 public:
  __device__ Share(const AttentionParameters& p, const DecodeSplit& split)
      : p_(p),
        split_(split),
        share_(split.shares[blockIdx.x]),
        whole_share_(split.shares[0].groups) {}

  __device__ bool Next(Work* work) {
    if (share_.groups == 0) return false;
    const DecodeRow row = split_.rows[share_.row];
    const int of_row = GroupsOf(row), groups = min(share_.groups, of_row - share_.group);
    const int first_key = (row.first_group + share_.group) * kGroupKeys;
    const int oldest = p_.shape.window > 0 ? max(0, row.context - p_.shape.window) : 0;
    const int group = p_.shape.num_heads / p_.shape.num_kv_heads;
    const int group_tiles = (group + kDecodeHeads - 1) / kDecodeHeads;
    work->row = row.row;
    work->first_block = row.first_block;
    work->begin = max(first_key, oldest);
    work->end = min(first_key + groups * kGroupKeys, row.context);
    work->newest = work->end == row.context;
    work->kv_head = share_.tile / group_tiles;
    const int first_in_group = share_.tile % group_tiles * kDecodeHeads;
    work->first_head = work->kv_head * group + first_in_group;
    work->heads = min(kDecodeHeads, group - first_in_group);
    const int tiles = p_.shape.num_kv_heads * group_tiles;
    work->partial = -1;
    if (groups < of_row) {
      const int own = kPartialsPerBlock * static_cast<int>(blockIdx.x);
      work->partial = is_first_ ? own : own + 1;
      const int begin = row.line * tiles + share_.tile * of_row;
      work->first_sharer = begin / whole_share_;
      work->sharers = (begin + of_row - 1) / whole_share_ - work->first_sharer + 1;
      const bool begins = begin == work->first_sharer * whole_share_;
      work->first_partial = kPartialsPerBlock * work->first_sharer + (begins ? 0 : 1);
    }
    is_first_ = false;
    share_.groups -= groups;
    share_.group = 0;  // what is cut short ends the share
    if (++share_.tile == tiles) {
      share_.tile = 0;
      ++share_.row;
    }
    return true;
  }

 private:
  const AttentionParameters& p_;
  const DecodeSplit& split_;
  DecodeShare share_;
  int whole_share_;
  bool is_first_ = true;
};

// What a warp reads next: of every fourth block of its turns the keys, then the values.
template <class Codes, int kHeadDim>
class Feed {
 public:
  using Kv = KvTile<Codes, kHeadDim>;
  static constexpr KvCode kCode =
      Kv::kScaled ? KvCode::kInt8 : (std::is_same_v<Codes, __half> ? KvCode::kF16 : KvCode::kBF16);

  __device__ Feed(const AttentionParameters& p, const DecodeSplit& split)
      : p_(p), share_(p, split) {
    Open();
  }

  // Queues a copy of the next tile, if there is one.
  __device__ void Queue(uint32_t to, uint32_t barrier) {
    if (done_) return;
    const int32_t id = __shfl_sync(0xffffffffu, ids_, (block_ - first_) / kDecodeWarps);
    if (threadIdx.x % kWarpLanes == 0) {
      const int head = values_ ? p_.shape.num_kv_heads + work_.kv_head : work_.kv_head;
      const uint8_t* from =
          p_.cache.data + id * p_.cache.block_bytes + HeadOffset(kCode, kHeadDim, head);
      const int slots = min(kSlotsPerBlock, work_.end - block_ * kSlotsPerBlock);
      constexpr int kScales = Kv::kBytes - Kv::kCodeBytes;
      if (slots == kSlotsPerBlock) {
        ExpectBytes(barrier, Kv::kBytes);
        CopyBulkOnce(to, from, Kv::kBytes, barrier);
      } else {
        ExpectBytes(barrier, slots * Kv::kSlotBytes + kScales);
        CopyBulkOnce(to, from, slots * Kv::kSlotBytes, barrier);
        if (kScales > 0) {
          CopyBulkOnce(to + Kv::kCodeBytes, from + Kv::kCodeBytes, kScales, barrier);
        }
      }
    }
    Advance();
  }

 private:
  __device__ void Advance() {
    values_ = !values_;
    if (values_) return;
    block_ += kDecodeWarps;
    if (block_ * kSlotsPerBlock >= work_.end) {
      Open();
    } else if (block_ == first_ + kWarpLanes * kDecodeWarps) {
      LookUp();
    }
  }

  // The next turn that has a block for this warp.
  __device__ void Open() {
    do {
      done_ = !share_.Next(&work_);
      if (done_) return;
      block_ = work_.begin / kSlotsPerBlock + static_cast<int>(threadIdx.x) / kWarpLanes;
    } while (block_ * kSlotsPerBlock >= work_.end);
    LookUp();
    // q is read when the turn begins.
    const int line = static_cast<int>(threadIdx.x) % kWarpLanes * kLineValues;
    if (line < work_.heads * kHeadDim) {
      const int64_t head = static_cast<int64_t>(work_.row) * p_.shape.num_heads + work_.first_head;
      asm volatile("prefetch.global.L1 [%0];" ::"l"(p_.query + head * kHeadDim + line));
    }
  }

  __device__ void LookUp() {
    first_ = block_;
    const int own = block_ + static_cast<int>(threadIdx.x) % kWarpLanes * kDecodeWarps;
    ids_ = own * kSlotsPerBlock < work_.end ? p_.step.blocks[work_.first_block + own] : 0;
  }

  static constexpr int kLineValues = 32;  // of a line of 128 bytes

  const AttentionParameters& p_;
  Share share_;
  Work work_;
  bool done_ = false;
  bool values_ = false;
  int block_ = 0;
  int first_ = 0;  // block whose number lane 0 has; lane i has that of the i-th own one after it
  int32_t ids_ = 0;
};

// A warp's tiles in shared memory, in the order in which they were asked for.
template <class Codes, int kHeadDim>
class Ring {
 public:
  using Layout = DecodeLayout<Codes, kHeadDim>;

  // Before AwaitKernelAhead.
  __device__ explicit Ring(uint8_t* shared) {
    const int warp = threadIdx.x / kWarpLanes;
    tiles_ = shared + warp * Layout::kWarpBytes;
    barriers_ = SharedAddress(shared + Layout::kBarriers) + warp * Layout::kSlots * kBarrierBytes;
    if (threadIdx.x % kWarpLanes == 0) {
      for (int i = 0; i < Layout::kSlots; ++i) InitBarrier(barriers_ + i * kBarrierBytes, 1);
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncwarp();
  }

  __device__ void Fill(Feed<Codes, kHeadDim>* feed) {
    for (int i = 0; i < Layout::kSlots; ++i) {
      feed->Queue(SharedAddress(tiles_) + i * Layout::kTileBytes, barriers_ + i * kBarrierBytes);
    }
  }
  // The next tile, when it is there.
  __device__ uint8_t* Await() {
    AwaitPhase(barriers_ + at_ * kBarrierBytes, parity_);
    return tiles_ + at_ * Layout::kTileBytes;
  }
  // Gives its room away, once the warp has read it.
  __device__ void Release(Feed<Codes, kHeadDim>* feed) {
    __syncwarp();
    feed->Queue(SharedAddress(tiles_) + at_ * Layout::kTileBytes, barriers_ + at_ * kBarrierBytes);
    if (++at_ < Layout::kSlots) return;
    at_ = 0;
    parity_ ^= 1;
  }

 private:
  uint8_t* tiles_;
  uint32_t barriers_;
  int at_ = 0;
  int parity_ = 0;
};

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

// Merges `count` partials of one row's head, a warp, in order: partial(i) is [2 + dim]. The loads
// of several are under way at once.
template <int kHeadDim, class Partial>
__device__ void MergePartials(int count, const Partial& partial, const Matrix& out, int64_t at) {
  constexpr int kColumns = kHeadDim / kWarpLanes;
  const int lane = threadIdx.x % kWarpLanes;
  float most = -FLT_MAX;
  for (int i = lane; i < count; i += kWarpLanes) most = fmaxf(most, __ldcg(partial(i)));
  most = ReduceWarp(most, Larger());
  float sum = 0;
  float values[kColumns] = {};
  for (int first = 0; first < count; first += kWarpLanes) {
    const int own = first + lane;
    const float weight = own < count ? Exp2(__ldcg(partial(own)) - most) : 0.0f;
    sum += ReduceWarp(own < count ? __ldcg(partial(own) + 1) * weight : 0.0f, Add());
    const int here = min(kWarpLanes, count - first);
#pragma unroll 8
    for (int i = 0; i < here; ++i) {
      const float of_part = __shfl_sync(0xffffffffu, weight, i);
      const float* part = partial(first + i) + 2;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int column = lane + j * kWarpLanes;
        values[j] += __ldcg(part + column) * of_part;
      }
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
template <int kHeadDim>
__device__ void MergeShared(const AttentionParameters& p, const DecodeSplit& split,
                            const Work& work) {
  __shared__ bool is_last;
  __threadfence();  // of each thread's part of the partial
  __syncthreads();
  if (threadIdx.x == 0) {
    int* const arrivals = split.arrivals + work.first_sharer;
    is_last = atomicAdd(arrivals, 1) == work.sharers - 1;
    if (is_last) *arrivals = 0;  // for the next layer
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  for (int head = threadIdx.x / kWarpLanes; head < work.heads; head += kDecodeWarps) {
    const auto partial = [&](int i) {
      const int at = i == 0 ? work.first_partial : kPartialsPerBlock * (work.first_sharer + i);
      return split.partials + (static_cast<int64_t>(at) * kDecodeHeads + head) * (kHeadDim + 2);
    };
    MergePartials<kHeadDim>(
        work.sharers, partial, p.out,
        work.row * p.out.stride + static_cast<int64_t>(work.first_head + head) * kHeadDim);
  }
}

// The heads of a turn, [q of the tile, the newest key, the newest value][kHeadDim] fp32, and the
// turns of its row, where the warps' parts come to lie at the end of it.
template <class Codes, int kHeadDim>
class TurnHeads {
 public:
  __device__ TurnHeads(const AttentionParameters& p, float* parts) : p_(p), values_(parts) {}

  // All of a block: before the kernel ahead has ended, and after.
  __device__ void Begin(const Work& work) const {
    MakeTurns(p_.heads, static_cast<float>(p_.step.positions[work.row]), Turns());
  }
  __device__ void Make(const Work& work) const {
    const int heads = p_.shape.num_heads, all = work.heads + (work.newest ? 2 : 0);
    for (int i = threadIdx.x / kWarpLanes; i < all; i += kDecodeWarps) {
      const bool is_q = i<work.heads, is_v = i> work.heads;
      const int head = is_q   ? work.first_head + i
                       : is_v ? heads + p_.shape.num_kv_heads + work.kv_head
                              : heads + work.kv_head;
      float* const to = is_q ? Query(i) : is_v ? Value() : Key();
      MakeHead(p_.heads, work.row, head, Turns(), to);
    }
  }
  __device__ float* Query(int i) const { return values_ + i * kHeadDim; }

  // The newest key, or value, into the cache and into a warp's copy of its block.
  __device__ void StoreNewest(const Work& work, int block, bool value, uint8_t* tile) const {
    constexpr KvCode kCode = Feed<Codes, kHeadDim>::kCode;
    const float* from = value ? Value() : Key();
    const int slot = work.end - 1 - block * kSlotsPerBlock;
    const int head = value ? p_.shape.num_kv_heads + work.kv_head : work.kv_head;
    uint8_t* const cached = p_.cache.data +
                            p_.step.blocks[work.first_block + block] * p_.cache.block_bytes +
                            HeadOffset(kCode, kHeadDim, head);
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
};

template <class Codes, int kHeadDim, bool kMakesHeads>
__global__ void __launch_bounds__(kThreads, (DecodeLayout<Codes, kHeadDim>::kBlocks))
    DecodeKernel(const AttentionParameters p, const DecodeSplit split) {
  using Layout = DecodeLayout<Codes, kHeadDim>;
  extern __shared__ __align__(128) uint8_t shared[];
  Ring<Codes, kHeadDim> ring(shared);
  if constexpr (kMakesHeads) {
    AllowKernelBehind();
    // Without a share: the first block, which has one, waits for the kernel ahead.
    if (blockIdx.x > 0 && split.shares[blockIdx.x].groups == 0) return;
  } else {
    AwaitKernelAhead();
  }
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  float* const parts = reinterpret_cast<float*>(shared + Layout::kParts);
  float* const own_parts = parts + warp * kDecodeHeads * Layout::kPartStride;
  Feed<Codes, kHeadDim> feed(p, split);
  ring.Fill(&feed);
  DecodeTile<Codes, kHeadDim> tile;
  Share share(p, split);
  const TurnHeads<Codes, kHeadDim> heads(p, parts);
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
    if (work.partial >= 0) MergeShared<kHeadDim>(p, split, work);
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
