// One block of threads a row, or a warp a head; all are bound by memory for many rows and by their
// launch for few. Rows whose width divides by 4 move four values at a time.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gating.cuh"
#include "kernels/cuda/heads.cuh"
#include "kernels/cuda/int8_rows.cuh"
#include "kernels/cuda/kv_layer.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/weight_decode.cuh"

namespace vernier::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kNormThreads = 512;
constexpr int kHeadWarps = 8;
constexpr int64_t kColumnsPerBlock = 4096;  // of the kernels that cut a row over blocks

__global__ void EmbedKernel(const EmbedParameters p) {
  AwaitKernelAhead();
  const int64_t row = blockIdx.x, hidden = p.table.cols;
  const int64_t id = p.step.ids[row], position = p.step.positions[row];
  const int64_t i = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (i < hidden) {
    float value = p.scale * Decode(p.table, id, i);
    if (p.positions.codes != nullptr) value += Decode(p.positions, position, i);
    p.residual[row * hidden + i] = value;
  }
}

// values = norm(values), all [size] in shared memory.
__device__ void Normalize(const DeviceNorm& norm, int64_t size, float* values, float* reduced) {
  float mean = 0;
  if (norm.centered) {
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x) mean += values[i];
    mean = ReduceBlock(mean, reduced, Add()) / static_cast<float>(size);
  }
  float squares = 0;
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
    const float deviation = values[i] - mean;
    squares += deviation * deviation;
  }
  squares = ReduceBlock(squares, reduced, Add());
  const float scale = 1 / sqrtf(squares / static_cast<float>(size) + norm.epsilon);
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
    float value = (values[i] - mean) * scale * norm.weight[i];
    if (norm.bias != nullptr) value += norm.bias[i];
    values[i] = value;
  }
}

// A thread meets the same elements in each loop over a row, so that no barrier lies between them
// but those of the reductions.
__global__ void __launch_bounds__(kNormThreads) AddNormKernel(const AddNormParameters p) {
  extern __shared__ float values[];
  __shared__ float reduced[kWarpLanes];
  __shared__ uint32_t magnitudes[kWarpLanes];
  AwaitKernelAhead();
  const int64_t hidden = p.hidden;
  const int64_t row = p.chosen == nullptr ? blockIdx.x : p.chosen[blockIdx.x];
  float* residual = p.residual + row * hidden;
  if (p.y.data != nullptr) {
    const int64_t y = row * p.y.stride;
    for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x) {
      float value = Load(p.y.data, p.y.type, y + i);
      if (p.y_bias != nullptr) value += p.y_bias[i];
      values[i] = value;
    }
    if (p.post_norm.weight != nullptr) Normalize(p.post_norm, hidden, values, reduced);
    for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x) {
      values[i] += residual[i];
      residual[i] = values[i];
    }
  } else {
    for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x) values[i] = residual[i];
  }
  if (p.x.data == nullptr && p.int8.codes == nullptr) return;
  Normalize(p.norm, hidden, values, reduced);
  if (p.int8.codes != nullptr) {
    uint32_t largest = 0;
    for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x) {
      largest = max(largest, MagnitudeOf(values[i]));
    }
    const Int8Scale scale = Int8ScaleOf(ReduceBlock(largest, magnitudes, Larger()));
    if (threadIdx.x == 0) p.int8.scales[blockIdx.x] = scale.scale;
    int8_t* const codes = p.int8.codes + static_cast<int64_t>(blockIdx.x) * hidden;
    for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x) {
      codes[Int8XPosition(i)] = static_cast<int8_t>(Int8CodeOf(values[i], scale.inverse));
    }
    return;
  }
  const int64_t x = static_cast<int64_t>(blockIdx.x) * p.x.stride;
  for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x) {
    Store(p.x.data, p.x.type, x + i, values[i]);
  }
}

// The common case, for rows of thousands: RMS without biases, in registers, four at a time.
constexpr int kMostQuads = 8;  // of a thread: rows up to 4 * 8 * 512

template <int kQuads>
__global__ void __launch_bounds__(kNormThreads) AddRmsNormKernel(const AddNormParameters p) {
  __shared__ float reduced[kWarpLanes];
  __shared__ uint32_t magnitudes[kWarpLanes];
  const int64_t quads = p.hidden / 4;
  AllowKernelBehind();
  float4 weights[kQuads];
#pragma unroll
  for (int j = 0; j < kQuads; ++j) {
    const int64_t quad = threadIdx.x + j * kNormThreads;
    if (quad < quads) weights[j] = Load4(p.norm.weight, Scalar::kF32, quad * 4);
  }
  AwaitKernelAhead();
  const int64_t row = p.chosen == nullptr ? blockIdx.x : p.chosen[blockIdx.x];
  float4 values[kQuads] = {};
  float squares = 0;
#pragma unroll
  for (int j = 0; j < kQuads; ++j) {
    const int64_t quad = threadIdx.x + j * kNormThreads;
    if (quad >= quads) break;
    float4 v = Load4(p.residual, Scalar::kF32, row * p.hidden + quad * 4);
    if (p.y.data != nullptr) {
      const float4 y = Load4(p.y.data, p.y.type, row * p.y.stride + quad * 4);
      v = {v.x + y.x, v.y + y.y, v.z + y.z, v.w + y.w};
      Store4(p.residual, Scalar::kF32, row * p.hidden + quad * 4, v);
    }
    values[j] = v;
    squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  }
  squares = ReduceBlock(squares, reduced, Add());
  const float scale = 1 / sqrtf(squares / static_cast<float>(p.hidden) + p.norm.epsilon);
  if (p.int8.codes != nullptr) {
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
      if (threadIdx.x + j * kNormThreads >= quads) break;
      const float4 w = weights[j], v = values[j];
      values[j] = {v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w};
      largest = max(largest, MagnitudeOf(values[j]));
    }
    const Int8Scale int8 = Int8ScaleOf(ReduceBlock(largest, magnitudes, Larger()));
    if (threadIdx.x == 0) p.int8.scales[blockIdx.x] = int8.scale;
    int8_t* const codes = p.int8.codes + static_cast<int64_t>(blockIdx.x) * p.hidden;
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
      StoreInt8Quad(codes, threadIdx.x + j * kNormThreads, quads, values[j], int8.inverse);
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < kQuads; ++j) {
    const int64_t quad = threadIdx.x + j * kNormThreads;
    if (quad >= quads) break;
    const float4 w = weights[j], v = values[j];
    Store4(p.x.data, p.x.type, static_cast<int64_t>(blockIdx.x) * p.x.stride + quad * 4,
           {v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w});
  }
}

// A block of threads a row, held in registers: small blocks, as many rows at once wait for memory.
constexpr int kRoundThreads = 256;
constexpr int kRoundQuads = 4;  // of a thread

__global__ void __launch_bounds__(kRoundThreads)
    RoundShortToInt8Kernel(const Matrix from, const Int8Rows to, int64_t width) {
  __shared__ uint32_t magnitudes[kWarpLanes];
  AwaitKernelAhead();
  const int64_t row = blockIdx.x, first = row * from.stride, quads = width / 4;
  float4 values[kRoundQuads] = {};
  uint32_t largest = 0;
#pragma unroll
  for (int j = 0; j < kRoundQuads; ++j) {
    const int64_t quad = threadIdx.x + j * kRoundThreads;
    if (quad < quads) values[j] = Load4(from.data, from.type, first + quad * 4);
  }
#pragma unroll
  for (int j = 0; j < kRoundQuads; ++j) largest = max(largest, MagnitudeOf(values[j]));
  const Int8Scale scale = Int8ScaleOf(ReduceBlock(largest, magnitudes, Larger()));
  if (threadIdx.x == 0) to.scales[row] = scale.scale;
#pragma unroll
  for (int j = 0; j < kRoundQuads; ++j) {
    StoreInt8Quad(to.codes + row * width, threadIdx.x + j * kRoundThreads, quads, values[j],
                  scale.inverse);
  }
}

// A block of threads a row of any length, which is read twice.
__global__ void __launch_bounds__(kNormThreads)
    RoundToInt8Kernel(const Matrix from, const Int8Rows to, int64_t width) {
  __shared__ uint32_t magnitudes[kWarpLanes];
  AwaitKernelAhead();
  const int64_t row = blockIdx.x, first = row * from.stride, quads = width / 4;
  uint32_t largest = 0;
  for (int64_t quad = threadIdx.x; quad < quads; quad += kNormThreads) {
    largest = max(largest, MagnitudeOf(Load4(from.data, from.type, first + quad * 4)));
  }
  const Int8Scale scale = Int8ScaleOf(ReduceBlock(largest, magnitudes, Larger()));
  if (threadIdx.x == 0) to.scales[row] = scale.scale;
  for (int64_t begin = 0; begin < quads; begin += kNormThreads) {  // whole warps
    const int64_t quad = begin + threadIdx.x;
    const float4 v = quad < quads ? Load4(from.data, from.type, first + quad * 4) : float4{};
    StoreInt8Quad(to.codes + row * width, quad, quads, v, scale.inverse);
  }
}

// ---- Heads ----

// A warp a head of q, k or v; `values` is the warp's own.
__device__ void FinishHead(const HeadsParameters& p, int64_t row, int head, int64_t slot,
                           const float2* turns, float* values) {
  MakeHead(p, row, head, turns, values);
  const int lane = threadIdx.x % kWarpLanes;
  const int dim = p.shape.head_dim;
  if (head < p.shape.num_heads) {
    const int64_t out = (row * p.shape.num_heads + head) * dim;
    for (int i = lane; i < dim; i += kWarpLanes) {
      if (p.query != nullptr) p.query[out + i] = values[i];
      if (p.rounded_query.data == nullptr) continue;
      Store(p.rounded_query.data, p.rounded_query.type, out + i, values[i] * QueryScale(p.shape));
    }
    return;
  }
  uint8_t* block = p.cache.data + slot / kSlotsPerBlock * p.cache.block_bytes;
  StoreKvHead(p.cache.code, values, dim, static_cast<int>(slot % kSlotsPerBlock),
              block + HeadOffset(p.cache.code, dim, head - p.shape.num_heads));
}

// `heads` holds first the cosine and sine of each pair, then a head a warp.
__global__ void HeadsKernel(const HeadsParameters p) {
  extern __shared__ float heads[];
  AwaitKernelAhead();
  const int64_t row = blockIdx.x, slot = p.step.slots[row];
  const auto position = static_cast<float>(p.step.positions[row]);
  auto* const turns = reinterpret_cast<float2*>(heads);
  MakeTurns(p, position, turns);
  __syncthreads();
  const int warp = threadIdx.x / kWarpLanes;
  const int head = blockIdx.y * kHeadWarps + warp;
  if (head >= p.shape.num_heads + 2 * p.shape.num_kv_heads) return;
  FinishHead(p, row, head, slot, turns, heads + 2 * p.rotated_pairs + warp * p.shape.head_dim);
}

// ---- Activations and logits ----

__global__ void ActivateKernel(const ActivateParameters p) {
  AwaitKernelAhead();
  const int64_t row = blockIdx.x;
  const int64_t end = min(p.width, (blockIdx.y + 1) * kColumnsPerBlock);
  for (int64_t i = blockIdx.y * kColumnsPerBlock + threadIdx.x; i < end; i += blockDim.x) {
    float up = Load(p.up.data, p.up.type, row * p.up.stride + i);
    if (p.up_bias != nullptr) up += p.up_bias[i];
    float h = 0;
    if (p.gate.data == nullptr) {
      h = Act(p.kind, up);
    } else {
      float gate = Load(p.gate.data, p.gate.type, row * p.gate.stride + i);
      if (p.gate_bias != nullptr) gate += p.gate_bias[i];
      h = Act(p.kind, gate) * up;
    }
    Store(p.out.data, p.out.type, row * p.out.stride + i, h);
  }
}

__device__ float4 Gate4(const ActivateParameters& p, int64_t row, int64_t i) {
  const float4 up = Load4(p.up.data, p.up.type, row * p.up.stride + i);
  const float4 gate = Load4(p.gate.data, p.gate.type, row * p.gate.stride + i);
  return {Act(p.kind, gate.x) * up.x, Act(p.kind, gate.y) * up.y, Act(p.kind, gate.z) * up.z,
          Act(p.kind, gate.w) * up.w};
}

// Four values a thread, without biases.
__global__ void GateKernel(const ActivateParameters p) {
  AwaitKernelAhead();
  const int64_t row = blockIdx.x;
  const int64_t i = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * 4;
  if (i >= p.width) return;
  Store4(p.out.data, p.out.type, row * p.out.stride + i, Gate4(p, row, i));
}

// A block of threads a row, which it holds in registers until its largest magnitude is known.
constexpr int kMostGateQuads = 16;  // of a thread

template <int kQuads>
__global__ void __launch_bounds__(kNormThreads) GateToInt8Kernel(const ActivateParameters p) {
  __shared__ uint32_t magnitudes[kWarpLanes];
  AwaitKernelAhead();
  const int64_t row = blockIdx.x, quads = p.width / 4;
  float4 values[kQuads] = {};
  uint32_t largest = 0;
#pragma unroll
  for (int j = 0; j < kQuads; ++j) {
    const int64_t quad = threadIdx.x + j * kNormThreads;
    if (quad < quads) values[j] = Gate4(p, row, quad * 4);
    largest = max(largest, MagnitudeOf(values[j]));
  }
  const Int8Scale scale = Int8ScaleOf(ReduceBlock(largest, magnitudes, Larger()));
  if (threadIdx.x == 0) p.int8.scales[row] = scale.scale;
#pragma unroll
  for (int j = 0; j < kQuads; ++j) {
    StoreInt8Quad(p.int8.codes + row * p.width, threadIdx.x + j * kNormThreads, quads, values[j],
                  scale.inverse);
  }
}

__global__ void LogitsKernel(const LogitsParameters p) {
  AwaitKernelAhead();
  const int64_t row = blockIdx.x;
  const int64_t end = min(p.vocab, (blockIdx.y + 1) * kColumnsPerBlock);
  for (int64_t i = blockIdx.y * kColumnsPerBlock + threadIdx.x; i < end; i += blockDim.x) {
    float y = Load(p.y.data, p.y.type, row * p.y.stride + i);
    if (p.bias != nullptr) y += p.bias[i];
    if (p.soft_cap > 0) y = p.soft_cap * tanhf(y / p.soft_cap);
    p.logits[row * p.vocab + i] = y;
  }
}

__global__ void ConvertKernel(const Matrix from, const Matrix to, int64_t width) {
  AwaitKernelAhead();
  const int64_t row = blockIdx.x;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    Store(to.data, to.type, row * to.stride + i, Load(from.data, from.type, row * from.stride + i));
  }
}

dim3 RowsAndColumns(int rows, int64_t columns) {
  return {static_cast<unsigned>(rows),
          static_cast<unsigned>((columns + kColumnsPerBlock - 1) / kColumnsPerBlock)};
}

bool PlainRms(const AddNormParameters& p) {
  return (p.x.data != nullptr || p.int8.codes != nullptr) && !p.norm.centered &&
         p.norm.bias == nullptr && p.y_bias == nullptr && p.post_norm.weight == nullptr &&
         p.hidden % 4 == 0 && p.hidden <= 4 * kMostQuads * kNormThreads;
}

bool GatesQuads(const ActivateParameters& p) {
  return p.gate.data != nullptr && p.gate_bias == nullptr && p.up_bias == nullptr &&
         p.width % 4 == 0;
}

}  // namespace

cudaError_t LaunchEmbed(const EmbedParameters& p, int rows, cudaStream_t stream) {
  const dim3 grid(rows, static_cast<unsigned>((p.table.cols + kThreads - 1) / kThreads));
  // After all that was queued, a step's arrays among it: kernels behind rely on that.
  EmbedKernel<<<grid, kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t LaunchAddNorm(const AddNormParameters& p, int rows, cudaStream_t stream) {
  if (PlainRms(p)) {
    const dim3 grid(rows);
    if (p.hidden <= 4 * kNormThreads) {
      return LaunchAfter(AddRmsNormKernel<1>, grid, kNormThreads, 0, stream, p);
    }
    if (p.hidden <= 8 * kNormThreads) {
      return LaunchAfter(AddRmsNormKernel<2>, grid, kNormThreads, 0, stream, p);
    }
    return LaunchAfter(AddRmsNormKernel<kMostQuads>, grid, kNormThreads, 0, stream, p);
  }
  const auto bytes = static_cast<int64_t>(p.hidden * sizeof(float));
  const cudaError_t error = cudaFuncSetAttribute(
      AddNormKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) return error;
  return LaunchAfter(AddNormKernel, dim3(rows), kNormThreads, bytes, stream, p);
}

cudaError_t LaunchRoundToInt8(const Matrix& from, const Int8Rows& to, int64_t width, int rows,
                              cudaStream_t stream) {
  if (TakesEightsToInt8(from, width)) return LaunchEightsToInt8(from, to, width, rows, stream);
  if (width <= 4 * kRoundQuads * kRoundThreads) {
    return LaunchAfter(RoundShortToInt8Kernel, dim3(rows), kRoundThreads, 0, stream, from, to,
                       width);
  }
  return LaunchAfter(RoundToInt8Kernel, dim3(rows), kNormThreads, 0, stream, from, to, width);
}

cudaError_t LaunchHeads(const HeadsParameters& p, int rows, cudaStream_t stream) {
  constexpr int kManyRows = 64;
  if (!p.by_one_kernel && rows >= kManyRows && TakesManyHeads(p)) {
    return LaunchManyHeads(p, rows, stream);
  }
  const int heads = p.shape.num_heads + 2 * p.shape.num_kv_heads;
  const dim3 grid(rows, (heads + kHeadWarps - 1) / kHeadWarps);
  const int64_t shared_values = 2 * p.rotated_pairs + kHeadWarps * p.shape.head_dim;
  return LaunchAfter(HeadsKernel, grid, kHeadWarps * kWarpLanes,
                     shared_values * static_cast<int64_t>(sizeof(float)), stream, p);
}

bool ActivatesToInt8(const ActivateParameters& p) {
  return GatesQuads(p) && p.width % 16 == 0 && p.width <= 4 * kMostGateQuads * kNormThreads;
}

cudaError_t LaunchActivate(const ActivateParameters& p, int rows, cudaStream_t stream) {
  if (TakesEights(p)) return LaunchGateEights(p, rows, stream);
  if (p.int8.codes != nullptr) {
    const dim3 grid(rows);
    if (p.width <= 4 * 2 * kNormThreads) {
      return LaunchAfter(GateToInt8Kernel<2>, grid, kNormThreads, 0, stream, p);
    }
    if (p.width <= 4 * 7 * kNormThreads) {  // 14,336
      return LaunchAfter(GateToInt8Kernel<7>, grid, kNormThreads, 0, stream, p);
    }
    return LaunchAfter(GateToInt8Kernel<kMostGateQuads>, grid, kNormThreads, 0, stream, p);
  }
  if (!GatesQuads(p)) {
    return LaunchAfter(ActivateKernel, RowsAndColumns(rows, p.width), kThreads, 0, stream, p);
  }
  const dim3 grid(rows, static_cast<unsigned>((p.width / 4 + kThreads - 1) / kThreads));
  return LaunchAfter(GateKernel, grid, kThreads, 0, stream, p);
}

cudaError_t LaunchLogits(const LogitsParameters& p, int rows, cudaStream_t stream) {
  return LaunchAfter(LogitsKernel, RowsAndColumns(rows, p.vocab), kThreads, 0, stream, p);
}

cudaError_t LaunchConvert(const Matrix& from, const Matrix& to, int64_t width, int rows,
                          cudaStream_t stream) {
  return LaunchAfter(ConvertKernel, dim3(rows), kThreads, 0, stream, from, to, width);
}

}  // namespace vernier::cuda
