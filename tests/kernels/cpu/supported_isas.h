// The kernel tables that this processor can run, as parameters of tests.
#pragma once

#include <ostream>
#include <vector>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/kernel_table.h"

namespace vernier {

struct IsaKernels {
  const char* name;
  const KernelTable* table;
};

inline void PrintTo(const IsaKernels& isa, std::ostream* out) { *out << isa.name; }

inline std::vector<IsaKernels> SupportedIsas() {
  std::vector<IsaKernels> isas = {{"portable", &PortableKernels()}};
#ifdef VERNIER_CPU_X86
  if (CpuSupports(CpuIsa::kAvx2)) isas.push_back({"avx2", &Avx2Kernels()});
  if (CpuSupports(CpuIsa::kAvx512)) isas.push_back({"avx512", &Avx512Kernels()});
  if (CpuSupports(CpuIsa::kAvx512Bf16)) isas.push_back({"avx512_bf16", &Avx512Bf16Kernels()});
  if (CpuSupports(CpuIsa::kAmx)) isas.push_back({"amx", &AmxKernels()});
#endif
  return isas;
}

}  // namespace vernier
