// The kernels of AVX-512 (F, BW, DQ, VL). Compiled with its own flags: includes nothing but
// intrinsics and the table.
#include "kernels/cpu/avx512-inl.h"
#include "kernels/cpu/row-inl.h"

namespace vernier {

const KernelTable& Avx512Kernels() {
  static constexpr KernelTable kKernels = MakeKernelTable();
  return kKernels;
}

}  // namespace vernier
