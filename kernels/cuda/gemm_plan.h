// What is to be multiplied, and how it is laid over the device: plain values, no CUDA.
#pragma once

#include <cstdint>

#include "kernels/cuda/packed_layout.h"

namespace vernier::cuda {

// What x holds, and y too. kInt8: codes of -127 to 127 in the order of Int8XPosition, with a scale
// a row; the weight is int8 then, sums are whole numbers, and y is fp16.
enum class Activation : uint8_t { kF16, kBF16, kInt8 };
// The most inputs of int8 x: a sum of as many products of -128 to 127 and -127 to 127 fits 32 bits.
inline constexpr int kMostInt8Inputs = 1 << 17;
static_assert(int64_t{kMostInt8Inputs} * 128 * 127 <= INT32_MAX);

struct GemmProblem {
  PackedEncoding encoding = PackedEncoding::kNf4;
  Activation activation = Activation::kF16;
  int rows = 0;        // of x: tokens in the step
  int outputs = 0;     // N, rows of the weight
  int inputs = 0;      // K, a multiple of 64, at most kMostInputs
  bool gated = false;  // kWide: GemmResult::kGate; outputs are a multiple of 128 then
};

// The most inputs at all: the places of their blocks are counted in 32 bits (gemm_wide_plan.h).
inline constexpr int kMostInputs = 1 << 24;
// Inputs that are multiplied as one block: 128 bytes of a row of x.
VERNIER_HOST_DEVICE constexpr int BlockCols(Activation activation) {
  return activation == Activation::kInt8 ? 2 * kRecordCols : kRecordCols;
}

// The kernels that there are; each file opens with what it does.
enum class GemmKernel : uint8_t { kRows16, kWide };

// How a problem is laid over the device; printable.
struct GemmPlan {
  GemmKernel kernel = GemmKernel::kRows16;
  int tile_tokens = 0;  // rows of x that a block multiplies at once
  int cluster = 0;      // blocks that share their outputs or their rows of x
  int clusters = 0;
  int ring = 0;          // kRows16: stages of weights under way a block
  int shared_bytes = 0;  // kRows16
  int slices = 0;        // kWide: of K inside a block
  int cuts = 0;          // kWide: of each tile of the line; 0: it is shared evenly (WideSchedule)
};

}  // namespace vernier::cuda
