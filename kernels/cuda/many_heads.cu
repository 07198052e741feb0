// Heads of many rows, on their way from the products to attention: biases, norms, rotation, q
// scaled and rounded, k and v into the cache.
//
//   row:  q head 0 | q head 1 | .. | k head 0 | .. | v head 0 | ..
//           lanes 0 .. dim / 16 - 1: lane c has dimensions 8c to 8c + 7, and as many from the
//           middle of the head on, which are what they are rotated with
//
// Blocks of threads stay and take rows in turns, each thread 32 bytes of a row in two loads: while
// it finishes a row, those of the next one are under way, whose cosines and sines are made once a
// block. All is bound by memory.
//
// Limits: what TakesManyHeads says.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/int8_rows.cuh"
#include "kernels/cuda/kv_layer.cuh"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kMostThreads = 384;
constexpr int kBlocksAtOnce = 3;  // of threads, a multiprocessor
constexpr int kEach = 8;          // neighbours of a head that a lane has, twice

struct Eight {
  float v[kEach];
};

__device__ Eight Widen(const uint4& bits, Scalar type) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
  Eight out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair =
        type == Scalar::kF16 ? WidenPair<__half>(words[i]) : WidenPair<__nv_bfloat16>(words[i]);
    out.v[2 * i] = pair.x;
    out.v[2 * i + 1] = pair.y;
  }
  return out;
}
__device__ uint4 Narrow(const Eight& from, Scalar type) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = {from.v[2 * i], from.v[2 * i + 1]};
    words[i] = type == Scalar::kF16 ? NarrowPair<__half>(pair) : NarrowPair<__nv_bfloat16>(pair);
  }
  return {words[0], words[1], words[2], words[3]};
}
__device__ Eight LoadEight(const float* from) {
  const auto* const quads = reinterpret_cast<const float4*>(from);
  const float4 low = quads[0], high = quads[1];
  return {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
}
__device__ void StoreEight(const Eight& from, float* to) {
  auto* const quads = reinterpret_cast<float4*>(to);
  quads[0] = {from.v[0], from.v[1], from.v[2], from.v[3]};
  quads[1] = {from.v[4], from.v[5], from.v[6], from.v[7]};
}

// A lane's share of a head.
struct HeadShare {
  Eight low, high;  // of the head's halves

  template <class Each>
  __device__ void ForEach(const Each& each) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) each(low.v[i], i);
#pragma unroll
    for (int i = 0; i < kEach; ++i) each(high.v[i], kEach + i);
  }
};

// Which head a thread has a share of, and which.
struct HeadPlace {
  int head;  // of q, or k and v
  bool is_q, is_v;
  int column;  // of the lower share; the higher one is half a head further
};

// Lanes of a head of kDim dimensions.
template <int kDim>
constexpr int kLanes = kDim / (2 * kEach);

template <int kDim>
__device__ HeadPlace PlaceOf(const HeadShape& shape, int task) {
  const int head = task / kLanes<kDim>;
  HeadPlace at;
  at.is_q = head < shape.num_heads;
  at.is_v = head >= shape.num_heads + shape.num_kv_heads;
  at.head = at.is_q ? head : (head - shape.num_heads) % shape.num_kv_heads;
  at.column = task % kLanes<kDim> * kEach;
  return at;
}

template <int kLanes, class Combine, class T>
__device__ T ReduceLanes(T value, Combine combine) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(~0u, value, offset));
  }
  return value;
}

__device__ void AddBias(const float* bias, int half, HeadShare& share) {
  const Eight low = LoadEight(bias), high = LoadEight(bias + half);
  share.ForEach(
      [&](float& value, int i) { value += i < kEach ? low.v[i % kEach] : high.v[i % kEach]; });
}

// All lanes of a warp call.
template <int kDim>
__device__ void NormalizeHead(const DeviceNorm& norm, int column, bool wanted, HeadShare& share) {
  float squares = 0;
  share.ForEach([&](float& value, int) { squares += value * value; });
  squares = ReduceLanes<kLanes<kDim>>(squares, Add());
  if (!wanted) return;
  const float scale = 1 / sqrtf(squares / kDim + norm.epsilon);
  const Eight low = LoadEight(norm.weight + column);
  const Eight high = LoadEight(norm.weight + column + kDim / 2);
  share.ForEach([&](float& value, int i) {
    value = value * scale * (i < kEach ? low.v[i % kEach] : high.v[i % kEach]);
  });
  if (norm.bias != nullptr) AddBias(norm.bias + column, kDim / 2, share);
}

// `turns` has the cosine and the sine of the share's first pair, then those of the next ones.
__device__ void Rotate(const float2* turns, HeadShare& share) {
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const float a = share.low.v[i], b = share.high.v[i];
    const float2 turn = turns[i];
    share.low.v[i] = a * turn.x - b * turn.y;
    share.high.v[i] = b * turn.x + a * turn.y;
  }
}

template <int kDim>
__device__ void StoreQuery(const HeadsParameters& p, int64_t row, const HeadPlace& at,
                           HeadShare& share) {
  const int64_t to = (row * p.shape.num_heads + at.head) * kDim + at.column;
  if (p.query != nullptr) {
    StoreEight(share.low, p.query + to);
    StoreEight(share.high, p.query + to + kDim / 2);
  }
  if (p.rounded_query.data == nullptr) return;
  const float scale = QueryScale(p.shape);
  share.ForEach([&](float& value, int) { value *= scale; });
  auto* const rounded = static_cast<uint16_t*>(p.rounded_query.data) + to;
  *reinterpret_cast<uint4*>(rounded) = Narrow(share.low, p.rounded_query.type);
  *reinterpret_cast<uint4*>(rounded + kDim / 2) = Narrow(share.high, p.rounded_query.type);
}

__device__ uint2 CodesOf(const Eight& from, float inverse) {
  uint32_t words[2] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) words[i / 4] |= Int8CodeOf(from.v[i], inverse) << i % 4 * 8;
  return {words[0], words[1]};
}

// Of the head that begins at `head`. All lanes of a warp call; those that have nothing `wanted` in
// the cache store nothing.
template <int kDim>
__device__ void StoreKvInt8(uint8_t* head, int slot, int column, bool wanted, HeadShare& share) {
  constexpr KvCode kCode = KvCode::kInt8;
  uint32_t most = 0;
  share.ForEach([&](float& value, int) { most = max(most, MagnitudeOf(value)); });
  const DeviceKvScale scale = Int8ScaleOfLargest(ReduceLanes<kLanes<kDim>>(most, Larger()));
  if (!wanted) return;
  if (column == 0) {
    *reinterpret_cast<float*>(head + ScaleOffset(kCode, kDim, slot)) = scale.scale;
  }
  *reinterpret_cast<uint2*>(head + CodeOffset(kCode, kDim, slot, column)) =
      CodesOf(share.low, scale.inverse);
  *reinterpret_cast<uint2*>(head + CodeOffset(kCode, kDim, slot, column + kDim / 2)) =
      CodesOf(share.high, scale.inverse);
}

template <int kDim>
__device__ void StoreKv(const HeadsParameters& p, uint32_t slot, const HeadPlace& at, bool wanted,
                        HeadShare& share) {
  const auto in_block = static_cast<int>(slot % kSlotsPerBlock);
  const int cached = at.is_v ? p.shape.num_kv_heads + at.head : at.head;
  uint8_t* const head = p.cache.data + slot / kSlotsPerBlock * p.cache.block_bytes +
                        HeadOffset(p.cache.code, kDim, cached);
  if (p.cache.code == KvCode::kInt8) {
    StoreKvInt8<kDim>(head, in_block, at.column, wanted, share);
    return;
  }
  constexpr KvCode kCode = KvCode::kF16;  // bf16 lies no other way
  if (!wanted) return;
  const Scalar type = p.cache.code == KvCode::kF16 ? Scalar::kF16 : Scalar::kBF16;
  *reinterpret_cast<uint4*>(head + CodeOffset(kCode, kDim, in_block, at.column)) =
      Narrow(share.low, type);
  *reinterpret_cast<uint4*>(head + CodeOffset(kCode, kDim, in_block, at.column + kDim / 2)) =
      Narrow(share.high, type);
}

// A thread's two loads.
struct RawShare {
  uint4 low, high;
};

// What a thread does of every row, and where. `kPlain`: there are no biases and no norms.
template <int kDim, bool kPlain>
struct HeadWorker {
  const HeadsParameters& p;
  HeadPlace at;
  bool some;  // is there a task for this thread

  __device__ const Matrix& from() const { return at.is_q ? p.q : at.is_v ? p.v : p.k; }
  __device__ RawShare Load(int row) const {
    if (!some) return {};
    const auto* const values = static_cast<const uint16_t*>(from().data) + row * from().stride +
                               at.head * kDim + at.column;
    return {*reinterpret_cast<const uint4*>(values),
            *reinterpret_cast<const uint4*>(values + kDim / 2)};
  }
  // All lanes of a warp call.
  __device__ void Finish(const RawShare& raw, int row, uint32_t slot, const float2* turns) const {
    HeadShare share = {Widen(raw.low, from().type), Widen(raw.high, from().type)};
    if constexpr (!kPlain) {
      const int in_row = at.head * kDim + at.column;
      const float* const bias = at.is_q ? p.q_bias : at.is_v ? p.v_bias : p.k_bias;
      if (bias != nullptr) AddBias(bias + in_row, kDim / 2, share);
      const DeviceNorm& norm = at.is_q ? p.q_norm : p.k_norm;
      NormalizeHead<kDim>(norm, at.column, !at.is_v && norm.weight != nullptr, share);
    }
    if (!at.is_v && p.rotated_pairs > 0) Rotate(turns + at.column, share);
    if (some && at.is_q) StoreQuery<kDim>(p, row, at, share);
    StoreKv<kDim>(p, slot, at, some && !at.is_q, share);
  }
};

template <int kDim, bool kPlain>
__global__ void __launch_bounds__(kMostThreads, kPlain ? kBlocksAtOnce : 1)
    ManyHeadsKernel(const HeadsParameters p, int rows) {
  __shared__ float2 turns[2][kDim / 2];
  const int task = blockIdx.y * blockDim.x + threadIdx.x, step = gridDim.x;
  const int heads = p.shape.num_heads + 2 * p.shape.num_kv_heads;
  const bool some = task < heads * kLanes<kDim>;
  const HeadWorker<kDim, kPlain> worker = {p, PlaceOf<kDim>(p.shape, some ? task : 0), some};
  const auto turn = [&](int position, float2* of_row) {
    const auto angle = static_cast<float>(position);
    for (int i = threadIdx.x; i < p.rotated_pairs; i += blockDim.x) {
      sincosf(angle * p.inverse_frequencies[i], &of_row[i].y, &of_row[i].x);
    }
  };
  AwaitKernelAhead();
  int row = blockIdx.x;
  RawShare raw = worker.Load(row);
  int slot = p.step.slots[row], at = 0;
  turn(p.step.positions[row], turns[0]);
  while (true) {
    // The row's turns are there, and those of the row before have been read.
    __syncthreads();
    const int next = row + step < rows ? row + step : row;
    const RawShare next_raw = worker.Load(next);
    const int next_slot = p.step.slots[next], next_position = p.step.positions[next];
    worker.Finish(raw, row, static_cast<uint32_t>(slot), turns[at]);
    if (next == row) return;
    turn(next_position, turns[at ^ 1]);
    row = next;
    raw = next_raw;
    slot = next_slot;
    at ^= 1;
  }
}

bool IsInSixteens(const Matrix& from) {
  return from.type != Scalar::kF32 && from.stride % kEach == 0 &&
         reinterpret_cast<uintptr_t>(from.data) % 16 == 0;
}

template <int kDim>
cudaError_t LaunchOf(const HeadsParameters& p, int rows, cudaStream_t stream) {
  const int tasks = (p.shape.num_heads + 2 * p.shape.num_kv_heads) * kLanes<kDim>;
  const int whole = (tasks + kWarpLanes - 1) / kWarpLanes * kWarpLanes;
  const int threads = whole < kMostThreads ? whole : kMostThreads;
  const int parts = (tasks + threads - 1) / threads;
  const int at_once = Multiprocessors() * kBlocksAtOnce * (kMostThreads / threads);
  const int blocks = at_once / parts > 0 ? at_once / parts : 1;
  const bool plain = p.q_bias == nullptr && p.k_bias == nullptr && p.v_bias == nullptr &&
                     p.q_norm.weight == nullptr && p.k_norm.weight == nullptr;
  const auto kernel = plain ? ManyHeadsKernel<kDim, true> : ManyHeadsKernel<kDim, false>;
  return LaunchAfter(kernel, dim3(rows < blocks ? rows : blocks, parts), threads, 0, stream, p,
                     rows);
}

}  // namespace

bool TakesManyHeads(const HeadsParameters& p) {
  const int dim = p.shape.head_dim;
  return (dim == 64 || dim == 128 || dim == 256) && IsInSixteens(p.q) && IsInSixteens(p.k) &&
         IsInSixteens(p.v) && (p.rotated_pairs == 0 || p.rotated_pairs == dim / 2) &&
         !p.q_norm.centered && !p.k_norm.centered && p.cache.code != KvCode::kF32;
}

cudaError_t LaunchManyHeads(const HeadsParameters& p, int rows, cudaStream_t stream) {
  switch (p.shape.head_dim) {
    case 64:
      return LaunchOf<64>(p, rows, stream);
    case 128:
      return LaunchOf<128>(p, rows, stream);
    case 256:
      return LaunchOf<256>(p, rows, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace vernier::cuda
