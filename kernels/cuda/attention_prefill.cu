// Any rows, by mma.sync: runs of rows of one sequence, or single ones.
//
// A block of threads has one key-value head and a tile of rows; rows and the heads of the group
// together fill four warps of 16 tile rows. All warps share the blocks of the cache that pass
// through two stages of shared memory.
//
// Keys are cut at whole multiples of kCutKeys, and what the cuts give is merged from the first to
// the last. So a row's result depends on its sequence alone, not on the rows that it comes with,
// and a tile's cuts may be one block's work or a block's each, whatever fills the device: the bits
// are the same. Where the cuts are shared out, each leaves a partial, which MergeKernel merges.
//
// Limits: what HasTensorKernels says. Of these shapes others take what they can
// (attention_warpgroup.cu, attention_decode.cu), but where results must not depend on the batch.
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kTileRowsInAll = kWarps * kRowsPerWarp;
constexpr int kStages = 2;
constexpr int kCutBlocks = kCutKeys / kSlotsPerBlock;

// What cuts [first, first + n) of a row's head gave; of none at first.
struct Found {
  float largest = -FLT_MAX;
  float sum = 0;
};
// By what the values of `found` and of a further cut are to be multiplied; adds its sum.
__device__ float2 Merge(Found& found, float largest, float sum) {
  const float most = fmaxf(found.largest, largest);
  const float2 weights = {exp2f(__fsub_rn(found.largest, most)), exp2f(__fsub_rn(largest, most))};
  found.largest = most;
  found.sum = __fmaf_rn(sum, weights.y, __fmul_rn(found.sum, weights.x));
  return weights;
}
__device__ float MergeValue(float found, float value, float2 weights) {
  return __fmaf_rn(value, weights.y, __fmul_rn(found, weights.x));
}
__device__ float Finish(float value, const Found& found) { return __fdiv_rn(value, found.sum); }

__device__ int FirstVisible(const HeadShape& shape, int position) {
  return shape.window > 0 ? max(0, position - shape.window + 1) : 0;
}

// The cuts of a tile that a block of threads attends to, one after the other.
template <class Codes, int kHeadDim>
struct CutMerger {
  using Tile = WarpTile<Codes, kHeadDim>;
  static constexpr int kValues = 2 * Tile::kOutTiles;  // of a half

  Found found[2];
  // In memory: it is touched once a cut, and there are no registers for it.
  volatile float values[2][kValues];

  __device__ CutMerger() {
    for (int i = 0; i < 2 * kValues; ++i) values[i / kValues][i % kValues] = 0;
  }
  __device__ void Add(Tile& tile) {
    tile.End();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 weights = Merge(found[half], tile.largest[half], tile.sum[half]);
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        values[half][i] = MergeValue(values[half][i], tile.ValueAt(half, i), weights);
      }
    }
    tile.Restart();
  }
};

template <class Codes, int kHeadDim>
__global__ void __launch_bounds__(kThreads)
    PrefillKernel(const AttentionParameters p, const KeyCuts cuts) {
  using Tile = WarpTile<Codes, kHeadDim>;
  constexpr int kTileBytes = KvTile<Codes, kHeadDim>::kBytes;
  extern __shared__ __align__(128) uint8_t shared[];
  AwaitKernelAhead();
  const PrefillTile rows = p.step.tiles[blockIdx.x];
  if (rows.num_rows == 0) return;  // padding
  const int kv_head = blockIdx.y, group = p.shape.num_heads / p.shape.num_kv_heads;
  const int warp_row = threadIdx.x / kWarpLanes * kRowsPerWarp;
  // Row r of the warp is head r % group of the group, of row r / group of the run.
  const auto place = [&](int r) {
    return make_int2((warp_row + r) / group, kv_head * group + (warp_row + r) % group);
  };
  const auto head_at = [&](int2 at) {
    return (rows.first_row + static_cast<int64_t>(at.x)) * p.shape.num_heads + at.y;
  };
  const int end = rows.first_position + rows.num_rows;  // keys that any row sees
  int first_block = FirstVisible(p.shape, rows.first_position) / kSlotsPerBlock;
  int last_block = (end - 1) / kSlotsPerBlock;
  if (cuts.partials != nullptr) {
    const int cut = static_cast<int>(blockIdx.z) * kCutBlocks;
    first_block = max(first_block, cut);
    last_block = min(last_block, cut + kCutBlocks - 1);
    if (first_block > last_block) return;
  }

  Tile tile;
  tile.Begin(QueryScale(p.shape), [&](int r) -> const float* {
    const int2 at = place(r);
    return at.x < rows.num_rows ? p.query + head_at(at) * kHeadDim : nullptr;
  });
  const auto stage_keys = [&](int block) { return shared + block % kStages * 2 * kTileBytes; };
  const auto fetch = [&](int block) {
    if (block <= last_block) {
      const int32_t at = p.step.blocks[rows.first_block + block];
      const int valid = end - block * kSlotsPerBlock;
      const uint8_t* from = p.cache.data + at * p.cache.block_bytes;
      uint8_t* keys = stage_keys(block);
      CopyHead<Codes, kHeadDim>(from + HeadOffset(p.cache.code, kHeadDim, kv_head), valid,
                                threadIdx.x, kThreads, keys);
      CopyHead<Codes, kHeadDim>(
          from + HeadOffset(p.cache.code, kHeadDim, p.shape.num_kv_heads + kv_head), valid,
          threadIdx.x, kThreads, keys + kTileBytes);
    }
    CommitCopies();
  };
  const auto visible = [&](int r) {
    const int2 at = place(r);
    if (at.x >= rows.num_rows) return make_int2(0, -1);
    const int position = rows.first_position + at.x;
    return make_int2(FirstVisible(p.shape, position), position);
  };
  CutMerger<Codes, kHeadDim> merger;
  fetch(first_block);
  for (int block = first_block; block <= last_block; ++block) {
    fetch(block + 1);
    AwaitCopies<1>();
    __syncthreads();
    const uint8_t* keys = stage_keys(block);
    tile.Attend(keys, keys + kTileBytes, block * kSlotsPerBlock, visible);
    __syncthreads();
    if ((block + 1) % kCutBlocks == 0 || block == last_block) merger.Add(tile);
  }

  const int lane = threadIdx.x % kWarpLanes;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int2 at = place(lane / 4 + 8 * half);
    if (at.x >= rows.num_rows) continue;
    const Found& found = merger.found[half];
    const int64_t out = (rows.first_row + static_cast<int64_t>(at.x)) * p.out.stride +
                        static_cast<int64_t>(at.y) * kHeadDim;
    float* const partial = cuts.partials + (head_at(at) * cuts.count + blockIdx.z) * (kHeadDim + 2);
    if (cuts.partials != nullptr && lane % 4 == 0) {
      partial[0] = found.largest;
      partial[1] = found.sum;
    }
#pragma unroll
    for (int i = 0; i < CutMerger<Codes, kHeadDim>::kValues; ++i) {
      const float value = merger.values[half][i];
      const int dimension = Tile::DimensionOf(i);
      if (cuts.partials != nullptr) {
        partial[2 + dimension] = value;
      } else {
        Store(p.out.data, p.out.type, out + dimension, Finish(value, found));
      }
    }
  }
}

// A warp a head of a row.
__global__ void __launch_bounds__(kThreads)
    MergeKernel(const AttentionParameters p, const KeyCuts cuts) {
  AwaitKernelAhead();
  const PrefillTile rows = p.step.tiles[blockIdx.x];
  const int heads = p.shape.num_heads, dim = p.shape.head_dim;
  const int task = static_cast<int>(blockIdx.y * kWarps + threadIdx.x / kWarpLanes);
  const int row = task / heads, head = task % heads;
  if (row >= rows.num_rows) return;
  const int position = rows.first_position + row;
  const int first = FirstVisible(p.shape, position) / kCutKeys, last = position / kCutKeys;
  const int64_t at = rows.first_row + static_cast<int64_t>(row);
  const float* const partials = cuts.partials + (at * heads + head) * cuts.count * (dim + 2);
  for (int i = threadIdx.x % kWarpLanes; i < dim; i += kWarpLanes) {
    Found found;
    float value = 0;
    for (int cut = first; cut <= last; ++cut) {
      const float* const partial = partials + static_cast<int64_t>(cut) * (dim + 2);
      value = MergeValue(value, partial[2 + i], Merge(found, partial[0], partial[1]));
    }
    Store(p.out.data, p.out.type, at * p.out.stride + static_cast<int64_t>(head) * dim + i,
          Finish(value, found));
  }
}

template <class Codes, int kHeadDim>
struct PrefillLauncher {
  static cudaError_t Launch(const AttentionParameters& p, int tiles, const KeyCuts& cuts,
                            cudaStream_t stream) {
    constexpr int kBytes = kStages * 2 * KvTile<Codes, kHeadDim>::kBytes;
    const auto kernel = PrefillKernel<Codes, kHeadDim>;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return error;
    const dim3 grid(tiles, p.shape.num_kv_heads, cuts.partials == nullptr ? 1 : cuts.count);
    return LaunchAfter(kernel, grid, kThreads, kBytes, stream, p, cuts);
  }
};

}  // namespace

bool HasTensorKernels(const HeadShape& shape, KvCode cache) {
  const bool dim = shape.head_dim == 64 || shape.head_dim == 96 || shape.head_dim == 128 ||
                   shape.head_dim == 256;
  return dim && cache != KvCode::kF32 && shape.num_heads / shape.num_kv_heads <= kTileRowsInAll;
}

int CutTileRows(const HeadShape& shape) {
  return kTileRowsInAll / (shape.num_heads / shape.num_kv_heads);
}

int PrefillTileRows(const HeadShape& shape, KvCode cache) {
  return TakesWarpgroups(shape, cache) ? WarpgroupTileRows(shape) : CutTileRows(shape);
}

cudaError_t LaunchPrefill(const AttentionParameters& p, int tiles, cudaStream_t stream) {
  if (TakesWarpgroups(p.shape, p.cache.code)) return LaunchWarpgroups(p, tiles, stream);
  return LaunchCuts(p, {.tiles = tiles, .tile_rows = CutTileRows(p.shape)}, {}, stream);
}

cudaError_t LaunchCuts(const AttentionParameters& p, const CutRows& rows, const KeyCuts& cuts,
                       cudaStream_t stream) {
  const cudaError_t error =
      ForShape<PrefillLauncher>(p.shape, p.cache.code, p, rows.tiles, cuts, stream);
  if (error != cudaSuccess || cuts.partials == nullptr) return error;
  const int tasks = rows.tile_rows * p.shape.num_heads;
  return LaunchAfter(MergeKernel, dim3(rows.tiles, (tasks + kWarps - 1) / kWarps), kThreads, 0,
                     stream, p, cuts);
}

}  // namespace vernier::cuda
