// Which of the two compilations of the kernels the driver has taken.
#include "kernels/cuda/launch.cuh"

namespace vernier::cuda {
namespace {

constexpr int kHopperPtx = 90;

__global__ void ProbeKernel() {}

}  // namespace

bool KernelsAwait() {
  static const bool await = [] {
    cudaFuncAttributes attributes = {};
    return cudaFuncGetAttributes(&attributes, ProbeKernel) == cudaSuccess &&
           attributes.ptxVersion >= kHopperPtx;
  }();
  return await;
}

}  // namespace vernier::cuda
