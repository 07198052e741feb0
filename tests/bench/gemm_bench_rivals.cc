#include "tests/bench/gemm_bench_rivals.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/tensor.h"

namespace vernier::bench {
namespace {

// Never closed: graphs hold its kernels.
void* FunctionOf(const std::string& library, const char* name) {
  void* opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* function = opened == nullptr ? nullptr : dlsym(opened, name);
  if (function == nullptr) {
    std::fprintf(stderr, "gemm_bench: %s: %s\n", library.c_str(), dlerror());
    std::exit(2);
  }
  return function;
}

template <class T>
std::vector<T> ToHost(const T* from, int64_t count) {
  std::vector<T> host(static_cast<size_t>(count));
  BENCH_CHECK(cudaMemcpy(host.data(), from, host.size() * sizeof(T), cudaMemcpyDeviceToHost));
  return host;
}

// ---- Marlin's order ----
//
// Codes lie in tiles of 16 inputs and 64 outputs, [inputs / 16][outputs / 64][32 threads][4] words
// of eight codes: word j of thread t holds outputs 16 j + t / 4 and eight more, and of each inputs
// 2 (t % 4) + 0, 1, 8 and 9. Within a word the even ones of these eight come first.

constexpr int kTileInputs = 16;
constexpr int kTileOutputs = 64;
constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};

std::vector<uint32_t> MarlinCodes(const CanonicalWeight& weight) {
  const int64_t inputs = weight.inputs;
  const std::vector<uint8_t> codes = ToHost(weight.codes, weight.outputs * inputs / 2);
  const auto code = [&](int64_t output, int64_t input) -> uint32_t {
    const uint8_t both = codes[static_cast<size_t>((output * inputs + input) / 2)];
    return input % 2 == 0 ? both >> 4 : both & 15u;
  };
  std::vector<uint32_t> words;
  words.reserve(codes.size() / 4);
  for (int64_t input = 0; input < inputs; input += kTileInputs) {
    for (int64_t output = 0; output < weight.outputs; output += kTileOutputs) {
      for (int thread = 0; thread < 32; ++thread) {
        for (int j = 0; j < 4; ++j) {
          uint32_t word = 0;
          for (int nibble = 0; nibble < 8; ++nibble) {
            const int which = kOrder[nibble];
            const int64_t n = output + 16 * j + thread / 4 + which / 4 * 8;
            const int64_t k = input + 2 * (thread % 4) + which % 2 + which / 2 % 2 * 8;
            word |= code(n, k) << (4 * nibble);
          }
          words.push_back(word);
        }
      }
    }
  }
  return words;
}

// fp16 [inputs / group][outputs], of each 64 outputs [8][8] transposed.
std::vector<uint16_t> MarlinScales(const CanonicalWeight& weight) {
  const int64_t groups = weight.inputs / weight.group;
  const std::vector<float> scales = ToHost(weight.scales, weight.outputs * groups);
  std::vector<uint16_t> out;
  out.reserve(scales.size());
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t output = 0; output < weight.outputs; output += kTileOutputs) {
      for (int i = 0; i < kTileOutputs; ++i) {
        const int64_t n = output + i / 8 + i % 8 * 8;
        const float scale = scales[static_cast<size_t>(n * groups + group)];
        out.push_back(F16FromF32(scale));
      }
    }
  }
  return out;
}

constexpr int kMostParallel = 16;  // its own default

}  // namespace

BitsandbytesGemm::BitsandbytesGemm(const std::string& library, const RivalProblem& problem,
                                   void* values, Launch linear)
    : problem_(problem),
      values_(values),
      linear_(std::move(linear)),
      fused_(reinterpret_cast<Fused*>(
          FunctionOf(library, problem.bf16 ? "cgemm_4bit_bf16" : "cgemm_4bit_fp16"))),
      dequantize_(reinterpret_cast<Dequantize*>(
          FunctionOf(library, problem.bf16 ? "cdequantize_blockwise_bf16_nf4"
                                           : "cdequantize_blockwise_fp16_nf4"))),
      code_bytes_(int64_t{problem.weight.outputs} * problem.weight.inputs / 2),
      scale_bytes_(code_bytes_ * 2 / problem.weight.group * 4),
      copies_(CopiesOf(code_bytes_ + scale_bytes_)),
      codes_(Repeat(problem.weight.codes, code_bytes_, copies_)),
      scales_(Repeat(problem.weight.scales, scale_bytes_, copies_)) {}

void BitsandbytesGemm::operator()(int copy, cudaStream_t stream) const {
  constexpr int kNf4 = 2;
  const CanonicalWeight& w = problem_.weight;
  uint8_t* codes = codes_->as<uint8_t>() + copy * code_bytes_;
  auto* absmax = reinterpret_cast<float*>(scales_->as<char>() + copy * scale_bytes_);
  if (is_fused_) {
    fused_(problem_.x, codes, absmax, nullptr, nullptr, nullptr, problem_.y, nullptr, problem_.rows,
           w.outputs, w.inputs, w.group, kNf4, stream);
  } else {
    dequantize_(nullptr, codes, absmax, values_, w.group, w.outputs * w.inputs, stream);
    linear_(0, stream);
  }
  BENCH_CHECK(cudaGetLastError());
}

void BitsandbytesGemm::Choose(cudaStream_t stream) {
  double us[2];
  for (const bool fused : {false, true}) {
    is_fused_ = fused;
    (*this)(0, stream);  // a first launch loads code, which may not be captured
    BENCH_CHECK(cudaStreamSynchronize(stream));
    const std::unique_ptr<Graph> graph = Capture(std::cref(*this), copies_, 2 * copies_, stream);
    Replay({graph.get()}, 5, stream);
    GemmTiming timing;
    Summarize(graph.get(), &timing);
    us[fused] = timing.us;
  }
  is_fused_ = us[true] < us[false];
}

MarlinGemm::MarlinGemm(const std::string& library, const RivalProblem& problem)
    : problem_(problem),
      multiply_(reinterpret_cast<Multiply*>(
          FunctionOf(library, "_Z11marlin_cudaPKvS0_PvS1_iiiS1_iiP11CUstream_stiiii"))),
      code_bytes_(int64_t{problem.weight.outputs} * problem.weight.inputs / 2),
      scale_bytes_(code_bytes_ * 2 / problem.weight.group * 2),
      copies_(CopiesOf(code_bytes_ + scale_bytes_)),
      codes_(Repeat(MarlinCodes(problem.weight).data(), code_bytes_, copies_)),
      scales_(Repeat(MarlinScales(problem.weight).data(), scale_bytes_, copies_)),
      locks_(NewBuffer(problem.weight.outputs / 128 * kMostParallel * 4ll)) {
  BENCH_CHECK(cudaMemset(locks_->data, 0,
                         static_cast<size_t>(problem.weight.outputs) / 128 * kMostParallel * 4));
}

void MarlinGemm::operator()(int copy, cudaStream_t stream) const {
  const CanonicalWeight& w = problem_.weight;
  BENCH_CHECK(multiply_(problem_.x, codes_->as<char>() + copy * code_bytes_, problem_.y,
                        scales_->as<char>() + copy * scale_bytes_, problem_.rows, w.outputs,
                        w.inputs, locks_->data, w.group, 0, stream, -1, -1, -1, kMostParallel));
}

}  // namespace vernier::bench
