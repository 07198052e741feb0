// y = x W^T for packed quantized weights: the one door to the GEMM kernels.
//
// PlanGemm chooses (pure); LaunchGemm queues it. All pointers are device
// memory. A kernel starts to read its weights before the kernel ahead of it on the stream has ended
// (programmatic dependent launch), so nothing queued may still be writing them; x and y have no
// such restriction. Sums are fp32 and their order is fixed: two runs are equal bit for bit. Any
// thread may call.
#pragma once

#include <cuda_runtime_api.h>

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

struct GemmOperands {
  const void* x = nullptr;            // [rows, inputs] 16-bit, 16-byte aligned
  const uint8_t* weight = nullptr;    // [PackedBytes(encoding, outputs, inputs)], 16-byte aligned
  const float* row_scales = nullptr;  // int8: [RecordGroups(outputs) * 32]; nf4: unused
  void* y = nullptr;                  // [rows, outputs] 16-bit, 16-byte aligned
};

// The kernels that there are; each file opens with what it does.
enum class GemmKernel : uint8_t { kRows16, kWide };

// How a problem is laid over the device; printable.
struct GemmPlan {
  GemmKernel kernel = GemmKernel::kRows16;
  int tile_tokens = 0;  // rows of x that a block multiplies at once
  int cluster = 0;      // blocks that share their outputs, each with a slice of K
  int clusters = 0;
  int ring = 0;          // kRows16: stages of weights under way a block
  int shared_bytes = 0;  // kRows16
};

// The plan that should be fastest, by measured costs (gemm.cu, gemm_wide.cu). cudaErrorInvalidValue
// when the problem's sizes are outside what the fields above say.
cudaError_t PlanGemm(const GemmProblem& problem, GemmPlan* plan);

// Every plan that can run a problem, for measuring; returns how many of `capacity` were written.
int ListGemmPlans(const GemmProblem& problem, GemmPlan* plans, int capacity);

// REQUIRES: a plan made for this problem. The error of the launch; what fails on the device shows
// at the stream's next synchronization.
cudaError_t LaunchGemm(const GemmProblem& problem, const GemmPlan& plan,
                       const GemmOperands& operands, cudaStream_t stream);

}  // namespace vernier::cuda
