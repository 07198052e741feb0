#include "kernels/cpu/cpu_features.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/cpu_isas.h"

#ifdef VERNIER_CPU_X86
#include <cpuid.h>
#endif

namespace vernier {
namespace {

static_assert(std::size(kCpuIsas) == kNumCpuIsas);

#ifdef VERNIER_EMULATE_AMX
constexpr bool kMayEmulateAmx = true;
#else
constexpr bool kMayEmulateAmx = false;
#endif

#ifdef VERNIER_CPU_X86

struct CpuidWords {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidWords Cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidWords words;
  __get_cpuid_count(leaf, subleaf, &words.eax, &words.ebx, &words.ecx, &words.edx);
  return words;
}

// The register states that the operating system saves (XCR0); 0 when it saves none of ours.
uint64_t SavedStates() {
  constexpr uint32_t kOsxsave = 1u << 27;
  if ((Cpuid(1).ecx & kOsxsave) == 0) return 0;
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

bool HasAll(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

bool HasAvx2() {
  constexpr uint64_t kXmmYmm = 0x6;
  constexpr uint32_t kFmaAvxF16c = (1u << 12) | (1u << 28) | (1u << 29);
  constexpr uint32_t kAvx2 = 1u << 5;
  return HasAll(SavedStates(), kXmmYmm) && HasAll(Cpuid(1).ecx, kFmaAvxF16c) &&
         HasAll(Cpuid(7).ebx, kAvx2);
}

bool HasAvx512() {
  constexpr uint64_t kMasksAndZmm = 0xe6;
  constexpr uint32_t kFDqBwVl = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
  constexpr uint32_t kVnni = 1u << 11;
  return HasAvx2() && HasAll(SavedStates(), kMasksAndZmm) && HasAll(Cpuid(7).ebx, kFDqBwVl) &&
         HasAll(Cpuid(7).ecx, kVnni);
}

// Linux gives a process the tiles' registers when it asks: without that the first tile instruction
// is illegal, whatever CPUID says.
bool MayUseTiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h: ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool HasTiles() {
  constexpr uint64_t kTileConfigAndData = 0x60000;
  constexpr uint32_t kAmxBf16TileInt8 = (1u << 22) | (1u << 24) | (1u << 25);
  return HasAll(SavedStates(), kTileConfigAndData) && HasAll(Cpuid(7).edx, kAmxBf16TileInt8) &&
         MayUseTiles();
}

// Also what the file of AMX is compiled for beside the tiles.
bool HasAvx512Bf16() {
  constexpr uint32_t kAvx512Bf16 = 1u << 5;
  return HasAvx512() && HasAll(Cpuid(7, 1).eax, kAvx512Bf16);
}

#else

bool HasAvx2() { return false; }
bool HasAvx512() { return false; }
bool HasTiles() { return false; }
bool HasAvx512Bf16() { return false; }

#endif

}  // namespace

const char* CpuIsaName(CpuIsa isa) { return kCpuIsas[static_cast<int>(isa)]; }

bool CpuSupports(CpuIsa isa) {
  static const bool supported[kNumCpuIsas] = {true, HasAvx2(), HasAvx512(), HasAvx512Bf16(),
                                              HasAvx512Bf16() && (kMayEmulateAmx || HasTiles())};
  return supported[static_cast<int>(isa)];
}

bool CpuEmulates(CpuIsa isa) {
  static const bool tiles = HasTiles();
  return kMayEmulateAmx && isa == CpuIsa::kAmx && CpuSupports(isa) && !tiles;
}

absl::StatusOr<CpuIsa> ChooseCpuIsa(const std::string& name) {
  if (name == "auto") {
    int best = kNumCpuIsas - 1;
    const auto usable = [](CpuIsa isa) { return CpuSupports(isa) && !CpuEmulates(isa); };
    while (!usable(static_cast<CpuIsa>(best))) --best;
    return static_cast<CpuIsa>(best);
  }
  for (int i = 0; i < kNumCpuIsas; ++i) {
    if (name != kCpuIsas[i]) continue;
    if (!CpuSupports(static_cast<CpuIsa>(i))) {
      return absl::FailedPreconditionError(
          absl::StrCat("isa ", name, " is not supported by this processor (", ProcessorName(),
                       "), its operating system or this build"));
    }
    return static_cast<CpuIsa>(i);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("isa is \"", name, "\", must be ", ListCpuIsaChoices()));
}

int ProcessorsOfQuota(const std::string& cpu_max) {
  const std::vector<std::string> words =
      absl::StrSplit(cpu_max, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  int64_t quota_us = 0, period_us = 0;
  if (words.size() != 2 || !absl::SimpleAtoi(words[0], &quota_us) ||
      !absl::SimpleAtoi(words[1], &period_us) || quota_us <= 0 || period_us <= 0) {
    return 0;
  }
  const int64_t whole = quota_us / period_us + (quota_us % period_us != 0 ? 1 : 0);
  return static_cast<int>(std::min<int64_t>(whole, 1 << 16));
}

std::vector<int> AllowedProcessors() {
  std::vector<int> processors;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return processors;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &mask)) processors.push_back(i);
  }
  return processors;
}

int UsableProcessors() {
  int count = std::max(1, static_cast<int>(AllowedProcessors().size()));
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string line;
  if (file && std::getline(file, line)) {
    const int quota = ProcessorsOfQuota(line);
    if (quota > 0) count = std::min(count, quota);
  }
  return count;
}

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (file && std::getline(file, line)) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace vernier
