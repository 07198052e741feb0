// y = x W^T for packed quantized weights, and for few rows of 16-bit ones: the one door to the GEMM
// kernels.
//
// PlanGemm chooses (pure); LaunchGemm queues it. All pointers are device memory. A kernel starts to
// read its weights before the kernel ahead of it on the stream has ended (programmatic dependent
// launch), so nothing queued may still be writing them; x and y have no such restriction. Sums are
// fp32 and their order is fixed: two runs are equal bit for bit. Those of int8 x are exact: a row
// of y is the same among any others. Any thread may call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/gemm_wide_plan.h"

namespace vernier::cuda {

// Sums that multiprocessors pass to each other, and counters, which every launch leaves zero.
inline constexpr int64_t kGemmWorkspaceBytes = kWideWorkspaceBytes;

// x = norm(residual), made by the product itself: RMS without a bias.
struct NormedX {
  const float* weighted = nullptr;  // [.., inputs] residual * the norm's weight; null: x is given
  float epsilon = 0;
  const float* squares =
      nullptr;  // [residual row][kMostSquares]: parts of the row's sum of squares
  int parts = 0;
  const int32_t* chosen = nullptr;  // row i of x is of residual row chosen[i]; null: row i
};
// Parts of a row's sum of squares that GemmResult::kResidual leaves: two a multiprocessor.
inline constexpr int kMostSquares = 264;

// What becomes of the sums.
enum class GemmResult : uint8_t {
  kStore,     // y, 16-bit
  kFloat,     // y, fp32
  kResidual,  // y fp32 += sums; y * the next norm's weight, and parts of y's rows' sums of squares
  kGate,      // y [rows, outputs / 2] 16-bit = act(first half of the outputs) * second half
};

struct GemmOperands {
  const void* x = nullptr;            // [rows, inputs] 16-bit or int8, 16-byte aligned
  const float* x_scales = nullptr;    // int8 x: [rows]
  const uint8_t* weight = nullptr;    // [PackedBytes(encoding, outputs, inputs)], 16-byte aligned
  const float* row_scales = nullptr;  // int8: [RecordGroups(outputs) * 32]; nf4: unused
  void* y = nullptr;                  // [rows, outputs] 16-bit, 16-byte aligned
  // kGate: plans of GemmKernel::kRows16, and of kWide for problems that are `gated`.
  GemmResult result = GemmResult::kStore;
  Gating gating = Gating::kSilu;  // kGate; outputs are a multiple of 128 then
  // For plans of GemmKernel::kRows16 alone, as are the other results.
  NormedX normed;
  const float* next_norm = nullptr;  // kResidual: [outputs]; null: no norm follows
  float* weighted = nullptr;         // kResidual with next_norm: [rows, outputs]
  float* squares = nullptr;  // kResidual: [rows][kMostSquares], the first SquaresOf(plan) used
  // [kGemmWorkspaceBytes], 16-byte aligned, zero before its first use (over anything else a launch
  // may never end); for one stream at a time.
  void* workspace = nullptr;
};

// The plan that should be fastest, by measured costs (gemm_wide_plan.cc). cudaErrorInvalidValue
// when the problem's sizes are outside what its fields say.
cudaError_t PlanGemm(const GemmProblem& problem, GemmPlan* plan);

// Parts of a row's sum of squares that a plan of GemmKernel::kRows16 leaves.
int SquaresOf(const GemmPlan& plan);

// Every plan that can run a problem, for measuring; returns how many of `capacity` were written.
int ListGemmPlans(const GemmProblem& problem, GemmPlan* plans, int capacity);

// REQUIRES: a plan made for this problem. The error of the launch; what fails on the device shows
// at the stream's next synchronization.
cudaError_t LaunchGemm(const GemmProblem& problem, const GemmPlan& plan,
                       const GemmOperands& operands, cudaStream_t stream);

}  // namespace vernier::cuda
