#include "kernels/convert.h"

#ifdef VERNIER_CONVERT_X86
#include <cpuid.h>
#endif

#include "kernels/convert-inl.h"
#include "kernels/tensor.h"

namespace vernier {
namespace {

void F16ToF32(const uint8_t* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = F32FromF16(Load16(in + 2 * i));
}

void F32ToF16(const float* in, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) Store16(F16FromF32(in[i]), out + 2 * i);
}

constexpr ConvertTable kPortable = {"portable", F16ToF32,  BF16ToF32, F32ToF16, F32ToBF16,
                                    AbsMax,     AllWithin, Int8Codes, Nf4Codes};

struct Tables {
  const ConvertTable* table[3] = {&kPortable};
  int count = 1;
};

#ifdef VERNIER_CONVERT_X86
// Clang 14 has no name for this one.
bool HasF16c() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

// What the operating system saves is asked too: a processor's flag alone does not make a register
// usable. AVX2 is supported only where the registers that F16C needs are saved.
Tables Find() {
  Tables tables;
#ifdef VERNIER_CONVERT_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && HasF16c()) {
    tables.table[tables.count++] = &ConvertAvx2();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      tables.table[tables.count++] = &ConvertAvx512();
    }
  }
#endif
  return tables;
}

const Tables& Found() {
  static const Tables tables = Find();
  return tables;
}

}  // namespace

const ConvertTable& Convert() { return *Found().table[Found().count - 1]; }

const ConvertTable* const* ConvertTables(int* count) {
  *count = Found().count;
  return Found().table;
}

}  // namespace vernier
