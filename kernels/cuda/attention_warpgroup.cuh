// One warpgroup's share of a tile of attention_warpgroup.cu: 64 rows of q against the keys, a tile
// of them after the other, from shared memory.
//
// A lane has rows g and g + 8 of its warp's sixteen, of the keys and of the dimensions columns 2t,
// 2t + 1 of each 8 (lane l = 4g + t): scores become weights, which multiply the values, in place.
#pragma once

#include "kernels/cuda/kv_tile.cuh"
#include "kernels/cuda/warpgroup.cuh"

namespace vernier::cuda {

inline constexpr int kConsumers = 2;  // warpgroups
inline constexpr int kConsumerThreads = kConsumers * kWarpgroupThreads;
inline constexpr int kWarpgroupRows = 64;  // of q; wgmma's
inline constexpr int kWarpRows = kWarpgroupRows / 4;
inline constexpr int kTileQueries = kConsumers * kWarpgroupRows;  // rows of a tile
inline constexpr int kTileKeys = 128;                             // of the cache at a time
inline constexpr int kTileBlocks = kTileKeys / kSlotsPerBlock;    // of the cache
inline constexpr int kKeyStages = 2;                              // tiles in shared memory
inline constexpr int kQueryStages = 2;
inline constexpr int kPanelRowBytes = 128;  // 64 dimensions: what wgmma's swizzle spans

// Where things lie in shared memory. A tile of q, keys or values is panels of 64 dimensions, each
// [rows][64] in the swizzle of 128 bytes.
template <int kHeadDim>
struct AttentionPlaces {
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kQueryPanelBytes = kTileQueries * kPanelRowBytes;
  static constexpr int kQueryBytes = kPanels * kQueryPanelBytes;
  static constexpr int kKeyPanelBytes = kTileKeys * kPanelRowBytes;
  static constexpr int kKeyBytes = kPanels * kKeyPanelBytes;  // of values too

  static constexpr int kQueries = 0;
  static constexpr int kKeys = kQueryStages * kQueryBytes;
  static constexpr int kValues = kKeys + kKeyStages * kKeyBytes;
  static constexpr int kBarriers = kValues + kKeyStages * kKeyBytes;
  static constexpr int kEnd = kBarriers + 2 * (kQueryStages + 2 * kKeyStages) * kBarrierBytes;

  enum class Ring : uint8_t { kQueries, kKeys, kValues };
  // The barriers of a stage: its bytes are there; both warpgroups have read them.
  static __device__ uint32_t Filled(uint32_t shared, Ring ring, int stage) {
    return shared + kBarriers + (static_cast<int>(ring) * kKeyStages + stage) * 2 * kBarrierBytes;
  }
  static __device__ uint32_t Emptied(uint32_t shared, Ring ring, int stage) {
    return Filled(shared, ring, stage) + kBarrierBytes;
  }
};
static_assert(kQueryStages == kKeyStages);  // of Filled

// A place in a ring of stages.
template <int kStages>
struct RingPlace {
  int stage = 0;
  int parity = 0;

  __device__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// What a block of threads attends at a time: a tile of rows, by the heads of one key-value head.
struct AttentionItem {
  PrefillTile rows;
  int kv_head;
  int first_key;  // of the tiles of keys: a block's first
  int end;        // past the last key that any row sees
  int tiles;      // of keys

  __device__ int first_key_of(int tile) const { return first_key + tile * kTileKeys; }
};

template <class Scalar, int kHeadDim>
struct AttentionConsumer {
  using Places = AttentionPlaces<kHeadDim>;
  using Ring = typename Places::Ring;
  static constexpr int kKeyGroups = kTileKeys / 8;
  // Scores are compared with what lags behind the largest, by as much in base 2 at most: weights
  // and sums keep their precision, and what there is seldom has to be rescaled.
  static constexpr float kLag = 8;

  uint32_t shared;
  int warpgroup;
  int lane;
  float scores[kTileKeys / 2];
  float out[kHeadDim / 2];
  uint32_t weights[kTileKeys / 16][4];
  float reference[2], sum[2];  // of rows g and g + 8; sums of this lane's columns
  int first[2], last[2];       // positions that they see
  bool rescaled;               // since the last values
  float rescale[2];

  // Queues scores = q k.
  __device__ void MultiplyKeys(int query_stage, int stage) {
    using Product = WarpgroupSharedProduct<Scalar, kTileKeys>;
    const uint32_t q = shared + Places::kQueries + query_stage * Places::kQueryBytes +
                       warpgroup * kWarpgroupRows * kPanelRowBytes;
    const uint32_t k = shared + Places::kKeys + stage * Places::kKeyBytes;
    HoldRegisters(scores);
    WarpgroupFence();
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      const int panel = step / 4, in_panel = step % 4 * kDescriptorStep;
      Product::Add(scores, TileDescriptor(q + panel * Places::kQueryPanelBytes) + in_panel,
                   TileDescriptor(k + panel * Places::kKeyPanelBytes) + in_panel, step > 0);
    }
    WarpgroupCommit();
  }

  // Queues out += weights v, or out = weights v.
  __device__ void MultiplyValues(int stage, bool add) {
    using Product = WarpgroupTransposedProduct<Scalar, kHeadDim>;
    const uint64_t v = TransposedDescriptor(shared + Places::kValues + stage * Places::kKeyBytes,
                                            Places::kKeyPanelBytes);
    HoldRegisters(out);
    WarpgroupFence();
#pragma unroll
    for (int step = 0; step < kTileKeys / 16; ++step) {
      Product::Add(out, weights[step], v + step * kTransposedStep, step > 0 || add);
    }
    WarpgroupCommit();
  }

  // Takes out what a row does not see of the keys from `first_key`.
  __device__ void Mask(int first_key) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int own = first_key + lane % 4 * 2;
      const int from = first[half] - own, to = last[half] - own;
#pragma unroll
      for (int i = 0; i < kKeyGroups; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[4 * i + 2 * half + j];
          if (8 * i + j < from || 8 * i + j > to) score = -INFINITY;
        }
      }
    }
  }

  // Turns scores into weights, still fp32. A row that sees none of the keys has weights of 0.
  __device__ void Soften() {
    bool moved = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = -INFINITY;
#pragma unroll
      for (int i = 0; i < kKeyGroups; ++i) {
        most = fmaxf(most, fmaxf(scores[4 * i + 2 * half], scores[4 * i + 2 * half + 1]));
      }
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      const float before = reference[half];
      const bool moves = most > before + kLag;
      reference[half] = moves ? most : before;
      moved |= moves;
      rescale[half] = moves ? Exp2(before - most) : 1;
      const float base = reference[half] == -INFINITY ? 0 : reference[half];
      float added = 0;
#pragma unroll
      for (int i = 0; i < kKeyGroups; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[4 * i + 2 * half + j];
          score = Exp2(score - base);
          added += score;
        }
      }
      sum[half] = sum[half] * rescale[half] + added;
    }
    rescaled = __any_sync(~0u, moved);
  }

  __device__ void RoundWeights() {
#pragma unroll
    for (int step = 0; step < kTileKeys / 16; ++step) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        weights[step][r] = PackPair<Scalar>(scores[8 * step + 2 * r], scores[8 * step + 2 * r + 1]);
      }
    }
  }

  __device__ void RescaleOut() {
    if (!rescaled) return;
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) out[i] *= rescale[i / 2 % 2];
  }

  // Says that a warp has read a stage.
  __device__ void Leave(Ring ring, int stage) const {
    __syncwarp();
    if (lane == 0) Arrive(Places::Emptied(shared, ring, stage));
  }
  __device__ void Await(Ring ring, int stage, int parity) const {
    AwaitPhase(Places::Filled(shared, ring, stage), parity);
  }
};

}  // namespace vernier::cuda
