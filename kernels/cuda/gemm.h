// y = x W^T for packed quantized weights: the one door to the GEMM kernels.
//
// Plan chooses a kernel by rows of a table (pure); Launch queues it. All pointers are device
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

// The largest number of rows that Launch takes.
inline constexpr int kMaxGemmRows = 16;

// How a problem is laid over the device; printable, chosen by PlanGemm.
struct GemmPlan {
  int column_blocks = 0;  // of 8 rows of x
  int cluster = 0;        // blocks that share a row group, each with a slice of K
  int clusters = 0;
  int ring = 0;  // stages of weights under way a block
  int shared_bytes = 0;
};

// cudaErrorInvalidValue when the problem's sizes are outside what the fields above say.
cudaError_t PlanGemm(const GemmProblem& problem, GemmPlan* plan);

// The error of the plan or the launch; what fails on the device shows at the stream's next
// synchronization.
cudaError_t LaunchGemm(const GemmProblem& problem, const GemmOperands& operands,
                       cudaStream_t stream);

}  // namespace vernier::cuda
