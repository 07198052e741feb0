// What gemm_bench times of ours and of cuBLASLt: each owns its weights, knows how to launch with
// copy number i of them, and can be held to a reference in double.
//
// A CUDA or cuBLASLt error ends the program with its place. One thread.
#pragma once

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/pack_device.h"
#include "tests/bench/gemm_bench_device.h"
#include "tests/bench/gemm_bench_graphs.h"
#include "tests/bench/gemm_bench_kernels.h"
#include "tests/bench/gemm_bench_memory.h"

namespace vernier::bench {

inline constexpr size_t kWorkspaceBytes = 64ull << 20;

// ---- Error against the reference, in double, from the canonical form ----

inline double RelativeError(const CanonicalWeight& weight, const GivenX& x, const void* y, int rows,
                            bool bf16) {
  const BufferPointer squares = NewBuffer(16);
  BENCH_CHECK(cudaMemset(squares->data, 0, 16));
  AddSquares(weight, x, y, rows, bf16, squares->as<double>());
  BENCH_CHECK(cudaGetLastError());
  double host[2];
  BENCH_CHECK(cudaMemcpy(host, squares->data, 16, cudaMemcpyDeviceToHost));
  return std::sqrt(host[0] / host[1]);
}

// ---- Contestants: each owns its weights and knows how to launch with copy number i ----

// What every contestant of one shape shares.
struct Activations {
  Activations(const GemmShape& shape, int row_count, bool is_bf16)
      : rows(row_count),
        bf16(is_bf16),
        y_bytes(2ll * row_count * shape.outputs),
        x(NewBuffer(2ll * row_count * shape.inputs)),
        y(NewBuffer(2 * y_bytes)),  // cuBLASLt's int32
        codes(NewBuffer(static_cast<int64_t>(row_count) * shape.inputs)),
        scales(NewBuffer(row_count * 4ll)),
        workspace(NewBuffer(cuda::kGemmWorkspaceBytes)) {
    BENCH_CHECK(cudaMemset(workspace->data, 0, static_cast<size_t>(cuda::kGemmWorkspaceBytes)));
    FillScalars(x->data, static_cast<int64_t>(rows) * shape.inputs, 1, bf16);
    const cuda::Matrix from{x->data, bf16 ? cuda::Scalar::kBF16 : cuda::Scalar::kF16, shape.inputs};
    BENCH_CHECK(cuda::LaunchRoundToInt8(from, {codes->as<int8_t>(), scales->as<float>()},
                                        shape.inputs, rows, nullptr));
  }
  int rows;
  bool bf16;
  int64_t y_bytes;
  BufferPointer x;
  BufferPointer y;
  BufferPointer codes, scales;  // x as int8
  BufferPointer workspace;
};

// y is rounded once: half a unit at most.
inline double RoundingOf(bool bf16) { return bf16 ? 0x1p-8 : 0x1p-11; }

// `count` values of 16 bits, once the stream is done.
inline std::vector<float> ReadScalars(const void* from, int64_t count, bool bf16,
                                      cudaStream_t stream) {
  std::vector<uint16_t> bits(static_cast<size_t>(count));
  BENCH_CHECK(cudaMemcpyAsync(bits.data(), from, bits.size() * 2, cudaMemcpyDeviceToHost, stream));
  BENCH_CHECK(cudaStreamSynchronize(stream));
  std::vector<float> values(bits.size());
  for (size_t i = 0; i < bits.size(); ++i) {
    values[i] = bf16 ? __bfloat162float(__ushort_as_bfloat16(bits[i]))
                     : __half2float(__ushort_as_half(bits[i]));
  }
  return values;
}

// Runs twice over poisoned outputs: the error against the reference, and whether bits repeat.
template <class Product>
void ValidateProduct(const Product& product, const CanonicalWeight& weight, const GivenX& x,
                     const Activations& activations, bool bf16, GemmTiming* timing,
                     cudaStream_t stream) {
  const auto bytes = static_cast<size_t>(activations.y_bytes);
  std::vector<uint16_t> results[2];
  for (std::vector<uint16_t>& result : results) {
    BENCH_CHECK(cudaMemsetAsync(activations.y->data, 0xff, bytes, stream));
    product(stream);
    BENCH_CHECK(cudaStreamSynchronize(stream));
    result.resize(bytes / 2);
    BENCH_CHECK(cudaMemcpy(result.data(), activations.y->data, bytes, cudaMemcpyDeviceToHost));
  }
  timing->bits_equal = results[0] == results[1];
  timing->error = RelativeError(weight, x, activations.y->data, activations.rows, bf16);
}

class OurGemm {
 public:
  OurGemm(const GemmShape& shape, GemmFormat format, const Activations& activations,
          int most_copies = INT_MAX)
      : shape_(shape), format_(format), activations_(activations) {
    using cuda::PackedEncoding;
    problem_.encoding = is_values()                   ? PackedEncoding::kValues
                        : format == GemmFormat::kNf4  ? PackedEncoding::kNf4
                        : format == GemmFormat::kInt4 ? PackedEncoding::kInt4
                                                      : PackedEncoding::kInt8;
    const bool four_bits = cuda::IsFourBits(problem_.encoding);
    problem_.activation = int8_x()           ? cuda::Activation::kInt8
                          : activations.bf16 ? cuda::Activation::kBF16
                                             : cuda::Activation::kF16;
    problem_.rows = activations.rows;
    problem_.outputs = shape.outputs;
    problem_.inputs = shape.inputs;
    BENCH_CHECK(cuda::PlanGemm(problem_, &plan_));
    const int64_t weights = static_cast<int64_t>(shape.outputs) * shape.inputs;
    bytes_ = is_values() ? 2 * weights
                         : cuda::PackedBytes(problem_.encoding, shape.outputs, shape.inputs);
    copies_ = std::min(CopiesOf(bytes_), most_copies);
    records_ = NewBuffer(bytes_ * copies_);
    if (is_values()) {
      FillScalars(records_->data, weights * copies_, 2, activations.bf16);
      BENCH_CHECK(cudaDeviceSynchronize());
      return;
    }
    const int64_t scales =
        four_bits ? weights / group() : cuda::RecordGroups(shape.outputs) * cuda::kRecordRows;
    code_count_ = four_bits ? weights / 2 : weights;
    codes_ = NewBuffer(code_count_);
    scales_ = NewBuffer(scales * 4);
    FillBytes(codes_->as<uint8_t>(), code_count_, 2, four_bits);
    const bool nf4 = format == GemmFormat::kNf4;
    FillFloats(scales_->as<float>(), scales, 3, nf4 ? 0.02f : 1e-4f, nf4 ? 0.06f : 3e-4f);
    BENCH_CHECK(cudaGetLastError());
    uint8_t* first = records_->as<uint8_t>();
    BENCH_CHECK(nf4 ? cuda::LaunchPackNf4(codes_->as<uint8_t>(), scales_->as<float>(),
                                          shape.outputs, shape.inputs, first, nullptr)
                : four_bits
                    ? cuda::LaunchPackInt4(codes_->as<uint8_t>(), scales_->as<float>(), group(),
                                           shape.outputs, shape.inputs, first, nullptr)
                    : cuda::LaunchPackInt8(codes_->as<int8_t>(), shape.outputs, shape.inputs, first,
                                           nullptr));
    for (int i = 1; i < copies_; ++i) {
      BENCH_CHECK(cudaMemcpyAsync(first + i * bytes_, first, static_cast<size_t>(bytes_),
                                  cudaMemcpyDeviceToDevice, nullptr));
    }
    BENCH_CHECK(cudaDeviceSynchronize());
  }

  const cuda::GemmProblem& problem() const { return problem_; }
  void set_plan(const cuda::GemmPlan& plan) { plan_ = plan; }
  int copies() const { return copies_; }
  bool int8_x() const { return format_ == GemmFormat::kInt8A8; }
  bool is_values() const { return format_ == GemmFormat::kValues; }
  int group() const { return format_ == GemmFormat::kInt4 && shape_.inputs % 128 == 0 ? 128 : 64; }
  double weight_bytes() const {
    const bool row_scales = format_ == GemmFormat::kInt8 || int8_x();
    return static_cast<double>(bytes_) + (row_scales ? 4.0 * shape_.outputs : 0.0);
  }

  cuda::GemmOperands Operands(int copy) const {
    cuda::GemmOperands operands;
    operands.x = int8_x() ? activations_.codes->data : activations_.x->data;
    operands.x_scales = activations_.scales->as<float>();
    operands.weight = records_->as<uint8_t>() + copy * bytes_;
    operands.row_scales = is_values() ? nullptr : scales_->as<float>();
    operands.y = activations_.y->data;
    operands.workspace = activations_.workspace->data;
    return operands;
  }
  void operator()(int copy, cudaStream_t stream) const {
    BENCH_CHECK(cuda::LaunchGemm(problem_, plan_, Operands(copy), stream));
  }

  CanonicalWeight canonical() const {
    CanonicalWeight weight = {.four_bits = cuda::IsFourBits(problem_.encoding),
                              .linear = format_ == GemmFormat::kInt4,
                              .group = group(),
                              .outputs = shape_.outputs,
                              .inputs = shape_.inputs};
    if (is_values()) {
      weight.values = records_->data;
    } else {
      weight.codes = codes_->as<uint8_t>();
      weight.scales = scales_->as<float>();
    }
    return weight;
  }

  void Validate(GemmTiming* timing, cudaStream_t stream) const {
    const GivenX x = int8_x() ? GivenX{activations_.codes->data, activations_.scales->as<float>()}
                              : GivenX{activations_.x->data, nullptr};
    const bool bf16 = activations_.bf16 && !int8_x();
    // The codes of NF4 are rounded in the table.
    const double code = activations_.bf16 ? 1.56e-3 : 1.64e-4;
    timing->error_limit = RoundingOf(bf16) + (format_ == GemmFormat::kNf4 ? code : 0);
    ValidateProduct([this](cudaStream_t s) { (*this)(0, s); }, canonical(), x, activations_, bf16,
                    timing, stream);
    timing->weight_bytes = weight_bytes();
  }

  // Holds a gated product to a plain one and a gate of its own: the same values, rounded alike, but
  // that sums are cut elsewhere where not all tiles are cut alike, as theirs are of other outputs.
  // Where the plan takes none, does nothing.
  void ValidateGate(GemmTiming* timing, cudaStream_t stream) const {
    if (plan_.kernel != cuda::GemmKernel::kWide || int8_x() ||
        shape_.outputs % (2 * cuda::kGroupRows) != 0 || !cuda::CanGate(cuda::WideTileOf(plan_))) {
      return;
    }
    const cuda::Scalar type = activations_.bf16 ? cuda::Scalar::kBF16 : cuda::Scalar::kF16;
    const int64_t width = shape_.outputs / 2;
    const BufferPointer wanted = NewBuffer(activations_.y_bytes / 2);
    (*this)(0, stream);
    auto* const gates = activations_.y->as<uint16_t>();
    BENCH_CHECK(cuda::LaunchActivate({.kind = cuda::Gating::kSilu,
                                      .width = width,
                                      .gate = {gates, type, shape_.outputs},
                                      .up = {gates + width, type, shape_.outputs},
                                      .out = {wanted->data, type, width}},
                                     activations_.rows, stream));
    const std::vector<float> before =
        ReadScalars(wanted->data, activations_.y_bytes / 4, activations_.bf16, stream);
    BENCH_CHECK(cudaMemsetAsync(activations_.y->data, 0xff,
                                static_cast<size_t>(activations_.y_bytes), stream));
    cuda::GemmProblem gated = problem_;
    gated.gated = true;
    cuda::GemmOperands operands = Operands(0);
    operands.result = cuda::GemmResult::kGate;
    BENCH_CHECK(cuda::LaunchGemm(gated, plan_, operands, stream));
    const std::vector<float> after =
        ReadScalars(activations_.y->data, activations_.y_bytes / 4, activations_.bf16, stream);
    double difference = 0, size = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      difference += std::pow(double{after[i]} - before[i], 2);
      size += std::pow(double{before[i]}, 2);
    }
    const bool cut_alike =
        plan_.cuts == 1 || (plan_.cuts > 1 && cuda::ScheduleOf(problem_, plan_).first_left == 0);
    const bool same = cut_alike ? before == after
                                : std::sqrt(difference / size) < 4 * RoundingOf(activations_.bf16);
    timing->bits_equal = timing->bits_equal && same;
  }

 private:
  GemmShape shape_;
  GemmFormat format_;
  const Activations& activations_;
  cuda::GemmProblem problem_;
  cuda::GemmPlan plan_;
  int64_t bytes_ = 0;
  int64_t code_count_ = 0;
  int copies_ = 0;
  BufferPointer codes_, scales_, records_;
};

class CublasGemm {
 public:
  // Of 16 bits, or of int8 to int32; with `weights`, 16-bit ones, instead of random ones of its
  // own.
  CublasGemm(const GemmShape& shape, const Activations& activations, GemmFormat format,
             int candidates, const DeviceBuffer* weights = nullptr)
      : activations_(activations),
        int8_(format == GemmFormat::kInt8A8),
        bytes_((int8_ ? 1ll : 2ll) * shape.outputs * shape.inputs) {
    if (weights != nullptr) {
      copies_ = 1;
      data_ = weights->as<char>();
    } else {
      copies_ = CopiesOf(bytes_);
      weights_ = NewBuffer(bytes_ * copies_);
      data_ = weights_->as<char>();
      if (int8_) {
        FillBytes(weights_->as<uint8_t>(), bytes_ * copies_, 4, false);
      } else {
        FillScalars(weights_->data, bytes_ / 2 * copies_, 4, activations.bf16);
      }
    }
    workspace_ = NewBuffer(kWorkspaceBytes);
    const cudaDataType type = int8_ ? CUDA_R_8I : activations.bf16 ? CUDA_R_16BF : CUDA_R_16F;
    const cudaDataType y_type = int8_ ? CUDA_R_32I : type;
    const uint64_t n = static_cast<uint64_t>(shape.outputs);
    const uint64_t k = static_cast<uint64_t>(shape.inputs);
    const uint64_t m = static_cast<uint64_t>(activations.rows);
    const cublasOperation_t transpose = CUBLAS_OP_T;
    BENCH_CHECK(cublasLtCreate(&handle_));
    BENCH_CHECK(cublasLtMatmulDescCreate(&operation_,
                                         int8_ ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                         int8_ ? CUDA_R_32I : CUDA_R_32F));
    BENCH_CHECK(cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                               sizeof(transpose)));
    BENCH_CHECK(cublasLtMatrixLayoutCreate(&w_, type, k, n, static_cast<int64_t>(k)));
    BENCH_CHECK(cublasLtMatrixLayoutCreate(&x_, type, k, m, static_cast<int64_t>(k)));
    BENCH_CHECK(cublasLtMatrixLayoutCreate(&y_, y_type, n, m, static_cast<int64_t>(n)));
    cublasLtMatmulPreference_t preference = nullptr;
    BENCH_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    BENCH_CHECK(cublasLtMatmulPreferenceSetAttribute(preference,
                                                     CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                     &kWorkspaceBytes, sizeof(kWorkspaceBytes)));
    results_.resize(static_cast<size_t>(candidates));
    int found = 0;
    BENCH_CHECK(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, w_, x_, y_, y_, preference,
                                               candidates, results_.data(), &found));
    results_.resize(static_cast<size_t>(found));
    BENCH_CHECK(cublasLtMatmulPreferenceDestroy(preference));
    BENCH_CHECK(cudaDeviceSynchronize());
  }
  ~CublasGemm() {
    cublasLtMatrixLayoutDestroy(w_);
    cublasLtMatrixLayoutDestroy(x_);
    cublasLtMatrixLayoutDestroy(y_);
    cublasLtMatmulDescDestroy(operation_);
    cublasLtDestroy(handle_);
  }
  CublasGemm(const CublasGemm&) = delete;
  CublasGemm& operator=(const CublasGemm&) = delete;

  int copies() const { return copies_; }
  double weight_bytes() const { return static_cast<double>(bytes_); }

  void operator()(int copy, cudaStream_t stream) const {
    const float one = 1, zero = 0;
    const int32_t whole_one = 1;
    const char* w = data_ + copy * bytes_;
    const void* scale = int8_ ? static_cast<const void*>(&whole_one) : &one;
    const void* x = int8_ ? activations_.codes->data : activations_.x->data;
    BENCH_CHECK(cublasLtMatmul(handle_, operation_, scale, w, w_, x, x_, &zero,
                               activations_.y->data, y_, activations_.y->data, y_,
                               &results_[chosen_].algo, workspace_->data, kWorkspaceBytes, stream));
  }

  // Times every candidate and keeps the fastest; returns the time of the first.
  double Choose(cudaStream_t stream) {
    double first_us = 0, best_us = 0;
    size_t best = 0;
    for (size_t i = 0; i < results_.size(); ++i) {
      chosen_ = i;
      const std::unique_ptr<Graph> graph = Capture(std::cref(*this), copies_, 2 * copies_, stream);
      Replay({graph.get()}, 5, stream);
      GemmTiming timing;
      Summarize(graph.get(), &timing);
      if (i == 0) first_us = timing.us;
      if (i == 0 || timing.us < best_us) {
        best = i;
        best_us = timing.us;
      }
    }
    chosen_ = best;
    return first_us;
  }

 private:
  const Activations& activations_;
  bool int8_;
  int64_t bytes_;
  int copies_ = 0;
  size_t chosen_ = 0;
  BufferPointer weights_, workspace_;
  const char* data_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr, x_ = nullptr, y_ = nullptr;
  std::vector<cublasLtMatmulHeuristicResult_t> results_;
};

}  // namespace vernier::bench
