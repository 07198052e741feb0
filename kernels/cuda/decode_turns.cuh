// Which keys a block of threads of decode attends to, one turn after the other, and how they come
// into its shared memory.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/kv_layer.cuh"
#include "kernels/cuda/kv_tile.cuh"

namespace vernier::cuda {

inline constexpr int kSharedBytes = 227 << 10;  // of a multiprocessor, for blocks of threads
inline constexpr int kBlockOverheadBytes = 1 << 10;

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
  int position;  // of the row
  bool newest;   // whether its key is among them
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
      : p_(p), split_(split), whole_share_(LoadKept(&split.shares[0].groups)) {
    static_assert(sizeof(DecodeShare) == sizeof(int4));
    const int4 v = LoadKept(reinterpret_cast<const int4*>(split.shares + blockIdx.x));
    share_ = {v.x, v.y, v.z, v.w};
  }

  __device__ bool Next(Work* work) {
    if (share_.groups == 0) return false;
    const DecodeRow row = RowOf(share_.row);
    const int of_row = GroupsOf(row), groups = min(share_.groups, of_row - share_.group);
    const int first_key = (row.first_group + share_.group) * kGroupKeys;
    const int oldest = p_.shape.window > 0 ? max(0, row.context - p_.shape.window) : 0;
    const int group = p_.shape.num_heads / p_.shape.num_kv_heads;
    const int group_tiles = (group + kDecodeHeads - 1) / kDecodeHeads;
    work->row = row.row;
    work->first_block = row.first_block;
    work->begin = max(first_key, oldest);
    work->end = min(first_key + groups * kGroupKeys, row.context);
    work->position = row.context - 1;
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
  __device__ DecodeRow RowOf(int row) const {
    static_assert(sizeof(DecodeRow) == 2 * sizeof(int4));
    const auto* const from = reinterpret_cast<const int4*>(split_.rows + row);
    const int4 v = LoadKept(from);
    return {v.x, v.y, v.z, v.w, LoadKept(&split_.rows[row].line)};
  }

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
    ids_ =
        own * kSlotsPerBlock < work_.end ? LoadKept(p_.step.blocks + work_.first_block + own) : 0;
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

}  // namespace vernier::cuda
