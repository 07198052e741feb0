#include "kernels/cuda/module.h"

#include <cstring>

extern "C" __attribute__((visibility("default"))) bool vernier_cuda_make_backend(
    const char* host_build_id, const char** module_build_id, vernier::cuda::BackendResult* result,
    const vernier::cuda::CudaOptions& options) {
  *module_build_id = VERNIER_BUILD_ID;
  if (std::strcmp(host_build_id, VERNIER_BUILD_ID) != 0) return false;
  *result = vernier::cuda::MakeCudaBackend(options);
  return true;
}
