// How kernels are queued: ahead of the end of the kernel before them on the stream (programmatic
// dependent launch), those of GEMM in clusters of blocks, one block a multiprocessor.
#pragma once

#include <cuda_runtime_api.h>

namespace vernier::cuda {

// Of the device that is in use when it is first called.
inline int Multiprocessors() {
  static const int count = [] {
    int device = 0, multiprocessors = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return 1;
    return cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device) ==
                   cudaSuccess
               ? multiprocessors
               : 1;
  }();
  return count;
}

// Whether the kernels that run on this device wait for the one ahead themselves. Those compiled
// from the PTX for devices before Hopper do not, and so must not be queued ahead of its end. Found
// once.
bool KernelsAwait();

struct ClusterLaunch {
  int cluster = 0;  // blocks
  int clusters = 0;
  int threads = 0;  // a block
  int shared_bytes = 0;
};

// The error of the launch. The kernel's largest shared memory must have been raised before.
template <class... Parameters>
inline cudaError_t LaunchClusters(void (*kernel)(Parameters...), const ClusterLaunch& launch,
                                  cudaStream_t stream, const Parameters&... parameters) {
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(launch.cluster), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.cluster * launch.clusters));
  config.blockDim = dim3(static_cast<unsigned>(launch.threads));
  config.dynamicSmemBytes = static_cast<size_t>(launch.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, kernel, parameters...);
}

// The same without clusters. The kernel must wait for the one ahead (AwaitKernelAhead) before it
// reads or writes anything.
template <class... Parameters>
inline cudaError_t LaunchAfter(void (*kernel)(Parameters...), dim3 grid, int threads,
                               int64_t shared_bytes, cudaStream_t stream,
                               const Parameters&... parameters) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = KernelsAwait() ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, parameters...);
}

}  // namespace vernier::cuda
