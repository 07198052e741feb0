// The warps of attention_warpgroup.cu that bring q, keys and values into shared memory.
//
// Of a cache of 16 bits one warp queues tensor copies, which count themselves in at the stage's
// barrier: heads of a block are swizzled as wgmma wants them, but for slots of 256 bytes, which are
// two panels of 128, so each copy is a panel of a block of the cache. Of an int8 cache each of four
// warps has a block of the cache of every tile: bulk copies bring its codes and scales, and the
// warp writes code times scale, rounded to fp16, to where the 16-bit ones would come.
#pragma once

#include "kernels/cuda/attention_warpgroup.cuh"

namespace vernier::cuda {

// The items of this block of threads, in turns that go forth and back: items come the longest
// first, so that all blocks get as much.
struct Items {
  const AttentionParameters& p;
  int count;
  int turn = 0;

  __device__ int index() const {
    const int blocks = gridDim.x, own = blockIdx.x;
    return turn * blocks + (turn % 2 == 0 ? own : blocks - 1 - own);
  }
  __device__ bool Next(AttentionItem* item) {
    const int i = index();
    ++turn;
    // The last turn may leave some without one.
    if (i >= count) return false;
    const int tile = i / p.shape.num_kv_heads;
    item->rows = p.step.tiles[tile];
    item->kv_head = i - tile * p.shape.num_kv_heads;
    item->end = item->rows.first_position + item->rows.num_rows;
    const int seen = p.shape.window > 0 ? item->rows.first_position - p.shape.window + 1 : 0;
    item->first_key = max(seen, 0) / kSlotsPerBlock * kSlotsPerBlock;
    item->tiles = (item->end - item->first_key + kTileKeys - 1) / kTileKeys;
    return true;
  }
};

template <int kHeadDim>
struct AttentionCopier {
  using Places = AttentionPlaces<kHeadDim>;
  using Ring = typename Places::Ring;
  static constexpr int kCopies = kTileBlocks * Places::kPanels;  // of a tile, a lane each
  static constexpr int kBlockPanelBytes = kSlotsPerBlock * kPanelRowBytes;

  const AttentionParameters& p;
  const CUtensorMap* query;
  const CUtensorMap* cache;
  uint32_t shared;
  int lane;

  // The block of the cache that this lane copies of a tile of keys; none: -1.
  __device__ int BlockOf(const AttentionItem& item, int tile) const {
    const int key = item.first_key_of(tile) + lane / Places::kPanels * kSlotsPerBlock;
    if (lane >= kCopies || key >= item.end) return -1;
    return p.step.blocks[item.rows.first_block + key / kSlotsPerBlock];
  }
  __device__ void CopyQuery(const AttentionItem& item, RingPlace<kQueryStages> at) const {
    AwaitPhase(Places::Emptied(shared, Ring::kQueries, at.stage), at.parity ^ 1);
    if (lane > 0) return;
    const int group = p.shape.num_heads / p.shape.num_kv_heads;
    const uint32_t barrier = Places::Filled(shared, Ring::kQueries, at.stage);
    ExpectBytes(barrier, Places::kPanels * kTileQueries / group * group * kPanelRowBytes);
#pragma unroll
    for (int panel = 0; panel < Places::kPanels; ++panel) {
      const int from[4] = {0, item.kv_head * group, item.rows.first_row, panel};
      CopyBox4(shared + Places::kQueries + at.stage * Places::kQueryBytes +
                   panel * Places::kQueryPanelBytes,
               query, from, barrier);
    }
  }
  // Keys, or values: heads of the cache from `head` on.
  __device__ void CopyTile(Ring ring, int head, int block, int blocks,
                           RingPlace<kKeyStages> at) const {
    AwaitPhase(Places::Emptied(shared, ring, at.stage), at.parity ^ 1);
    const uint32_t barrier = Places::Filled(shared, ring, at.stage);
    if (lane == 0) ExpectBytes(barrier, blocks * Places::kPanels * kBlockPanelBytes);
    __syncwarp();
    if (block < 0) return;
    const int panel = lane % Places::kPanels;
    const int from[5] = {0, 0, panel, head, block};
    CopyBox5(shared + (ring == Ring::kKeys ? Places::kKeys : Places::kValues) +
                 at.stage * Places::kKeyBytes + panel * Places::kKeyPanelBytes +
                 lane / Places::kPanels * kBlockPanelBytes,
             cache, from, barrier);
  }
  __device__ void Run(Items items) const {
    RingPlace<kQueryStages> query_at;
    RingPlace<kKeyStages> at;
    AttentionItem item;
#pragma unroll 1
    while (items.Next(&item)) {
      int block = BlockOf(item, 0);
      CopyQuery(item, query_at);
      query_at.Next();
      __syncwarp();
#pragma unroll 1
      for (int tile = 0; tile < item.tiles; ++tile) {
        const int next = BlockOf(item, tile + 1);
        const int blocks =
            min(kTileBlocks,
                (item.end - item.first_key_of(tile) + kSlotsPerBlock - 1) / kSlotsPerBlock);
        CopyTile(Ring::kKeys, item.kv_head, block, blocks, at);
        __syncwarp();
        CopyTile(Ring::kValues, p.shape.num_kv_heads + item.kv_head, block, blocks, at);
        __syncwarp();
        at.Next();
        block = next;
      }
    }
  }
};

// ---- An int8 cache ----

inline constexpr int kWideners = kWarpgroupThreads / kWarpLanes;  // warps
static_assert(kWideners == kTileBlocks);                          // a block of a tile each
inline constexpr int kRawStages = 2;  // of a warp: heads of blocks as they lie in the cache

// Where those lie in shared memory, behind what AttentionPlaces has.
template <int kHeadDim>
struct RawPlaces {
  static constexpr int kHeadBytes = KvTile<int8_t, kHeadDim>::kBytes;
  static constexpr int kFirst = (AttentionPlaces<kHeadDim>::kEnd + 127) / 128 * 128;
  static constexpr int kBarriers = kFirst + kWideners * kRawStages * kHeadBytes;
  static constexpr int kEnd = kBarriers + kWideners * kRawStages * kBarrierBytes;
  static_assert(kHeadBytes % 128 == 0 && kEnd <= 227 * 1024);

  static __device__ int Raw(int warp, int stage) {
    return kFirst + (warp * kRawStages + stage) * kHeadBytes;
  }
  static __device__ uint32_t Filled(uint32_t shared, int warp, int stage) {
    return shared + kBarriers + (warp * kRawStages + stage) * kBarrierBytes;
  }
};

// What a warp has to do, one head of a block after the other: the keys and then the values of each
// tile of each item.
struct WidenerCursor {
  Items items;
  AttentionItem item;
  int tile = 0;
  bool values = false;
  bool more = true;

  __device__ void Begin() { more = items.Next(&item); }
  // True where another item begins.
  __device__ bool Next() {
    values = !values;
    if (values) return false;
    if (++tile < item.tiles) return false;
    tile = 0;
    Begin();
    return more;
  }
  // The first position of a warp's block; past item.end: there is no such block.
  __device__ int first_key(int warp) const {
    return item.first_key_of(tile) + warp * kSlotsPerBlock;
  }
};

template <int kHeadDim>
struct AttentionWidener {
  using Places = AttentionPlaces<kHeadDim>;
  using RawAt = RawPlaces<kHeadDim>;
  using Ring = typename Places::Ring;
  using Kv = KvTile<int8_t, kHeadDim>;
  static constexpr int kChunks = kHeadDim / 16;  // of a slot, sixteen codes each

  const AttentionCopier<kHeadDim>& queries;
  const AttentionParameters& p;
  uint8_t* shared_bytes;
  uint32_t shared;
  int warp;
  int lane;

  // Queues the head that a cursor is at, where there is one.
  __device__ void Fetch(const WidenerCursor& at, int stage) const {
    const int first_key = at.first_key(warp);
    if (!at.more || first_key >= at.item.end || lane > 0) return;
    const int32_t block = p.step.blocks[at.item.rows.first_block + first_key / kSlotsPerBlock];
    const int head = at.item.kv_head + (at.values ? p.shape.num_kv_heads : 0);
    const uint32_t barrier = RawAt::Filled(shared, warp, stage);
    ExpectBytes(barrier, RawAt::kHeadBytes);
    CopyBulk(shared + RawAt::Raw(warp, stage),
             p.cache.data + block * p.cache.block_bytes + HeadOffset(KvCode::kInt8, kHeadDim, head),
             RawAt::kHeadBytes, barrier);
  }
  // Sixteen codes of a slot to two chunks of fp16. Half of the lanes write their second one first,
  // as the first of all would meet in the same banks.
  __device__ void Widen(const uint8_t* raw, int slot, int chunk, bool valid, uint8_t* tile) const {
    const int row = warp * kSlotsPerBlock + slot;
    const uint4 codes = *reinterpret_cast<const uint4*>(
        raw + slot * Kv::kSlotBytes + (chunk ^ Swizzle(Kv::kSlotBytes, slot)) * 16);
    const float scale = Kv::Scale(raw, slot);
    uint4 halves[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t pairs[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t word = WordOf(codes, 2 * i + j / 2) ^ 0x80808080u;
        // A byte behind 2^23 is that much more than it.
        constexpr uint32_t kExponent = 0x4b000000u;
        constexpr float kBias = 0x1p23f + 128;
        const float low = __uint_as_float(__byte_perm(word, kExponent, 0x7540 | j % 2 * 2));
        const float high = __uint_as_float(__byte_perm(word, kExponent, 0x7541 + j % 2 * 2));
        pairs[j] = PackPair<__half>((low - kBias) * scale, (high - kBias) * scale);
      }
      halves[i] = valid ? uint4{pairs[0], pairs[1], pairs[2], pairs[3]} : uint4{};
    }
    uint8_t* const to = tile + chunk / 4 * Places::kKeyPanelBytes + row * kPanelRowBytes;
    const int first = chunk / 4 % 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int which = i ^ first;
      *reinterpret_cast<uint4*>(to + ((chunk % 4 * 2 + which) ^ row % 8) * 16) =
          which == 0 ? halves[0] : halves[1];
    }
  }
  __device__ void WidenHead(const WidenerCursor& at, int raw_stage, int stage) const {
    const Ring ring = at.values ? Ring::kValues : Ring::kKeys;
    const int valid = at.item.end - at.first_key(warp);
    const uint8_t* const raw = shared_bytes + RawAt::Raw(warp, raw_stage);
    uint8_t* const tile =
        shared_bytes + (at.values ? Places::kValues : Places::kKeys) + stage * Places::kKeyBytes;
    if (valid > 0) {
#pragma unroll 1
      for (int i = lane; i < kSlotsPerBlock * kChunks; i += kWarpLanes) {
        Widen(raw, i / kChunks, i % kChunks, i / kChunks < valid, tile);
      }
    }
    FenceForCopies();
    __syncwarp();
    if (lane == 0) Arrive(Places::Filled(shared, ring, stage));
  }

  __device__ void Run(const Items& items) const {
    WidenerCursor now = {items}, ahead = {items};
    now.Begin();
    ahead.Begin();
    for (int stage = 0; stage < kRawStages; ++stage) {
      Fetch(ahead, stage);
      if (ahead.more) ahead.Next();
    }
    RingPlace<kQueryStages> query_at;
    RingPlace<kKeyStages> at;
    RingPlace<kRawStages> raw_at;
    const auto copy_query = [&] {
      if (warp == 0) queries.CopyQuery(now.item, query_at);
      __syncwarp();
      query_at.Next();
    };
    if (now.more) copy_query();
    // Each stage of a warp's has a parity of its own, as a head may not be there.
    int parities = 0;
#pragma unroll 1
    while (now.more) {
      if (now.first_key(warp) < now.item.end) {
        AwaitPhase(RawAt::Filled(shared, warp, raw_at.stage), parities >> raw_at.stage & 1);
        parities ^= 1 << raw_at.stage;
      }
      const Ring ring = now.values ? Ring::kValues : Ring::kKeys;
      AwaitPhase(Places::Emptied(shared, ring, at.stage), at.parity ^ 1);
      WidenHead(now, raw_at.stage, at.stage);
      Fetch(ahead, raw_at.stage);
      if (ahead.more) ahead.Next();
      raw_at.Next();
      if (now.values) at.Next();
      if (now.Next()) copy_query();
    }
  }
};

}  // namespace vernier::cuda
