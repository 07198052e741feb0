// What is to be multiplied, and how it is laid over the device: plain values, no CUDA.
#pragma once

#include <cstdint>

#include "kernels/cuda/packed_layout.h"

namespace vernier::cuda {

enum class Activation : uint8_t { kF16, kBF16 };

struct GemmProblem {
  PackedEncoding encoding = PackedEncoding::kNf4;
  Activation activation = Activation::kF16;  // of x and y
  int rows = 0;                              // of x: tokens in the step
  int outputs = 0;                           // N, rows of the weight
  int inputs = 0;                            // K, a multiple of 64
};

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
};

}  // namespace vernier::cuda
