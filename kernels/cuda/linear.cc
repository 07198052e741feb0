#include "kernels/cuda/linear.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/gemm_portable.h"
#include "kernels/cuda/gemm_rows16.h"
#include "kernels/cuda/gemm_wide_plan.h"
#include "kernels/cuda/linear_plain.h"

namespace vernier::cuda {
namespace {

constexpr int64_t kCublasWorkspaceBytes = 32 << 20;  // what NVIDIA advises for Hopper

cudaDataType_t CudaTypeOf(Scalar type) {
  if (type == Scalar::kF16) return CUDA_R_16F;
  return type == Scalar::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

bool IsRecords(const DeviceWeight& weight) {
  return weight.encoding == Encoding::kInt8Records || weight.encoding == Encoding::kNf4Records;
}

// Rows of 16 bytes, as the tensor cores' kernels of cuBLASLt want them.
bool IsDense(const DeviceWeight& weight) {
  return (weight.encoding == Encoding::kF16 || weight.encoding == Encoding::kBF16) &&
         weight.rows % 8 == 0 && weight.cols % 8 == 0;
}

GemmProblem ProblemOf(const DeviceWeight& weight, Activation activation, int rows) {
  PackedEncoding encoding = PackedEncoding::kValues;
  if (weight.encoding == Encoding::kNf4Records) encoding = PackedEncoding::kNf4;
  if (weight.encoding == Encoding::kInt8Records) encoding = PackedEncoding::kInt8;
  return {.encoding = encoding,
          .activation = activation,
          .rows = rows,
          .outputs = static_cast<int>(weight.rows),
          .inputs = static_cast<int>(weight.cols)};
}

// Of few rows; x has InputOf's type.
GemmProblem FewProblem(const DeviceWeight& weight, int rows) {
  const bool bf16 = weight.encoding == Encoding::kBF16;
  return ProblemOf(weight, bf16 ? Activation::kBF16 : Activation::kF16, rows);
}

// The plan for it; of another kernel, or of no clusters, where there is none.
GemmPlan PlanFew(const DeviceWeight& weight, int rows) {
  GemmPlan plan{.kernel = GemmKernel::kWide};
  if ((IsRecords(weight) || IsDense(weight)) && rows <= kRows16Tokens) {
    if (PlanGemm(FewProblem(weight, rows), &plan) != cudaSuccess) {
      plan = {.kernel = GemmKernel::kWide};
    }
  }
  return plan;
}

// Rows first_row and on of a matrix without gaps.
Matrix RowsFrom(const Matrix& matrix, int first_row) {
  return {static_cast<uint8_t*>(matrix.data) + first_row * matrix.stride * ScalarSize(matrix.type),
          matrix.type, matrix.stride};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Multiplier>> Multiplier::Create(cudaStream_t stream,
                                                               const CudaOptions& options) {
  auto multiplier = std::unique_ptr<Multiplier>(new Multiplier(stream, options));
  const cublasStatus_t status = cublasLtCreate(&multiplier->cublas_);
  if (status != CUBLAS_STATUS_SUCCESS) {
    return absl::InternalError(absl::StrCat("cublasLtCreate: ", cublasLtGetStatusString(status)));
  }
  absl::StatusOr<DeviceBuffer> buffer =
      DeviceBuffer::Allocate(kCublasWorkspaceBytes, "the workspace of cuBLASLt");
  if (!buffer.ok()) return buffer.status();
  multiplier->cublas_workspace_ = *std::move(buffer);
  buffer = DeviceBuffer::Allocate(kGemmWorkspaceBytes, "the workspace of the GEMM kernels");
  if (!buffer.ok()) return buffer.status();
  multiplier->gemm_workspace_ = *std::move(buffer);
  const cudaError_t error =
      cudaMemsetAsync(multiplier->gemm_workspace_.as<void>(), 0, kGemmWorkspaceBytes, stream);
  if (error != cudaSuccess) return StatusOf(error, "clearing the GEMM workspace");
  return multiplier;
}

Multiplier::~Multiplier() {
  for (auto& [key, plan] : plans_) {
    cublasLtMatrixLayoutDestroy(plan.w);
    cublasLtMatrixLayoutDestroy(plan.x);
    cublasLtMatrixLayoutDestroy(plan.y);
    cublasLtMatmulDescDestroy(plan.product);
  }
  if (cublas_ != nullptr) cublasLtDestroy(cublas_);
}

Scalar Multiplier::InputOf(const DeviceWeight& weight) {
  if (IsRecords(weight)) return Scalar::kF16;
  if (!IsDense(weight)) return Scalar::kF32;
  return weight.encoding == Encoding::kF16 ? Scalar::kF16 : Scalar::kBF16;
}

Scalar Multiplier::OutputOf(const DeviceWeight& weight, Scalar wanted) {
  const bool fixed = IsRecords(weight) || !IsDense(weight) || wanted != Scalar::kF32;
  return fixed ? InputOf(weight) : wanted;
}

cudaError_t Multiplier::Multiply(const DeviceWeight& weight, const Matrix& x, const Matrix& y,
                                 int rows) {
  if (IsRecords(weight)) {
    return MultiplyRecords(weight, x, y, rows);
  }
  if (IsDense(weight) && TakesFew(weight, rows)) {
    const GemmResult result = y.type == Scalar::kF32 ? GemmResult::kFloat : GemmResult::kStore;
    return MultiplyFew(weight, {.x = x.data, .y = y.data, .result = result}, rows);
  }
  if (IsDense(weight)) return MultiplyDense(weight, x, y, rows);
  return LaunchLinearPlain(weight, x, y, rows, stream_);
}

bool Multiplier::TakesInt8(const DeviceWeight& weight) {
  return weight.encoding == Encoding::kInt8Records && weight.cols <= kMostInt8Inputs;
}

cudaError_t Multiplier::MultiplyInt8(const DeviceWeight& weight, const Int8Rows& x, const Matrix& y,
                                     int rows) {
  return MultiplyOurs(weight, ProblemOf(weight, Activation::kInt8, rows),
                      {.x = x.codes, .x_scales = x.scales, .y = y.data});
}

bool Multiplier::TakesFew(const DeviceWeight& weight, int rows) const {
  if (options_.deterministic || options_.portable) return false;
  return PlanFew(weight, rows).kernel == GemmKernel::kRows16;
}

int Multiplier::SquaresOfFew(const DeviceWeight& weight, int rows) {
  return SquaresOf(PlanFew(weight, rows));
}

cudaError_t Multiplier::MultiplyFew(const DeviceWeight& weight, GemmOperands operands, int rows) {
  return MultiplyOurs(weight, FewProblem(weight, rows), operands);
}

bool Multiplier::TakesGate(const DeviceWeight& weight) const {
  return IsRecords(weight) && weight.rows % (2 * kGroupRows) == 0 && !options_.deterministic &&
         !options_.portable;
}

cudaError_t Multiplier::MultiplyGate(const DeviceWeight& weight, Gating gating, const Matrix& x,
                                     void* y, int rows) {
  GemmProblem problem = ProblemOf(weight, Activation::kF16, rows);
  problem.gated = true;
  return MultiplyOurs(weight, problem,
                      {.x = x.data, .y = y, .result = GemmResult::kGate, .gating = gating});
}

cudaError_t Multiplier::MultiplyOurs(const DeviceWeight& weight, const GemmProblem& problem,
                                     GemmOperands operands) {
  GemmPlan plan;
  const cudaError_t error = PlanGemm(problem, &plan);
  if (error != cudaSuccess) return error;
  operands.weight = weight.codes;
  operands.row_scales = weight.scales;
  operands.workspace = gemm_workspace_.as<void>();
  return LaunchGemm(problem, plan, operands, stream_);
}

cudaError_t Multiplier::MultiplyRecords(const DeviceWeight& weight, const Matrix& x,
                                        const Matrix& y, int rows) {
  if (options_.portable) {
    return LaunchPortable(
        ProblemOf(weight, Activation::kF16, rows),
        {.x = x.data, .weight = weight.codes, .row_scales = weight.scales, .y = y.data}, stream_);
  }
  if (!options_.deterministic) {
    return MultiplyOurs(weight, ProblemOf(weight, Activation::kF16, rows),
                        {.x = x.data, .y = y.data});
  }
  GemmProblem problem = ProblemOf(weight, Activation::kF16, rows);
  const int most = FixedTokens(problem);
  for (int first = 0; first < rows; first += most) {
    problem.rows = std::min(most, rows - first);
    const GemmOperands operands{.x = RowsFrom(x, first).data,
                                .weight = weight.codes,
                                .row_scales = weight.scales,
                                .y = RowsFrom(y, first).data,
                                .workspace = gemm_workspace_.as<void>()};
    const cudaError_t error = LaunchGemm(problem, PlanFixed(problem), operands, stream_);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

// Column-major, as cuBLASLt sees it: y [outputs, rows] = w^T [outputs, inputs] x [inputs, rows].
const Multiplier::DensePlan* Multiplier::PlanDense(const DenseKey& key) {
  if (const auto known = plans_.find(key); known != plans_.end()) {
    return known->second.valid ? &known->second : nullptr;
  }
  const auto [x_type, y_type, outputs, inputs, rows] = key;
  DensePlan plan;
  const cublasOperation_t transposed = CUBLAS_OP_T;
  cublasLtMatmulPreference_t preference = nullptr;
  const uint64_t workspace = static_cast<uint64_t>(kCublasWorkspaceBytes);
  const uint32_t alignment = 16;
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)) == 0;
  };
  cublasLtMatmulHeuristicResult_t result = {};
  int found = 0;
  const bool planned =
      cublasLtMatmulDescCreate(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F) == 0 &&
      cublasLtMatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                     sizeof(transposed)) == 0 &&
      cublasLtMatrixLayoutCreate(&plan.w, CudaTypeOf(x_type), inputs, outputs, inputs) == 0 &&
      cublasLtMatrixLayoutCreate(&plan.x, CudaTypeOf(x_type), inputs, rows, inputs) == 0 &&
      cublasLtMatrixLayoutCreate(&plan.y, CudaTypeOf(y_type), outputs, rows, outputs) == 0 &&
      cublasLtMatmulPreferenceCreate(&preference) == 0 &&
      prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment) &&
      cublasLtMatmulAlgoGetHeuristic(cublas_, plan.product, plan.w, plan.x, plan.y, plan.y,
                                     preference, 1, &result, &found) == 0 &&
      found == 1;
  if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  plan.algorithm = result.algo;
  plan.valid = planned;
  // Kept also when it failed, so that the destructor finds what was made.
  const DensePlan* kept = &plans_.emplace(key, plan).first->second;
  return planned ? kept : nullptr;
}

cudaError_t Multiplier::MultiplyDense(const DeviceWeight& weight, const Matrix& x, const Matrix& y,
                                      int rows) {
  if (options_.deterministic && rows > kDeterministicRows) {
    for (int first = 0; first < rows; first += kDeterministicRows) {
      const cudaError_t error = MultiplyDense(weight, RowsFrom(x, first), RowsFrom(y, first),
                                              std::min(kDeterministicRows, rows - first));
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }
  int padded = rows > kRowPadding ? (rows + kRowPadding - 1) / kRowPadding * kRowPadding : rows;
  if (options_.deterministic) padded = kDeterministicRows;
  const DensePlan* plan = PlanDense({x.type, y.type, weight.rows, weight.cols, padded});
  if (plan == nullptr) return cudaErrorNotSupported;
  const float one = 1, zero = 0;
  const cublasStatus_t status =
      cublasLtMatmul(cublas_, plan->product, &one, weight.codes, plan->w, x.data, plan->x, &zero,
                     y.data, plan->y, y.data, plan->y, &plan->algorithm,
                     cublas_workspace_.as<void>(), kCublasWorkspaceBytes, stream_);
  return status == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorLaunchFailure;
}

}  // namespace vernier::cuda
