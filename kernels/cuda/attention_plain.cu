// Attention of any shape in fp32: a block of threads a head of a row. Each of four warps takes
// every fourth key, its lanes share the dimensions; the warps' results are merged in order. For
// caches of fp32 and head sizes that fill no tensor-core tile; right, not fast.
#include <cfloat>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/kv_layer.cuh"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kDimsPerLane = kMostHeadDim / kWarpLanes;

struct Keys {
  int64_t row;
  int32_t first_block;
  int position;  // of the row; it sees keys up to its own
};

__device__ void AttendHead(const AttentionParameters& p, const Keys& keys, int head) {
  __shared__ float parts[kWarps][kMostHeadDim + 2];
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  const int dim = p.shape.head_dim;
  const int kv_head = head / (p.shape.num_heads / p.shape.num_kv_heads);
  const int64_t row_head = keys.row * p.shape.num_heads + head;
  const float* query = p.query + row_head * dim;
  const int first = p.shape.window > 0 ? max(0, keys.position - p.shape.window + 1) : 0;
  const KvCode code = p.cache.code;
  const int64_t key_offset = HeadOffset(code, dim, kv_head);
  const int64_t value_offset = HeadOffset(code, dim, p.shape.num_kv_heads + kv_head);
  float out[kDimsPerLane] = {};
  float largest = -FLT_MAX, sum = 0;
  for (int key = first + warp; key <= keys.position; key += kWarps) {
    const int32_t block = p.step.blocks[keys.first_block + key / kSlotsPerBlock];
    const uint8_t* data = p.cache.data + block * p.cache.block_bytes;
    const uint8_t* of_keys = data + key_offset;
    const uint8_t* of_values = data + value_offset;
    const int slot = key % kSlotsPerBlock;
    float dot = 0;
    for (int i = lane; i < dim; i += kWarpLanes) {
      dot += query[i] * LoadKv(code, of_keys, dim, slot, i);
    }
    const float score =
        ReduceWarp(dot, Add()) * p.shape.scale * KvScaleAt(code, of_keys, dim, slot);
    const float most = fmaxf(largest, score);
    const float rescale = expf(largest - most), weight = expf(score - most);
    largest = most;
    sum = sum * rescale + weight;
    const float of_code = weight * KvScaleAt(code, of_values, dim, slot);
#pragma unroll
    for (int j = 0; j < kDimsPerLane; ++j) {
      const int i = lane + j * kWarpLanes;
      if (i < dim) out[j] = out[j] * rescale + of_code * LoadKv(code, of_values, dim, slot, i);
    }
  }
  parts[warp][0] = largest;
  parts[warp][1] = sum;
  for (int j = 0; j < kDimsPerLane; ++j) {
    if (lane + j * kWarpLanes < dim) parts[warp][2 + lane + j * kWarpLanes] = out[j];
  }
  __syncthreads();
  float most = -FLT_MAX, total = 0;
  for (int w = 0; w < kWarps; ++w) most = fmaxf(most, parts[w][0]);
  for (int w = 0; w < kWarps; ++w) total += parts[w][1] * expf(parts[w][0] - most);
  for (int i = threadIdx.x; i < dim; i += kThreads) {
    float value = 0;
    for (int w = 0; w < kWarps; ++w) value += parts[w][2 + i] * expf(parts[w][0] - most);
    Store(p.out.data, p.out.type, keys.row * p.out.stride + static_cast<int64_t>(head) * dim + i,
          value / total);
  }
}

__global__ void __launch_bounds__(kThreads)
    PlainDecodeKernel(const AttentionParameters p, const DecodeRow* const rows) {
  AwaitKernelAhead();
  const DecodeRow row = rows[blockIdx.x];
  if (row.context == 0) return;
  AttendHead(p, {row.row, row.first_block, row.context - 1}, blockIdx.y);
}

__global__ void __launch_bounds__(kThreads) PlainPrefillKernel(const AttentionParameters p) {
  AwaitKernelAhead();
  const PrefillTile tile = p.step.tiles[blockIdx.x];
  const int in_tile = blockIdx.z;
  if (in_tile >= tile.num_rows) return;
  AttendHead(p, {tile.first_row + in_tile, tile.first_block, tile.first_position + in_tile},
             blockIdx.y);
}

}  // namespace

cudaError_t LaunchAttentionPlain(const AttentionParameters& p, const PlainRows& rows,
                                 cudaStream_t stream) {
  const auto heads = static_cast<unsigned>(p.shape.num_heads);
  if (rows.decode_rows > 0) {
    const cudaError_t error = LaunchAfter(PlainDecodeKernel, dim3(rows.decode_rows, heads),
                                          kThreads, 0, stream, p, rows.decode);
    if (error != cudaSuccess) return error;
  }
  if (rows.tiles == 0) return cudaSuccess;
  return LaunchAfter(PlainPrefillKernel, dim3(rows.tiles, heads, rows.tile_rows), kThreads, 0,
                     stream, p);
}

}  // namespace vernier::cuda
