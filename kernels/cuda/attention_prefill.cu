// Runs of rows of one sequence. A block of threads has one key-value head and a tile of rows; rows
// and the heads of the group together fill four warps of 16 tile rows. All warps share the blocks
// of the cache that pass through two stages of shared memory. Limits: what HasTensorKernels says;
// of these shapes attention_warpgroup.cu takes what it can.
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kTileRowsInAll = kWarps * kRowsPerWarp;
constexpr int kStages = 2;

template <class Codes, int kHeadDim>
__global__ void __launch_bounds__(kThreads) PrefillKernel(const AttentionParameters p) {
  using Tile = WarpTile<Codes, kHeadDim>;
  constexpr int kTileBytes = KvTile<Codes, kHeadDim>::kBytes;
  extern __shared__ __align__(128) uint8_t shared[];
  AwaitKernelAhead();
  const PrefillTile rows = p.step.tiles[blockIdx.x];
  const int kv_head = blockIdx.y, group = p.shape.num_heads / p.shape.num_kv_heads;
  const int warp_row = threadIdx.x / kWarpLanes * kRowsPerWarp;
  // Row r of the warp is head r % group of the group, of row r / group of the run.
  const auto place = [&](int r) {
    return make_int2((warp_row + r) / group, kv_head * group + (warp_row + r) % group);
  };
  const auto first_visible = [&](int position) {
    return p.shape.window > 0 ? max(0, position - p.shape.window + 1) : 0;
  };
  const auto value_at = [&](int2 at) {
    return ((rows.first_row + static_cast<int64_t>(at.x)) * p.shape.num_heads + at.y) * kHeadDim;
  };

  Tile tile;
  tile.Begin(QueryScale(p.shape), [&](int r) -> const float* {
    const int2 at = place(r);
    return at.x < rows.num_rows ? p.query + value_at(at) : nullptr;
  });
  const int end = rows.first_position + rows.num_rows;  // keys that any row sees
  const int first_block = first_visible(rows.first_position) / kSlotsPerBlock;
  const int last_block = (end - 1) / kSlotsPerBlock;
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
    return make_int2(first_visible(position), position);
  };
  fetch(first_block);
  for (int block = first_block; block <= last_block; ++block) {
    fetch(block + 1);
    AwaitCopies<1>();
    __syncthreads();
    const uint8_t* keys = stage_keys(block);
    tile.Attend(keys, keys + kTileBytes, block * kSlotsPerBlock, visible);
    __syncthreads();
  }
  tile.End();

  const int g = threadIdx.x % kWarpLanes / 4;
  const int2 at[2] = {place(g), place(g + 8)};
  const float inverse[2] = {1 / tile.sum[0], 1 / tile.sum[1]};
  tile.ForEachValue([&](int half, int dimension, float value) {
    if (at[half].x >= rows.num_rows) return;
    const int64_t out = (rows.first_row + static_cast<int64_t>(at[half].x)) * p.out.stride +
                        static_cast<int64_t>(at[half].y) * kHeadDim;
    Store(p.out.data, p.out.type, out + dimension, value * inverse[half]);
  });
}

template <class Codes, int kHeadDim>
struct PrefillLauncher {
  static cudaError_t Launch(const AttentionParameters& p, int tiles, cudaStream_t stream) {
    constexpr int kBytes = kStages * 2 * KvTile<Codes, kHeadDim>::kBytes;
    const auto kernel = PrefillKernel<Codes, kHeadDim>;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return error;
    return LaunchAfter(kernel, dim3(tiles, p.shape.num_kv_heads), kThreads, kBytes, stream, p);
  }
};

}  // namespace

bool HasTensorKernels(const HeadShape& shape, KvCode cache) {
  const bool dim = shape.head_dim == 64 || shape.head_dim == 96 || shape.head_dim == 128 ||
                   shape.head_dim == 256;
  return dim && cache != KvCode::kF32 && shape.num_heads / shape.num_kv_heads <= kTileRowsInAll;
}

int PrefillTileRows(const HeadShape& shape, KvCode cache) {
  if (TakesWarpgroups(shape, cache)) return WarpgroupTileRows(shape);
  return kTileRowsInAll / (shape.num_heads / shape.num_kv_heads);
}

cudaError_t LaunchPrefill(const AttentionParameters& p, int tiles, cudaStream_t stream) {
  if (TakesWarpgroups(p.shape, p.cache.code)) return LaunchWarpgroups(p, tiles, stream);
  return ForShape<PrefillLauncher>(p.shape, p.cache.code, p, tiles, stream);
}

}  // namespace vernier::cuda
