// y = x W^T by mma.sync, for devices that have not the instructions of Hopper: right, and within
// some times of the memory's speed.
//
// A block of threads has 64 outputs and 64 rows of x; a warp 16 of the outputs, whose registers it
// decodes from its records, which it reads itself, a block of 64 columns ahead. x comes through two
// stages of shared memory. All columns are summed by one warp from the first to the last, so that
// neither the number of rows nor the device changes a bit. NF4: the sums of a block of columns are
// made from the bare codes and multiplied by absmax as they are added.
//
// Limits: columns a multiple of 64; outputs and rows of x any number.
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/gemm_portable.h"
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kWarps = kGroupRows / kTileRows;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kTokens = 64;  // rows of x
constexpr int kStages = 2;
constexpr int kStageBytes = kTokens * kValueRowBytes;
constexpr int kChunks = kValueRowBytes / 16;  // of a row of x
constexpr int kSteps = kRecordCols / 16;
constexpr int kTokenTiles = kTokens / 8;

struct Arguments {
  const uint8_t* weight;
  const float* row_scales;  // int8
  const __half* x;
  __half* y;
  int rows;
  int outputs;
  int inputs;
  Codebook codebook;
};

// A lane's share of the decoder's tile before its scale.
template <class Decoder, bool kHasTable = Decoder::kHasTable>
struct TileOf {
  using Type = typename Decoder::BareTile;
};
template <class Decoder>
struct TileOf<Decoder, false> {
  using Type = typename Decoder::ScaledTile;
};

// Queues copies of columns `first_col` and on of the block's rows of x; zeros past the last row.
__device__ void CopyX(const Arguments& args, int first_token, int first_col, uint32_t to) {
  for (int i = threadIdx.x; i < kTokens * kChunks; i += kThreads) {
    const int token = i / kChunks, chunk = i % kChunks,
              row = min(first_token + token, args.rows - 1);
    const __half* const from = args.x + static_cast<int64_t>(row) * args.inputs + first_col;
    CopyAsync16(to + token * kValueRowBytes + (chunk ^ token % 8) * 16, from + chunk * 8,
                first_token + token < args.rows);
  }
}

// sums += a tile of the weight times 64 columns of x.
template <class Tile>
__device__ void MultiplyBlock(const Tile& tile, const uint8_t* table, uint32_t x, int tokens,
                              float (&sums)[kTokenTiles][4]) {
  const int lane = threadIdx.x % kWarpLanes;
  // Matrices 0 and 1: eight rows of x, two chunks; 2 and 3: the next eight.
  const uint32_t own = x + (lane / 16 * 8 + lane % 8) * kValueRowBytes;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t a[4];
    tile.Decode(table, lane * 4, step, a);
    const uint32_t chunk = (2 * step + lane / 8 % 2 ^ lane % 8) * 16;
#pragma unroll
    for (int pair = 0; pair < kTokenTiles / 2; ++pair) {
      if (pair * 16 >= tokens) break;
      uint32_t b[4];
      LoadMatrix4(own + pair * 16 * kValueRowBytes + chunk, b);
      Multiply<__half>(a, b[0], b[1], sums[2 * pair]);
      Multiply<__half>(a, b[2], b[3], sums[2 * pair + 1]);
    }
  }
}

template <class Decoder>
__global__ void __launch_bounds__(kThreads) PortableKernel(const Arguments args) {
  using Tile = typename TileOf<Decoder>::Type;
  extern __shared__ __align__(128) uint8_t shared[];  // x, then the table
  uint8_t* const table = shared + kStages * kStageBytes;
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  const int first_token = blockIdx.y * kTokens;
  const int tokens = min(kTokens, args.rows - first_token);
  const int blocks = args.inputs / kRecordCols;
  const int64_t group = blockIdx.x * (kGroupRows / kRecordRows) + warp / kTilesPerRecord;
  const uint8_t* const records = args.weight + group * blocks * Decoder::kRecordBytes;
  const auto stage = [&](int block) {
    return SharedAddress(shared) + block % kStages * kStageBytes;
  };
  AwaitKernelAhead();
  if constexpr (Decoder::kHasTable) BuildPairTable<__half>(args.codebook, table, kThreads);
  CopyX(args, first_token, 0, stage(0));
  CommitCopies();
  const typename Decoder::Place place(warp % kTilesPerRecord, lane);
  Tile next;
  next.Load(records, place);
  float sums[kTokenTiles][4] = {};
#pragma unroll 1
  for (int block = 0; block < blocks; ++block) {
    const Tile tile = next;
    if (block + 1 < blocks) {
      next.Load(records + (block + 1) * Decoder::kRecordBytes, place);
      CopyX(args, first_token, (block + 1) * kRecordCols, stage(block + 1));
    }
    CommitCopies();
    AwaitCopies<1>();
    __syncthreads();
    if constexpr (Decoder::kHasTable) {
      float of_block[kTokenTiles][4] = {};
      MultiplyBlock(tile, table, stage(block), tokens, of_block);
#pragma unroll
      for (int i = 0; i < kTokenTiles * 4; ++i) {
        float& sum = sums[i / 4][i % 4];
        sum = __fmaf_rn(of_block[i / 4][i % 4], i % 4 < 2 ? tile.absmax.x : tile.absmax.y, sum);
      }
    } else {
      MultiplyBlock(tile, table, stage(block), tokens, sums);
    }
    __syncthreads();
  }
  const int first_output = blockIdx.x * kGroupRows + warp * kTileRows + lane / 4;
#pragma unroll
  for (int i = 0; i < kTokenTiles * 4; ++i) {
    const int token = i / 4 * 8 + lane % 4 * 2 + i % 2, output = first_output + i % 4 / 2 * 8;
    if (token >= tokens || output >= args.outputs) continue;
    const float scale = Decoder::kHasTable ? args.codebook.inverse : args.row_scales[output];
    args.y[static_cast<int64_t>(first_token + token) * args.outputs + output] =
        __float2half_rn(sums[i / 4][i % 4] * scale);
  }
}

template <class Decoder>
cudaError_t Launch(const Arguments& args, cudaStream_t stream) {
  constexpr int kBytes = kStages * kStageBytes + (Decoder::kHasTable ? kPairTableBytes : 0);
  const auto kernel = PortableKernel<Decoder>;
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (prepared != cudaSuccess) return prepared;
  const dim3 grid((args.outputs + kGroupRows - 1) / kGroupRows,
                  (args.rows + kTokens - 1) / kTokens);
  return LaunchAfter(kernel, grid, kThreads, kBytes, stream, args);
}

}  // namespace

cudaError_t LaunchPortable(const GemmProblem& problem, const GemmOperands& operands,
                           cudaStream_t stream) {
  const Arguments args = {operands.weight,
                          operands.row_scales,
                          static_cast<const __half*>(operands.x),
                          static_cast<__half*>(operands.y),
                          problem.rows,
                          problem.outputs,
                          problem.inputs,
                          Codebook(problem.encoding, problem.activation)};
  return IsFourBits(problem.encoding) ? Launch<FourBitDecoder<__half>>(args, stream)
                                      : Launch<Int8Decoder<__half>>(args, stream);
}

}  // namespace vernier::cuda
