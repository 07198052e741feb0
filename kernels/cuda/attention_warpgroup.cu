// Runs of rows of one sequence on the tensor cores of warpgroups (wgmma): heads of 64 and 128
// dimensions.
//
// clang-format off
//               128 keys  128 keys  ..        A block of threads has a tile of rows and one key-value
//              +---------+---------+--        head: row r of 128 is head r mod group of the group, of
// warpgroup 0  | 64 rows |         |          row r / group of the run. A third warpgroup brings q,
//              +---------+---------+--        keys and values into rings of shared memory, those of
// warpgroup 1  | 64 rows |         |          the tiles after this one too. Blocks of threads stay and
//              +---------+---------+--        take items in turns, the longest first.
// clang-format on
//
// A warpgroup queues q k of a tile of keys, then the values of the tile before, and makes weights
// of the scores while those run; the two take turns at queueing, so that one's weights are made
// while the other's products run. Values of slots that nobody has written are zeroed, since a
// weight of 0 times what is no number is none.
//
// Limits: what TakesWarpgroups says; other shapes go to attention_prefill.cu. Of an int8 cache,
// keys and values beyond 65504 are infinite.
#include <cuda.h>

#include <algorithm>

#include "kernels/cuda/attention_copies.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor_map.h"

namespace vernier::cuda {
namespace {

constexpr int kThreads = kConsumerThreads + kWarpgroupThreads;
// Registers a thread, of what the block was launched with.
template <class Codes>
constexpr int kCopyRegisters = sizeof(Codes) == 1 ? 56 : 24;
template <class Codes>
constexpr int kMultiplyRegisters = sizeof(Codes) == 1 ? 224 : 240;
constexpr int kWarps = kConsumerThreads / kWarpLanes;  // that say that a stage is read

// Named barriers: 0 has all; then a turn of each warpgroup, the threads of each, both together.
constexpr int kTurnBarrier = 1, kGroupBarrier = 3, kBothBarrier = 5;
__device__ void SyncNamed(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ void ArriveNamed(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// ---- The warpgroups that multiply ----

template <class Scalar, int kHeadDim>
struct Attender {
  using Consumer = AttentionConsumer<Scalar, kHeadDim>;
  using Places = AttentionPlaces<kHeadDim>;
  using Ring = typename Places::Ring;

  const AttentionParameters& p;
  uint8_t* shared_bytes;
  Consumer own;
  AttentionItem item;
  int group;
  RingPlace<kQueryStages> query_at;
  RingPlace<kKeyStages> key_at, value_at;

  __device__ int warp_row() const {
    return own.warpgroup * kWarpgroupRows + threadIdx.x / kWarpLanes % 4 * kWarpRows;
  }

  __device__ void Begin() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = (warp_row() + own.lane / 4 + 8 * half) / group;
      own.last[half] = min(item.rows.first_position + row, item.end - 1);
      own.first[half] = p.shape.window > 0 ? own.last[half] - p.shape.window + 1 : 0;
      own.reference[half] = -INFINITY;
      own.sum[half] = 0;
    }
    own.rescaled = false;
  }

  // Whether all rows of the warp see all keys of a tile.
  __device__ bool SeesAll(int tile) const {
    const int first_key = item.first_key_of(tile), first_row = warp_row() / group;
    const int last_row = (warp_row() + kWarpRows - 1) / group;
    if (first_key + kTileKeys - 1 > item.rows.first_position + first_row) return false;
    if (first_key + kTileKeys > item.end) return false;
    return p.shape.window == 0 || first_key > item.rows.first_position + last_row - p.shape.window;
  }

  __device__ void SoftenTile(int tile) {
    if (!SeesAll(tile)) own.Mask(item.first_key_of(tile));
    own.Soften();
  }

  // Zeroes what lies past the last slot that was written, of the last tile.
  __device__ void AwaitValues(int tile) {
    own.Await(Ring::kValues, value_at.stage, value_at.parity);
    const int valid = item.end - item.first_key_of(tile);
    if (valid >= kTileKeys) return;
    uint8_t* const values = shared_bytes + Places::kValues + value_at.stage * Places::kKeyBytes;
    const int chunks = (kTileKeys - valid) * kPanelRowBytes / 16;  // of a panel
    for (int i = threadIdx.x; i < chunks * Places::kPanels; i += kConsumerThreads) {
      const int panel = i / chunks;
      *reinterpret_cast<uint4*>(values + panel * Places::kKeyPanelBytes + valid * kPanelRowBytes +
                                (i - panel * chunks) * 16) = uint4{};
    }
    FenceForCopies();
    SyncNamed(kBothBarrier, kConsumerThreads);
  }
  __device__ void LeaveValues() {
    own.Leave(Ring::kValues, value_at.stage);
    value_at.Next();
  }
  __device__ void LeaveKeys() {
    own.Leave(Ring::kKeys, key_at.stage);
    key_at.Next();
  }

  __device__ void Attend() {
    own.Await(Ring::kQueries, query_at.stage, query_at.parity);
    own.Await(Ring::kKeys, key_at.stage, key_at.parity);
    own.MultiplyKeys(query_at.stage, key_at.stage);
    WarpgroupWait<0>();
    HoldRegisters(own.scores);
    LeaveKeys();
    SoftenTile(0);
    own.RoundWeights();
#pragma unroll 1
    for (int tile = 1; tile < item.tiles; ++tile) {
      own.Await(Ring::kKeys, key_at.stage, key_at.parity);
      SyncNamed(kTurnBarrier + own.warpgroup, kConsumerThreads);
      own.MultiplyKeys(query_at.stage, key_at.stage);
      own.Await(Ring::kValues, value_at.stage, value_at.parity);
      own.MultiplyValues(value_at.stage, tile > 1);
      ArriveNamed(kTurnBarrier + 1 - own.warpgroup, kConsumerThreads);
      WarpgroupWait<1>();
      HoldRegisters(own.scores);
      LeaveKeys();
      SoftenTile(tile);
      WarpgroupWait<0>();
      HoldRegisters(own.out);
      LeaveValues();
      own.RescaleOut();
      own.RoundWeights();
    }
    AwaitValues(item.tiles - 1);
    own.MultiplyValues(value_at.stage, item.tiles > 1);
    WarpgroupWait<0>();
    HoldRegisters(own.out);
    LeaveValues();
  }

  __device__ void Normalize() {
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = own.sum[half];
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      inverse[half] = 1 / sum;
    }
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) own.out[i] *= inverse[i / 2 % 2];
  }

  // Of the matrix of results: where row r of the tile begins; beyond the tile's rows: -1.
  __device__ int64_t PlaceOf(int r) const {
    const int row = r / group;
    if (row >= item.rows.num_rows) return -1;
    return (item.rows.first_row + static_cast<int64_t>(row)) * p.out.stride +
           static_cast<int64_t>(item.kv_head * group + r - row * group) * kHeadDim;
  }

  // Through the warpgroup's rows of q, which it has read, so that whole rows leave.
  template <class Out>
  __device__ void WriteRounded() {
    constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, a row
    uint8_t* const rows = shared_bytes + Places::kQueries + query_at.stage * Places::kQueryBytes;
    const auto place = [&](int r, int chunk) {
      return rows + chunk / 8 * Places::kQueryPanelBytes + r * kPanelRowBytes +
             (chunk % 8 ^ r % 8) * 16;
    };
    const int own_row = warp_row() + own.lane % 16;
#pragma unroll
    for (int pair = 0; pair < kChunks / 2; ++pair) {
      const float* const d = own.out + 8 * pair;
      const uint32_t matrices[4] = {PackPair<Out>(d[0], d[1]), PackPair<Out>(d[2], d[3]),
                                    PackPair<Out>(d[4], d[5]), PackPair<Out>(d[6], d[7])};
      StoreMatrix4(SharedAddress(place(own_row, 2 * pair + own.lane / 16)), matrices);
    }
    SyncNamed(kGroupBarrier + own.warpgroup, kWarpgroupThreads);
    const int thread = threadIdx.x % kWarpgroupThreads;
#pragma unroll
    for (int i = 0; i < kWarpgroupRows * kChunks / kWarpgroupThreads; ++i) {
      const int r =
          own.warpgroup * kWarpgroupRows + i * (kWarpgroupThreads / kChunks) + thread / kChunks;
      const int64_t to = PlaceOf(r);
      if (to < 0) continue;
      *reinterpret_cast<uint4*>(static_cast<uint16_t*>(p.out.data) + to + thread % kChunks * 8) =
          *reinterpret_cast<const uint4*>(place(r, thread % kChunks));
    }
  }
  __device__ void WriteExact() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t to = PlaceOf(warp_row() + own.lane / 4 + 8 * half);
      if (to < 0) continue;
#pragma unroll
      for (int i = 0; i < kHeadDim / 8; ++i) {
        const float* const d = own.out + 4 * i + 2 * half;
        *reinterpret_cast<float2*>(static_cast<float*>(p.out.data) + to + 8 * i +
                                   own.lane % 4 * 2) = {d[0], d[1]};
      }
    }
  }
  __device__ void Write() {
    Normalize();
    switch (p.out.type) {
      case vernier::cuda::Scalar::kF16:
        WriteRounded<__half>();
        break;
      case vernier::cuda::Scalar::kBF16:
        WriteRounded<__nv_bfloat16>();
        break;
      case vernier::cuda::Scalar::kF32:
        WriteExact();
        break;
    }
    FenceForCopies();
    own.Leave(Ring::kQueries, query_at.stage);
    query_at.Next();
  }
};

// The warps that do not multiply.
template <class Codes, int kHeadDim>
__device__ void Bring(const AttentionCopier<kHeadDim>& copier, const Items& items,
                      uint8_t* shared_bytes, int warp) {
  if constexpr (sizeof(Codes) == 1) {
    AttentionWidener<kHeadDim>{copier, copier.p, shared_bytes, copier.shared, warp, copier.lane}
        .Run(items);
  } else {
    if (warp == 0) copier.Run(items);
  }
}

template <class Codes, int kHeadDim>
__device__ void InitBarriers(uint32_t shared) {
  using Places = AttentionPlaces<kHeadDim>;
  using Ring = typename Places::Ring;
  constexpr bool kWidened = sizeof(Codes) == 1;
  for (const Ring ring : {Ring::kQueries, Ring::kKeys, Ring::kValues}) {
    for (int stage = 0; stage < kKeyStages; ++stage) {
      InitBarrier(Places::Filled(shared, ring, stage),
                  kWidened && ring != Ring::kQueries ? kWideners : 1);
      InitBarrier(Places::Emptied(shared, ring, stage), kWarps);
    }
  }
  for (int i = 0; kWidened && i < kWideners * kRawStages; ++i) {
    InitBarrier(RawPlaces<kHeadDim>::Filled(shared, i / kRawStages, i % kRawStages), 1);
  }
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  FenceForCopies();
}

template <class Codes, int kHeadDim>
__global__ void __launch_bounds__(kThreads, 1)
    WarpgroupKernel(const __grid_constant__ AttentionParameters p, int count,
                    const __grid_constant__ CUtensorMap query,
                    const __grid_constant__ CUtensorMap cache) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = SharedAddress(shared);
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpLanes, 0);
  const int lane = threadIdx.x % kWarpLanes;
  if (threadIdx.x == 0) InitBarriers<Codes, kHeadDim>(base);
  __syncthreads();
  AwaitKernelAhead();
  const Items items = {p, count};
  if (warp >= kWarps) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCopyRegisters<Codes>));
    const AttentionCopier<kHeadDim> copier = {p, &query, &cache, base, lane};
    Bring<Codes, kHeadDim>(copier, items, shared, warp - kWarps);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kMultiplyRegisters<Codes>));
    Attender<typename KvTile<Codes, kHeadDim>::Scalar, kHeadDim> attender = {p, shared};
    attender.own.shared = base;
    attender.own.warpgroup = warp / 4;
    attender.own.lane = lane;
    attender.group = p.shape.num_heads / p.shape.num_kv_heads;
    if (warp / 4 == 1) ArriveNamed(kTurnBarrier, kConsumerThreads);
    Items own = items;
#pragma unroll 1
    while (own.Next(&attender.item)) {
      attender.Begin();
      attender.Attend();
      attender.Write();
    }
  }
}

// ---- Launch ----

// q as [panels][rows][heads][64], fetched by the rows and heads of a panel of a tile.
cudaError_t DescribeQuery(const AttentionParameters& p, CUtensorMap* map) {
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
  const cudaError_t found = EncodeTiled(&encode);
  if (found != cudaSuccess) return found;
  const int head_dim = p.shape.head_dim, group = p.shape.num_heads / p.shape.num_kv_heads;
  const auto head_bytes = static_cast<cuuint64_t>(head_dim) * 2;
  const cuuint64_t heads = p.shape.num_heads;
  const cuuint64_t sizes[4] = {64, heads, static_cast<cuuint64_t>(p.rows),
                               static_cast<cuuint64_t>(head_dim / 64)};
  const cuuint64_t strides[3] = {head_bytes, head_bytes * heads, kPanelRowBytes};
  const cuuint32_t box[4] = {64, static_cast<cuuint32_t>(group),
                             static_cast<cuuint32_t>(kTileQueries / group), 1};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 4, const_cast<void*>(p.rounded_query), sizes,
             strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// The layer's cache as [blocks][K|V, heads][panels][slots][64], fetched by a panel of a head.
cudaError_t DescribeCache(const AttentionParameters& p, CUtensorMap* map) {
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
  const cudaError_t found = EncodeTiled(&encode);
  if (found != cudaSuccess) return found;
  const int head_dim = p.shape.head_dim;
  const cuuint64_t sizes[5] = {64, kSlotsPerBlock, static_cast<cuuint64_t>(head_dim / 64),
                               static_cast<cuuint64_t>(2 * p.shape.num_kv_heads),
                               static_cast<cuuint64_t>(p.cache.blocks)};
  const cuuint64_t strides[4] = {static_cast<cuuint64_t>(head_dim) * 2, kPanelRowBytes,
                                 static_cast<cuuint64_t>(HeadBytes(p.cache.code, head_dim)),
                                 static_cast<cuuint64_t>(p.cache.block_bytes)};
  const cuuint32_t box[5] = {64, kSlotsPerBlock, 1, 1, 1};
  const cuuint32_t steps[5] = {1, 1, 1, 1, 1};
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 5, p.cache.data, sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template <class Codes, int kHeadDim>
cudaError_t Launch(const AttentionParameters& p, int tiles, cudaStream_t stream) {
  constexpr bool kWidened = sizeof(Codes) == 1;
  constexpr int kBytes = kWidened ? RawPlaces<kHeadDim>::kEnd : AttentionPlaces<kHeadDim>::kEnd;
  CUtensorMap query, cache = {};  // int8: not read
  cudaError_t error = DescribeQuery(p, &query);
  if (error == cudaSuccess && !kWidened) error = DescribeCache(p, &cache);
  if (error != cudaSuccess) return error;
  const auto kernel = WarpgroupKernel<Codes, kHeadDim>;
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (prepared != cudaSuccess) return prepared;
  const int items = tiles * p.shape.num_kv_heads;
  return LaunchAfter(kernel, dim3(std::min(items, Multiprocessors())), kThreads, kBytes, stream, p,
                     items, query, cache);
}

template <class Codes>
cudaError_t LaunchOf(const AttentionParameters& p, int tiles, cudaStream_t stream) {
  return p.shape.head_dim == 128 ? Launch<Codes, 128>(p, tiles, stream)
                                 : Launch<Codes, 64>(p, tiles, stream);
}

}  // namespace

bool TakesWarpgroups(const HeadShape& shape, KvCode cache) {
  return (shape.head_dim == 64 || shape.head_dim == 128) && HasTensorKernels(shape, cache);
}

int WarpgroupTileRows(const HeadShape& shape) {
  return kTileQueries / (shape.num_heads / shape.num_kv_heads);
}

cudaError_t LaunchWarpgroups(const AttentionParameters& p, int tiles, cudaStream_t stream) {
  switch (p.cache.code) {
    case KvCode::kF16:
      return LaunchOf<__half>(p, tiles, stream);
    case KvCode::kBF16:
      return LaunchOf<__nv_bfloat16>(p, tiles, stream);
    case KvCode::kInt8:
      return LaunchOf<int8_t>(p, tiles, stream);
    case KvCode::kF32:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace vernier::cuda
