// Device memory of gemm_bench, and how many copies of a weight its launches go round.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "tests/bench/gemm_bench_graphs.h"

namespace vernier::bench {

struct DeviceBuffer {
  explicit DeviceBuffer(int64_t bytes) {
    BENCH_CHECK(cudaMalloc(&data, static_cast<size_t>(bytes)));
  }
  ~DeviceBuffer() { cudaFree(data); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  void* data = nullptr;
};
using BufferPointer = std::unique_ptr<DeviceBuffer>;

inline BufferPointer NewBuffer(int64_t bytes) { return std::make_unique<DeviceBuffer>(bytes); }

inline constexpr int64_t kRotatedBytes = 256ll << 20;  // of weights: over 4 x the 60 MB of L2

inline int CopiesOf(int64_t bytes) {
  return static_cast<int>((kRotatedBytes + bytes - 1) / bytes) + 1;
}

// `copies` of what lies at `from`, one after the other.
inline BufferPointer Repeat(const void* from, int64_t bytes, int copies) {
  BufferPointer all = NewBuffer(bytes * copies);
  for (int i = 0; i < copies; ++i) {
    BENCH_CHECK(cudaMemcpy(all->as<char>() + i * bytes, from, static_cast<size_t>(bytes),
                           cudaMemcpyDefault));
  }
  return all;
}

}  // namespace vernier::bench
