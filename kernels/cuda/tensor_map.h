// The driver's function that describes a tensor to the copy engine, found when it is first asked
// for: programs link no driver. Any thread may call.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

namespace vernier::cuda {

// Not supported where the driver is older than CUDA 12.
inline cudaError_t EncodeTiled(decltype(&cuTensorMapEncodeTiled)* encode) {
  static void* function = nullptr;
  static const cudaError_t found = [] {
    cudaDriverEntryPointQueryResult result;
    return cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                            cudaEnableDefault, &result);
  }();
  *encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  return found == cudaSuccess && function == nullptr ? cudaErrorNotSupported : found;
}

}  // namespace vernier::cuda
