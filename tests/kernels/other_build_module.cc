// Stands in for a CUDA module of another build: says so, and makes nothing.
#include "kernels/cuda/module.h"

extern "C" __attribute__((visibility("default"))) bool vernier_cuda_make_backend(
    const char* /*host_build_id*/, const char** module_build_id,
    vernier::cuda::BackendResult* /*result*/, const vernier::cuda::CudaOptions& /*options*/) {
  *module_build_id = "other";
  return false;
}
