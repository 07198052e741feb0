// What the processor and the operating system offer: instruction sets and how many threads may run.
//
// Reads of CPUID, the affinity mask and the control group; thread-safe. The first question also
// asks the operating system for the registers of AMX, which it gives to the process for good.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace vernier {

// Ascending by what they need; the index of an instruction set's row of kernels.
enum class CpuIsa : uint8_t { kPortable, kAvx2, kAvx512, kAvx512Bf16, kAmx };
inline constexpr int kNumCpuIsas = 5;

// Its name in kCpuIsas.
const char* CpuIsaName(CpuIsa isa);

// True when the processor has every instruction that the files of `isa` are compiled for, the
// operating system saves its registers, and this build holds its kernels; or CpuEmulates(isa).
bool CpuSupports(CpuIsa isa);

// True where `isa` is supported in software, for tests: AMX on a processor that has no tiles, in
// builds with VERNIER_EMULATE_AMX. False in every build that is served.
bool CpuEmulates(CpuIsa isa);

// `name` is auto (the best supported that is not emulated) or an isa's name. INVALID_ARGUMENT for
// an unknown name, FAILED_PRECONDITION for one that is not supported here.
absl::StatusOr<CpuIsa> ChooseCpuIsa(const std::string& name);

// Processors of the affinity mask, ascending; none where the system does not say.
std::vector<int> AllowedProcessors();

// Processors that the process may use: the affinity mask, cut by the control group's quota; at
// least 1.
int UsableProcessors();

// The processors of a cgroup v2 `cpu.max` line ("200000 100000" is 2, "max 100000" is 0: no quota),
// rounded up; 0 where it cannot be read.
int ProcessorsOfQuota(const std::string& cpu_max);

// The processor's own name, or "unknown".
std::string ProcessorName();

}  // namespace vernier
