#include "tests/bench/arithmetic_peak.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/kernel_table.h"
#include "tests/bench/machine.h"

namespace vernier::bench {
namespace {

#ifdef VERNIER_CPU_X86
constexpr int64_t kRounds = 1 << 20;

// Twelve sums, as many as two units with a latency of four to six cycles need.
#define VERNIER_TWELVE(line)                                                                \
  line("0") line("1") line("2") line("3") line("4") line("5") line("6") line("7") line("8") \
      line("9") line("10") line("11")
#define VERNIER_YMM(sum) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" sum "\n"
#define VERNIER_ZMM(sum) "vfmadd231ps %%zmm12, %%zmm13, %%zmm" sum "\n"
#define VERNIER_CLOBBERS                                                                   \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13"

// Each returns the multiply-adds that it did.
double Avx2Rounds() {
  __asm__ volatile("vxorps %%xmm12, %%xmm12, %%xmm12\nvxorps %%xmm13, %%xmm13, %%xmm13" ::
                       : "xmm12", "xmm13");
  for (int64_t i = 0; i < kRounds; ++i) {
    __asm__ volatile(VERNIER_TWELVE(VERNIER_YMM)::: VERNIER_CLOBBERS);
  }
  return 12.0 * 8 * kRounds;
}

double Avx512Rounds() {
  __asm__ volatile("vxorps %%xmm12, %%xmm12, %%xmm12\nvxorps %%xmm13, %%xmm13, %%xmm13" ::
                       : "xmm12", "xmm13");
  for (int64_t i = 0; i < kRounds; ++i) {
    __asm__ volatile(VERNIER_TWELVE(VERNIER_ZMM)::: VERNIER_CLOBBERS);
  }
  return 12.0 * 16 * kRounds;
}

// Four sums of 16 x 16, each of 16 x 32 times 32 x 16.
double AmxRounds() {
  constexpr int64_t kTileRounds = kRounds / 16;
  const TileKernels& kernels = *AmxKernels().tiles;
  kernels.begin(kTileRows);
  for (int64_t i = 0; i < kTileRounds; ++i) {
    __asm__ volatile(
        "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\ntdpbf16ps %%tmm6, %%tmm5, %%tmm1\n"
        "tdpbf16ps %%tmm7, %%tmm4, %%tmm2\ntdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::);
  }
  kernels.end();
  return 4.0 * kTileRows * kTileRows * kTileCols * kTileRounds;
}

using Rounds = double (*)();
Rounds RoundsOf(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kAvx2:
      return Avx2Rounds;
    case CpuIsa::kAvx512:
    case CpuIsa::kAvx512Bf16:
      return Avx512Rounds;
    case CpuIsa::kAmx:
      return AmxRounds;
    case CpuIsa::kPortable:
      return nullptr;
  }
  return nullptr;
}
#endif

}  // namespace

double ArithmeticPeak(const std::string& isa, int threads) {
#ifdef VERNIER_CPU_X86
  const absl::StatusOr<CpuIsa> chosen = ChooseCpuIsa(isa);
  if (!chosen.ok() || CpuEmulates(*chosen)) return 0;
  const Rounds rounds = RoundsOf(*chosen);
  if (rounds == nullptr) return 0;
  constexpr int kRuns = 8;
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<double> done(threads);
    const double start = SecondsNow();
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; ++t) workers.emplace_back([&, t] { done[t] = rounds(); });
    for (std::thread& worker : workers) worker.join();
    best = std::max(best, std::accumulate(done.begin(), done.end(), 0.0) / (SecondsNow() - start));
  }
  return best;
#else
  return 0;
#endif
}

}  // namespace vernier::bench
