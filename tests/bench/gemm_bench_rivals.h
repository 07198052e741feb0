// Kernels of other projects that gemm_bench times beside ours, from libraries that are opened at
// run time: `gemm_rivals.sh` fetches and builds them, nothing of them is part of this project.
//
// A library that cannot be opened, or lacks a function, ends the program with its name. One thread.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "tests/bench/gemm_bench_graphs.h"
#include "tests/bench/gemm_bench_kernels.h"
#include "tests/bench/gemm_bench_memory.h"

namespace vernier::bench {

// y [rows, weight.outputs] = x [rows, weight.inputs] w^T, 16 bits each.
struct RivalProblem {
  CanonicalWeight weight;
  int rows = 0;
  bool bf16 = false;
  const void* x = nullptr;
  void* y = nullptr;
};

// bitsandbytes' NF4, absmax in fp32, by the faster of its two ways: a kernel that decodes as it
// multiplies, or decoding to 16 bits for a product of those. It chooses by a table; here both are
// timed.
class BitsandbytesGemm {
 public:
  // `linear` multiplies what lies in `values` [outputs, inputs], 16-bit. REQUIRES: inputs a
  // multiple of 64, outputs * inputs < 2^31; all that is given outlives this.
  BitsandbytesGemm(const std::string& library, const RivalProblem& problem, void* values,
                   Launch linear);

  int copies() const { return copies_; }
  double weight_bytes() const { return static_cast<double>(code_bytes_ + scale_bytes_); }
  void operator()(int copy, cudaStream_t stream) const;
  void Choose(cudaStream_t stream);

 private:
  using Fused = void(const void* x, const uint8_t* codes, const float* absmax, const uint8_t*,
                     const float*, const float*, void* y, const void* bias, int rows, int outputs,
                     int inputs, int block, int type, cudaStream_t stream);
  using Dequantize = void(float* table, uint8_t* codes, float* absmax, void* values, int block,
                          int count, cudaStream_t stream);

  RivalProblem problem_;
  void* values_;
  Launch linear_;
  Fused* fused_;
  Dequantize* dequantize_;
  int64_t code_bytes_, scale_bytes_;
  int copies_;
  BufferPointer codes_, scales_;
  bool is_fused_ = true;
};

// Marlin's 4-bit codes in groups of 128 with fp16 scales; x and y in fp16.
class MarlinGemm {
 public:
  static bool Takes(const RivalProblem& problem) {
    return !problem.bf16 && problem.weight.linear && problem.weight.group == 128 &&
           problem.weight.inputs % 128 == 0 && problem.weight.outputs % 256 == 0;
  }
  // REQUIRES: Takes(problem); all that is given outlives this.
  MarlinGemm(const std::string& library, const RivalProblem& problem);

  int copies() const { return copies_; }
  double weight_bytes() const { return static_cast<double>(code_bytes_ + scale_bytes_); }
  void operator()(int copy, cudaStream_t stream) const;

 private:
  using Multiply = int(const void* x, const void* codes, void* y, void* scales, int rows,
                       int outputs, int inputs, void* locks, int group, int device,
                       cudaStream_t stream, int tile_inputs, int tile_outputs, int sms,
                       int most_parallel);

  RivalProblem problem_;
  Multiply* multiply_;
  int64_t code_bytes_, scale_bytes_;
  int copies_;
  BufferPointer codes_, scales_, locks_;
};

}  // namespace vernier::bench
