// Rows with one new token. As many blocks of threads as fit at once share all runs of keys of a
// step, one tile of heads each, in turns. Each of four warps takes every fourth block of the cache
// and keeps a ring of copies under way, into its next runs too; at the end of a run the warps'
// results are merged in order, and those of the runs of a row by a second kernel.
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/decode_tile.cuh"
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
  static constexpr int kSlots = kTileBytes > (9 << 10) ? 2 : 3;
  static constexpr int kWarpBytes = kSlots * kTileBytes;
  // Lanes 4g + t write values g (or the pair 2g) of head 2t: all in different banks.
  static constexpr int kPartStride = kHeadDim + 4;
  static constexpr int kParts = kDecodeWarps * kWarpBytes;
  static constexpr int kBarriers = kParts + kDecodeWarps * kDecodeHeads * kPartStride * 4;
  static constexpr int kBytes = kBarriers + kDecodeWarps * kSlots * kBarrierBytes;
  static constexpr int kFit = kSharedBytes / (kBytes + kBlockOverheadBytes);
  static constexpr int kBlocks = kFit < 3 ? kFit : 3;  // of threads on a multiprocessor
};

// What a block of threads does in one turn: a run of keys for the heads of a tile.
struct Work {
  DecodeRun run;
  int begin;  // keys that are visible
  int end;
  int kv_head;
  int first_head;
  int heads;
};

// Unit `unit` of a step's line of runs and tiles of heads; false behind the last.
__device__ bool WorkAt(const AttentionParameters& p, const DecodeSplit& split, int unit,
                       Work* work) {
  const int group = p.shape.num_heads / p.shape.num_kv_heads;
  const int group_tiles = (group + kDecodeHeads - 1) / kDecodeHeads;
  const int tiles = p.shape.num_kv_heads * group_tiles;
  const int run = unit / tiles, tile = unit % tiles;
  if (run >= split.runs) return false;
  work->run = p.step.runs[run];
  const int context = work->run.context;
  if (context == 0) return false;
  const int oldest = p.shape.window > 0 ? max(0, context - p.shape.window) : 0;
  work->begin = max(work->run.first_key, oldest);
  work->end = min(work->run.first_key + split.keys, context);
  work->kv_head = tile / group_tiles;
  const int first_in_group = tile % group_tiles * kDecodeHeads;
  work->first_head = work->kv_head * group + first_in_group;
  work->heads = min(kDecodeHeads, group - first_in_group);
  return true;
}

// What a warp reads next: of every fourth block of its runs the keys, then the values.
template <class Codes, int kHeadDim>
class Feed {
 public:
  using Kv = KvTile<Codes, kHeadDim>;
  static constexpr KvCode kCode =
      Kv::kScaled ? KvCode::kInt8 : (std::is_same_v<Codes, __half> ? KvCode::kF16 : KvCode::kBF16);

  __device__ Feed(const AttentionParameters& p, const DecodeSplit& split)
      : p_(p), split_(split), unit_(blockIdx.x) {
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
        CopyBulk(to, from, Kv::kBytes, barrier);
      } else {
        ExpectBytes(barrier, slots * Kv::kSlotBytes + kScales);
        CopyBulk(to, from, slots * Kv::kSlotBytes, barrier);
        if (kScales > 0) {
          CopyBulk(to + Kv::kCodeBytes, from + Kv::kCodeBytes, kScales, barrier);
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
      unit_ += gridDim.x;
      Open();
    } else if (block_ == first_ + kWarpLanes * kDecodeWarps) {
      LookUp();
    }
  }

  // The next run that has a block for this warp, from unit_ on.
  __device__ void Open() {
    for (;; unit_ += gridDim.x) {
      done_ = !WorkAt(p_, split_, unit_, &work_);
      if (done_) return;
      block_ = work_.begin / kSlotsPerBlock + static_cast<int>(threadIdx.x) / kWarpLanes;
      if (block_ * kSlotsPerBlock < work_.end) break;
    }
    LookUp();
  }

  __device__ void LookUp() {
    first_ = block_;
    const int own = block_ + static_cast<int>(threadIdx.x) % kWarpLanes * kDecodeWarps;
    ids_ = own * kSlotsPerBlock < work_.end ? p_.step.blocks[work_.run.first_block + own] : 0;
  }

  const AttentionParameters& p_;
  const DecodeSplit& split_;
  int unit_;
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

// Adds up what the warps found of a run, in order; to the partials, or where the run is all of its
// row, to the result.
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
      const float weight = exp2f(of_warp[kHeadDim] - most);
      sum += of_warp[kHeadDim + 1] * weight;
      value += of_warp[column] * weight;
    }
    const int64_t of_head = work.first_head + head;
    if (work.run.partial < 0) {
      Store(p.out.data, p.out.type, work.run.row * p.out.stride + of_head * kHeadDim + column,
            value / sum);
      continue;
    }
    float* out =
        split.partials +
        (static_cast<int64_t>(work.run.partial) * p.shape.num_heads + of_head) * (kHeadDim + 2);
    out[2 + column] = value;
    if (column == 0) {
      out[0] = most;
      out[1] = sum;
    }
  }
}

template <class Codes, int kHeadDim>
__global__ void __launch_bounds__(kThreads, (DecodeLayout<Codes, kHeadDim>::kBlocks))
    DecodeKernel(const AttentionParameters p, const DecodeSplit split) {
  using Layout = DecodeLayout<Codes, kHeadDim>;
  extern __shared__ __align__(128) uint8_t shared[];
  Ring<Codes, kHeadDim> ring(shared);
  AwaitKernelAhead();
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  float* const parts = reinterpret_cast<float*>(shared + Layout::kParts);
  float* const own_parts = parts + warp * kDecodeHeads * Layout::kPartStride;
  Feed<Codes, kHeadDim> feed(p, split);
  ring.Fill(&feed);
  DecodeTile<Codes, kHeadDim> tile;
  Work work;
  for (int unit = blockIdx.x; WorkAt(p, split, unit, &work); unit += gridDim.x) {
    const int own_head = lane / 4;
    const float* query = p.query + (static_cast<int64_t>(work.run.row) * p.shape.num_heads +
                                    work.first_head + own_head) *
                                       kHeadDim;
    tile.Begin(p.shape.scale * kLog2E, own_head < work.heads ? query : nullptr);
    for (int block = work.begin / kSlotsPerBlock + warp; block * kSlotsPerBlock < work.end;
         block += kDecodeWarps) {
      const int first = block * kSlotsPerBlock;
      const VisibleSlots visible{max(0, work.begin - first), min(kSlotsPerBlock, work.end - first)};
      tile.Score(ring.Await(), visible);
      ring.Release(&feed);
      uint8_t* const values = ring.Await();
      if constexpr (sizeof(Codes) > 1) ClearSlots<Codes, kHeadDim>(values, visible.end);
      tile.AddValues(values, visible);
      ring.Release(&feed);
    }
    tile.End();
    __syncthreads();  // all have merged the run before
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
  }
}

// Merges the partials of one row's head, a warp, in order; the loads of several are under way at
// once.
__device__ void MergeRuns(const float* partials, int count, int64_t stride, int dim,
                          const Matrix& out, int64_t at) {
  constexpr int kColumns = kMostHeadDim / kWarpLanes;
  const int lane = threadIdx.x % kWarpLanes;
  float most = -FLT_MAX;
  for (int i = lane; i < count; i += kWarpLanes) most = fmaxf(most, partials[i * stride]);
  most = ReduceWarp(most, Larger());
  float sum = 0;
  float values[kColumns] = {};
  for (int first = 0; first < count; first += kWarpLanes) {
    const int own = first + lane;
    const float weight = own < count ? exp2f(partials[own * stride] - most) : 0.0f;
    sum += ReduceWarp(own < count ? partials[own * stride + 1] * weight : 0.0f, Add());
    const int here = min(kWarpLanes, count - first);
#pragma unroll 4
    for (int i = 0; i < here; ++i) {
      const float of_part = __shfl_sync(0xffffffffu, weight, i);
      const float* part = partials + (first + i) * stride + 2;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int column = lane + j * kWarpLanes;
        if (column < dim) values[j] += part[column] * of_part;
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
    const int column = lane + j * kWarpLanes;
    if (column < dim) Store(out.data, out.type, at + column, values[j] / sum);
  }
}

// A warp a head of a row.
__global__ void __launch_bounds__(kThreads)
    MergeKernel(const AttentionParameters p, const DecodeSplit split) {
  AwaitKernelAhead();
  const int head = blockIdx.x * kDecodeWarps + threadIdx.x / kWarpLanes;
  const DecodeRow row = p.step.decode[blockIdx.z];
  if (head >= p.shape.num_heads || row.partials == 0) return;
  const int dim = p.shape.head_dim;
  const int64_t stride = static_cast<int64_t>(p.shape.num_heads) * (dim + 2);
  const float* partials =
      split.partials + row.first_partial * stride + static_cast<int64_t>(head) * (dim + 2);
  MergeRuns(partials, row.partials, stride, dim, p.out,
            row.row * p.out.stride + static_cast<int64_t>(head) * dim);
}

template <class Codes, int kHeadDim>
struct DecodeLauncher {
  static cudaError_t Launch(const AttentionParameters& p, const DecodeSplit& split,
                            cudaStream_t stream) {
    using Layout = DecodeLayout<Codes, kHeadDim>;
    const auto kernel = DecodeKernel<Codes, kHeadDim>;
    cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Layout::kBytes);
    int device = 0, multiprocessors = 0;
    if (error == cudaSuccess) error = cudaGetDevice(&device);
    if (error == cudaSuccess) {
      error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    }
    if (error != cudaSuccess) return error;
    const int units = split.runs * DecodeTiles(p.shape);
    const int blocks = multiprocessors * Layout::kBlocks;
    return LaunchAfter(kernel, dim3(units < blocks ? units : blocks), kThreads, Layout::kBytes,
                       stream, p, split);
  }
};

}  // namespace

cudaError_t LaunchDecode(const AttentionParameters& p, const DecodeSplit& split, int decode_rows,
                         cudaStream_t stream) {
  const cudaError_t error = ForShape<DecodeLauncher>(p.shape, p.cache.code, p, split, stream);
  if (error != cudaSuccess) return error;
  const dim3 grid((p.shape.num_heads + kDecodeWarps - 1) / kDecodeWarps, 1, decode_rows);
  return LaunchAfter(MergeKernel, grid, kThreads, 0, stream, p, split);
}

}  // namespace vernier::cuda
