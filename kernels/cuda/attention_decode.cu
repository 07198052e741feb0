// Rows with one new token. A block of threads has one key-value head and one split of one row's
// keys; the heads of the group are the rows of its tensor-core tiles. Each of four warps takes
// every fourth block of the cache, all of a warp's bytes under way at once; their results are
// merged in order, then those of the splits by a second kernel.
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kThreads = kDecodeWarps * kWarpLanes;

template <class Scalar, int kHeadDim>
struct DecodeLayout {
  using Tile = WarpTile<Scalar, kHeadDim>;
  static constexpr int kWarpBytes = 2 * Tile::kBlockValues * 2;  // keys and values
  static constexpr int kPartStride = kHeadDim + 2;
  // Afterwards the same memory holds what each warp found: [warp][16][kPartStride] fp32.
  static constexpr int kPartBytes = kRowsPerWarp * kPartStride * 4;
  static constexpr int kBytes = kDecodeWarps * (kWarpBytes > kPartBytes ? kWarpBytes : kPartBytes);
};

// Merges what `parts` runs found of one row, a warp, in order; load(i, j) is value j of part i, [2
// + head_dim]. The loads of several parts are under way at once. write(column, value, largest,
// sum).
template <class LoadPart, class Write>
__device__ void Merge(int parts, int head_dim, const LoadPart& load, const Write& write) {
  constexpr int kColumns = kMostHeadDim / kWarpLanes;
  const int lane = threadIdx.x % kWarpLanes;
  float most = -FLT_MAX;
  for (int i = lane; i < parts; i += kWarpLanes) most = fmaxf(most, load(i, 0));
  most = ReduceWarp(most, Larger());
  float sum = 0;
  float values[kColumns] = {};
  for (int first = 0; first < parts; first += kWarpLanes) {
    const int own = first + lane;
    const float weight = own < parts ? exp2f(load(own, 0) - most) : 0.0f;
    sum += ReduceWarp(own < parts ? load(own, 1) * weight : 0.0f, Add());
    const int count = min(kWarpLanes, parts - first);
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      const float of_part = __shfl_sync(0xffffffffu, weight, i);
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int column = lane + j * kWarpLanes;
        if (column < head_dim) values[j] += load(first + i, 2 + column) * of_part;
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
    const int column = lane + j * kWarpLanes;
    if (column < head_dim) write(column, values[j], most, sum);
  }
}

template <class Scalar, int kHeadDim>
__global__ void __launch_bounds__(kThreads)
    DecodeKernel(const AttentionParameters p, const DecodeSplit split) {
  using Layout = DecodeLayout<Scalar, kHeadDim>;
  using Tile = typename Layout::Tile;
  extern __shared__ __align__(16) uint8_t shared[];
  AwaitKernelAhead();
  const DecodeRow row = p.step.decode[blockIdx.z];
  // Past the row's keys: what would be left there is not read.
  if (static_cast<int>(blockIdx.x) * split.keys >= row.context) return;
  const int group = p.shape.num_heads / p.shape.num_kv_heads;
  const int tiles = (group + kRowsPerWarp - 1) / kRowsPerWarp;
  const int kv_head = blockIdx.y / tiles, first_in_group = blockIdx.y % tiles * kRowsPerWarp;
  const int heads = min(kRowsPerWarp, group - first_in_group);
  const int first_head = kv_head * group + first_in_group;
  const int oldest = p.shape.window > 0 ? max(0, row.context - p.shape.window) : 0;
  const int begin = max(static_cast<int>(blockIdx.x) * split.keys, oldest);
  const int end = min((static_cast<int>(blockIdx.x) + 1) * split.keys, row.context);
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;

  auto* const keys = reinterpret_cast<Scalar*>(shared + warp * Layout::kWarpBytes);
  auto* const values = keys + Tile::kBlockValues;
  const auto fetch = [&](int block) {
    const int32_t at = p.step.blocks[row.first_block + block];
    const int valid = end - block * kSlotsPerBlock;
    CopyHead<Scalar, kHeadDim>(HeadOfBlock<Scalar>(p, at, false, kv_head), valid, lane, kWarpLanes,
                               keys);
    CommitCopies();
    CopyHead<Scalar, kHeadDim>(HeadOfBlock<Scalar>(p, at, true, kv_head), valid, lane, kWarpLanes,
                               values);
    CommitCopies();
  };
  Tile tile;
  tile.Begin(p.shape.scale * kLog2E, [&](int r) -> const float* {
    if (r >= heads || begin >= end) return nullptr;
    return p.query +
           (static_cast<int64_t>(row.row) * p.shape.num_heads + first_head + r) * kHeadDim;
  });
  for (int block = begin / kSlotsPerBlock + warp; block * kSlotsPerBlock < end;
       block += kDecodeWarps) {
    fetch(block);
    AwaitCopies<1>();
    __syncwarp();
    tile.Attend(
        keys, values, block * kSlotsPerBlock, [&](int) { return make_int2(begin, end - 1); },
        [] {
          AwaitCopies<0>();
          __syncwarp();
        });
    __syncwarp();
  }
  tile.End();
  __syncthreads();  // all have read their keys and values

  float* const parts = reinterpret_cast<float*>(shared);
  const auto part_of = [&](int w, int r) {
    return parts + (w * kRowsPerWarp + r) * Layout::kPartStride;
  };
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float* part = part_of(warp, g + 8 * half);
    if (t == 0) {
      part[0] = tile.largest[half];
      part[1] = tile.sum[half];
    }
#pragma unroll
    for (int i = 0; i < Tile::kOutTiles; ++i) {
      part[2 + i * 8 + 2 * t] = tile.out[i][2 * half];
      part[2 + i * 8 + 2 * t + 1] = tile.out[i][2 * half + 1];
    }
  }
  __syncthreads();
  const auto partial_of = [&](int i, int r) {
    const int64_t at = static_cast<int64_t>(blockIdx.z) * split.splits + i;
    return split.partials + (at * p.shape.num_heads + first_head + r) * Layout::kPartStride;
  };
  for (int r = warp; r < heads; r += kDecodeWarps) {
    float* out = partial_of(blockIdx.x, r);
    Merge(
        kDecodeWarps, kHeadDim, [&](int w, int j) { return part_of(w, r)[j]; },
        [&](int column, float value, float most, float sum) {
          out[2 + column] = value;
          if (column == 0) {
            out[0] = most;
            out[1] = sum;
          }
        });
  }
}

// A warp a head of a row.
__global__ void __launch_bounds__(kThreads)
    MergeKernel(const AttentionParameters p, const DecodeSplit split) {
  AwaitKernelAhead();
  const int head = blockIdx.x * kDecodeWarps + threadIdx.x / kWarpLanes;
  const DecodeRow row = p.step.decode[blockIdx.z];
  if (head >= p.shape.num_heads || row.context == 0) return;
  const int dim = p.shape.head_dim;
  const int64_t stride = static_cast<int64_t>(p.shape.num_heads) * (dim + 2);
  const float* parts = split.partials + static_cast<int64_t>(blockIdx.z) * split.splits * stride +
                       static_cast<int64_t>(head) * (dim + 2);
  const int used = (row.context + split.keys - 1) / split.keys;
  Merge(
      used, dim, [&](int i, int j) { return parts[i * stride + j]; },
      [&](int column, float value, float, float sum) {
        Store(p.out.data, p.out.type,
              row.row * p.out.stride + static_cast<int64_t>(head) * dim + column, value / sum);
      });
}

template <class Scalar, int kHeadDim>
struct DecodeLauncher {
  static cudaError_t Launch(const AttentionParameters& p, const DecodeSplit& split, int rows,
                            cudaStream_t stream) {
    constexpr int kBytes = DecodeLayout<Scalar, kHeadDim>::kBytes;
    const auto kernel = DecodeKernel<Scalar, kHeadDim>;
    cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return error;
    const int group = p.shape.num_heads / p.shape.num_kv_heads;
    const int tiles = (group + kRowsPerWarp - 1) / kRowsPerWarp;
    const dim3 grid(split.splits, p.shape.num_kv_heads * tiles, rows);
    return LaunchAfter(kernel, grid, kThreads, kBytes, stream, p, split);
  }
};

}  // namespace

cudaError_t LaunchDecode(const AttentionParameters& p, const DecodeSplit& split, int decode_rows,
                         cudaStream_t stream) {
  const cudaError_t error =
      ForShape<DecodeLauncher>(p.shape, p.cache.type, p, split, decode_rows, stream);
  if (error != cudaSuccess) return error;
  const dim3 grid((p.shape.num_heads + kDecodeWarps - 1) / kDecodeWarps, 1, decode_rows);
  return LaunchAfter(MergeKernel, grid, kThreads, 0, stream, p, split);
}

}  // namespace vernier::cuda
