// y = x W^T for a weight in any encoding: our own kernels for records and for few rows of 16-bit
// weights, cuBLASLt for many, fp32 loops for the rest.
//
// Chosen by encoding, shape and rows. Where results are to be deterministic, rows are multiplied in
// groups by one plan, which encoding and shape choose: a row's bits then depend on nothing else.
// Before Hopper gemm_portable multiplies all records, and cuBLASLt all 16-bit weights. One thread,
// one stream.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "absl/status/statusor.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/device_types.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/module.h"

namespace vernier::cuda {

// Past this many rows cuBLASLt multiplies whole multiples, so that few plans serve all batches: x
// and y have room for them, and rows past the last hold anything.
inline constexpr int kRowPadding = 64;
// Rows that cuBLASLt always multiplies at once where results are to be deterministic.
inline constexpr int kDeterministicRows = 128;

class Multiplier {
 public:
  static absl::StatusOr<std::unique_ptr<Multiplier>> Create(cudaStream_t stream,
                                                            const CudaOptions& options);
  ~Multiplier();
  Multiplier(const Multiplier&) = delete;
  Multiplier& operator=(const Multiplier&) = delete;

  // The type that x must have for a weight.
  static Scalar InputOf(const DeviceWeight& weight);
  // The type that y has at most: what is asked for, where the kernel can make it.
  static Scalar OutputOf(const DeviceWeight& weight, Scalar wanted);

  // x and y have room for whole multiples of this many rows.
  int row_room() const { return options_.deterministic ? kDeterministicRows : kRowPadding; }

  // Whether MultiplyInt8 takes a weight: int8 records, and sums that fit 32 bits.
  static bool TakesInt8(const DeviceWeight& weight);

  // `x` [rows, weight.cols] without gaps, of InputOf's type; `y` [rows, weight.rows] without gaps,
  // of a type that OutputOf gives.
  cudaError_t Multiply(const DeviceWeight& weight, const Matrix& x, const Matrix& y, int rows);

  // The same of int8 x; a row of y does not depend on the others. REQUIRES: TakesInt8; `y` fp16.
  cudaError_t MultiplyInt8(const DeviceWeight& weight, const Int8Rows& x, const Matrix& y,
                           int rows);

  // Whether MultiplyFew takes a weight and a number of rows.
  bool TakesFew(const DeviceWeight& weight, int rows) const;
  // A product with what `operands` says around it (gemm.h); its weight, scales and workspace are
  // filled in here, and x has InputOf's type. REQUIRES: TakesFew.
  cudaError_t MultiplyFew(const DeviceWeight& weight, GemmOperands operands, int rows);
  // Whether MultiplyGate takes a weight: records, first the gate's rows, then as many that it
  // gates.
  bool TakesGate(const DeviceWeight& weight) const;
  // y [rows, weight.rows / 2], of x's type and without gaps = act(gate) * up, both rounded to that
  // type before. REQUIRES: TakesGate.
  cudaError_t MultiplyGate(const DeviceWeight& weight, Gating gating, const Matrix& x, void* y,
                           int rows);
  // Parts of a row's sum of squares that MultiplyFew leaves with GemmResult::kResidual.
  static int SquaresOfFew(const DeviceWeight& weight, int rows);

  int64_t workspace_bytes() const { return cublas_workspace_.bytes() + gemm_workspace_.bytes(); }

 private:
  // A product of cuBLASLt's, planned once.
  struct DensePlan {
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
    cublasLtMatmulAlgo_t algorithm = {};
    bool valid = false;
  };
  using DenseKey =
      std::tuple<Scalar, Scalar, int64_t, int64_t, int>;  // x, y, outputs, inputs, rows

  Multiplier(cudaStream_t stream, const CudaOptions& options)
      : stream_(stream), options_(options) {}
  cudaError_t MultiplyDense(const DeviceWeight& weight, const Matrix& x, const Matrix& y, int rows);
  cudaError_t MultiplyOurs(const DeviceWeight& weight, const GemmProblem& problem,
                           GemmOperands operands);
  cudaError_t MultiplyRecords(const DeviceWeight& weight, const Matrix& x, const Matrix& y,
                              int rows);
  const DensePlan* PlanDense(const DenseKey& key);

  const cudaStream_t stream_;
  const CudaOptions options_;
  cublasLtHandle_t cublas_ = nullptr;
  DeviceBuffer cublas_workspace_, gemm_workspace_;
  std::map<DenseKey, DensePlan> plans_;
};

}  // namespace vernier::cuda
