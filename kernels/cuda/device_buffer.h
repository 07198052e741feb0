// Device and pinned memory that frees itself, and CUDA's errors as statuses.
//
// Host code alone. Not thread-safe.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier::cuda {

// OK, or INTERNAL with CUDA's name and text of the error and what failed. RESOURCE_EXHAUSTED where
// memory was short.
absl::Status StatusOf(cudaError_t error, absl::string_view what);

class DeviceBuffer {
 public:
  // RESOURCE_EXHAUSTED naming `what`, the bytes wanted, and those free and in all.
  static absl::StatusOr<DeviceBuffer> Allocate(int64_t bytes, absl::string_view what);

  template <class T>
  T* as() const {
    return static_cast<T*>(data_.get());
  }
  int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* data) const { cudaFree(data); }
  };
  std::unique_ptr<void, Free> data_;
  int64_t bytes_ = 0;
};

// Host memory that the device copies from and to without a detour.
class PinnedBuffer {
 public:
  static absl::StatusOr<PinnedBuffer> Allocate(int64_t bytes, absl::string_view what);

  template <class T>
  T* as() const {
    return static_cast<T*>(data_.get());
  }
  int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* data) const { cudaFreeHost(data); }
  };
  std::unique_ptr<void, Free> data_;
  int64_t bytes_ = 0;
};

}  // namespace vernier::cuda
