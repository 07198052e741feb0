// The kernels of AVX-512 (F, BW, DQ, VL, VNNI). Compiled with its own flags: includes nothing but
// intrinsics and the table.
#include "kernels/cpu/avx512-inl.h"

namespace vernier {
namespace {
constexpr int64_t kWideInt8Ahead = 0;  // Zen 4; Intel's that are new enough have AMX
}  // namespace
}  // namespace vernier

#include "kernels/cpu/digits-inl.h"
#include "kernels/cpu/row-inl.h"

namespace vernier {
namespace {

void Nothing() {}

constexpr DigitKernels kDigitKernels = {
    INT64_MAX,
    SplitDigits,
    {nullptr, nullptr, nullptr, MultiplyLines<Int8Kernel>, MultiplyLines<Nf4Kernel>,
     MultiplyLines<NestedNf4Kernel>, nullptr},
    Nothing,
    Nothing,
};

}  // namespace

const KernelTable& Avx512Kernels() {
  static constexpr KernelTable kKernels = MakeKernelTable(nullptr, &kDigitKernels);
  return kKernels;
}

}  // namespace vernier
