#include "tests/bench/gemm_bench_device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <climits>
#include <functional>
#include <memory>

#include "kernels/cuda/gemm.h"
#include "tests/bench/gemm_bench_contestants.h"
#include "tests/bench/gemm_bench_graphs.h"
#include "tests/bench/gemm_bench_kernels.h"
#include "tests/bench/gemm_bench_memory.h"
#include "tests/bench/gemm_bench_rivals.h"

namespace vernier::bench {
namespace {

constexpr int64_t kReadBytes = 2ll << 30;
constexpr int kLaunchesPerGraph = 64;
constexpr int kLeastCublasInt8Rows = 32;

// The contestants of one shape; rivals that are not asked for, or do not take it, are null.
struct Contest {
  Contest(const GemmShape& shape, int rows, const GemmOptions& options)
      : activations(shape, rows, options.bf16),
        cublas(shape, activations, GemmFormat::kInt8, options.cublas_candidates),
        nf4(shape, GemmFormat::kNf4, activations),
        int4(shape, GemmFormat::kInt4, activations),
        int8(shape, GemmFormat::kInt8, activations),
        int8_a8(shape, GemmFormat::kInt8A8, activations) {
    if (rows <= kMostValueRows) {
      values = std::make_unique<OurGemm>(shape, GemmFormat::kValues, activations);
    }
    const auto rival = [&](const OurGemm& ours) {
      return RivalProblem{ours.canonical(), rows, options.bf16, activations.x->data,
                          activations.y->data};
    };
    if (!options.bitsandbytes.empty()) {
      decoded = NewBuffer(2ll * shape.outputs * shape.inputs);
      linear = std::make_unique<CublasGemm>(shape, activations, GemmFormat::kInt8,
                                            options.cublas_candidates, decoded.get());
      bitsandbytes = std::make_unique<BitsandbytesGemm>(options.bitsandbytes, rival(nf4),
                                                        decoded->data, std::cref(*linear));
    }
    if (!options.marlin.empty() && MarlinGemm::Takes(rival(int4))) {
      marlin = std::make_unique<MarlinGemm>(options.marlin, rival(int4));
    }
  }

  // Rivals find their fastest way, and are held to errors as ours are: twice the roundings, since
  // bitsandbytes decodes to 16 bits and Marlin's scales have 16.
  void PrepareRivals(GemmMeasurement* out, cudaStream_t stream) {
    const GivenX x{activations.x->data, nullptr};
    const bool bf16 = activations.bf16;
    if (bitsandbytes != nullptr) {
      linear->Choose(stream);
      bitsandbytes->Choose(stream);
      out->bitsandbytes.weight_bytes += bitsandbytes->weight_bytes();
      out->bitsandbytes.error_limit = 2 * RoundingOf(bf16);
      ValidateProduct([this](cudaStream_t s) { (*bitsandbytes)(0, s); }, nf4.canonical(), x,
                      activations, bf16, &out->bitsandbytes, stream);
    }
    if (marlin != nullptr) {
      out->marlin.weight_bytes += marlin->weight_bytes();
      out->marlin.error_limit = 2 * RoundingOf(bf16);
      ValidateProduct([this](cudaStream_t s) { (*marlin)(0, s); }, int4.canonical(), x, activations,
                      bf16, &out->marlin, stream);
    }
  }

  Activations activations;
  CublasGemm cublas;
  OurGemm nf4;
  OurGemm int4;
  OurGemm int8;
  OurGemm int8_a8;
  std::unique_ptr<OurGemm> values;  // null: not for so many rows
  BufferPointer decoded;            // bitsandbytes' weights in 16 bits
  std::unique_ptr<CublasGemm> linear;
  std::unique_ptr<BitsandbytesGemm> bitsandbytes;
  std::unique_ptr<MarlinGemm> marlin;
};

int LaunchesOf(int copies) { return (kLaunchesPerGraph + copies - 1) / copies * copies; }

double MeasureRead(cudaStream_t stream) {
  const BufferPointer data = NewBuffer(kReadBytes);
  const BufferPointer out = NewBuffer(4);
  FillBytes(data->as<uint8_t>(), kReadBytes, 5, true);
  BENCH_CHECK(cudaDeviceSynchronize());
  const auto read = [&](int, cudaStream_t s) {
    ReadAll(data->data, kReadBytes, out->as<uint32_t>(), s);
  };
  const std::unique_ptr<Graph> graph = Capture(read, 1, 2, stream);
  Replay({graph.get()}, 10, stream);
  GemmTiming timing;
  Summarize(graph.get(), &timing);
  return static_cast<double>(kReadBytes) / (timing.us * 1e-6);
}

struct Stream {
  Stream() { BENCH_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t stream = nullptr;
};

}  // namespace

DeviceFacts MeasureDevice() {
  cudaDeviceProp properties;
  BENCH_CHECK(cudaGetDeviceProperties(&properties, 0));
  int clock_khz = 0;
  BENCH_CHECK(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, 0));
  const Stream stream;
  return {properties.name, properties.multiProcessorCount,
          static_cast<double>(properties.l2CacheSize), MeasureRead(stream.stream),
          clock_khz / 1000};
}

GemmMeasurement MeasureShape(const GemmShape& shape, int rows, const GemmOptions& options) {
  const Stream stream;
  Contest contest(shape, rows, options);
  GemmMeasurement out;
  contest.nf4.Validate(&out.nf4, stream.stream);
  contest.int4.Validate(&out.int4, stream.stream);
  contest.int8.Validate(&out.int8, stream.stream);
  contest.int8_a8.Validate(&out.int8_a8, stream.stream);
  if (contest.values != nullptr) contest.values->Validate(&out.values, stream.stream);
  contest.PrepareRivals(&out, stream.stream);
  out.cublas_first_us = contest.cublas.Choose(stream.stream);
  out.cublas.weight_bytes = contest.cublas.weight_bytes();
  std::vector<Timed> timed;
  const auto add = [&](const auto& gemm, GemmTiming* timing) {
    timed.push_back(
        {Capture(std::cref(gemm), gemm.copies(), LaunchesOf(gemm.copies()), stream.stream),
         timing});
  };
  add(contest.cublas, &out.cublas);
  add(contest.nf4, &out.nf4);
  add(contest.int4, &out.int4);
  add(contest.int8, &out.int8);
  add(contest.int8_a8, &out.int8_a8);
  if (contest.values != nullptr) add(*contest.values, &out.values);
  if (contest.bitsandbytes != nullptr) add(*contest.bitsandbytes, &out.bitsandbytes);
  if (contest.marlin != nullptr) add(*contest.marlin, &out.marlin);
  std::unique_ptr<CublasGemm> cublas_int8;
  if (rows >= kLeastCublasInt8Rows) {
    cublas_int8 = std::make_unique<CublasGemm>(shape, contest.activations, GemmFormat::kInt8A8,
                                               options.cublas_candidates);
    cublas_int8->Choose(stream.stream);
    out.cublas_int8.weight_bytes = cublas_int8->weight_bytes();
    add(*cublas_int8, &out.cublas_int8);
  }
  TimeInTurn(timed, options.replays, stream.stream);
  return out;
}

std::vector<PlanTiming> MeasurePlans(const GemmShape& shape, int rows, GemmFormat format,
                                     const GemmOptions& options) {
  constexpr int kMostPlans = 64;
  const Stream stream;
  const Activations activations(shape, rows, options.bf16);
  const bool timed = options.replays > 0;
  OurGemm gemm(shape, format, activations, timed ? INT_MAX : 1);
  cuda::GemmPlan plans[kMostPlans];
  const int count = cuda::ListGemmPlans(gemm.problem(), plans, kMostPlans);
  std::vector<PlanTiming> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) {
    PlanTiming& result = out[i];
    result.kernel = plans[i].kernel == cuda::GemmKernel::kRows16 ? "rows16" : "wide";
    result.tile_tokens = plans[i].tile_tokens;
    result.cluster = plans[i].cluster;
    result.slices = plans[i].slices;
    result.cuts = plans[i].cuts;
    gemm.set_plan(plans[i]);
    gemm.Validate(&result.timing, stream.stream);
    if (!timed) gemm.ValidateGate(&result.timing, stream.stream);
    if (!timed) continue;
    const std::unique_ptr<Graph> graph =
        Capture(std::cref(gemm), gemm.copies(), LaunchesOf(gemm.copies()), stream.stream);
    Replay({graph.get()}, options.replays, stream.stream);
    Summarize(graph.get(), &result.timing);
  }
  return out;
}

GemmMeasurement MeasureLayer(const std::vector<GemmShape>& shapes, int rows,
                             const GemmOptions& options) {
  constexpr int kLayersPerGraph = 16;
  const Stream stream;
  std::vector<std::unique_ptr<Contest>> contests;
  GemmMeasurement out;
  for (const GemmShape& shape : shapes) {
    contests.push_back(std::make_unique<Contest>(shape, rows, options));
    Contest& contest = *contests.back();
    out.cublas_first_us += contest.cublas.Choose(stream.stream);
    out.cublas.weight_bytes += contest.cublas.weight_bytes();
    out.nf4.weight_bytes += contest.nf4.weight_bytes();
    out.int4.weight_bytes += contest.int4.weight_bytes();
    out.int8.weight_bytes += contest.int8.weight_bytes();
    out.int8_a8.weight_bytes += contest.int8_a8.weight_bytes();
    if (contest.values != nullptr) out.values.weight_bytes += contest.values->weight_bytes();
    contest.PrepareRivals(&out, stream.stream);
  }
  std::vector<Timed> timed;
  const auto add = [&](auto member, GemmTiming* timing) {
    const Launch layer = [&, member](int index, cudaStream_t s) {
      for (const std::unique_ptr<Contest>& contest : contests) {
        const auto& gemm = (*contest).*member;
        gemm(index % gemm.copies(), s);
      }
    };
    timed.push_back({Capture(layer, kLayersPerGraph, kLayersPerGraph, stream.stream), timing});
  };
  add(&Contest::cublas, &out.cublas);
  add(&Contest::nf4, &out.nf4);
  add(&Contest::int4, &out.int4);
  add(&Contest::int8, &out.int8);
  add(&Contest::int8_a8, &out.int8_a8);
  // Those that may be absent, from any of the shapes.
  const auto add_present = [&](auto member, GemmTiming* timing) {
    for (const std::unique_ptr<Contest>& contest : contests) {
      if ((*contest).*member == nullptr) return;
    }
    const Launch layer = [&, member](int index, cudaStream_t s) {
      for (const std::unique_ptr<Contest>& contest : contests) {
        const auto& gemm = *((*contest).*member);
        gemm(index % gemm.copies(), s);
      }
    };
    timed.push_back({Capture(layer, kLayersPerGraph, kLayersPerGraph, stream.stream), timing});
  };
  add_present(&Contest::values, &out.values);
  add_present(&Contest::bitsandbytes, &out.bitsandbytes);
  add_present(&Contest::marlin, &out.marlin);
  TimeInTurn(timed, options.replays, stream.stream);
  return out;
}

}  // namespace vernier::bench
