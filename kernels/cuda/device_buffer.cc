#include "kernels/cuda/device_buffer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace vernier::cuda {

absl::Status StatusOf(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message =
      absl::StrCat(what, ": ", cudaGetErrorName(error), ", ", cudaGetErrorString(error));
  return error == cudaErrorMemoryAllocation ? absl::ResourceExhaustedError(message)
                                            : absl::InternalError(message);
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::Allocate(int64_t bytes, absl::string_view what) {
  DeviceBuffer buffer;
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // not sticky: the next call shall not find it
    size_t free = 0, total = 0;
    (void)cudaMemGetInfo(&free, &total);
    return absl::ResourceExhaustedError(absl::StrCat("no GPU memory for ", what, ": ", bytes,
                                                     " bytes wanted, ", free, " free of ", total));
  }
  if (error != cudaSuccess) return StatusOf(error, what);
  buffer.data_.reset(data);
  buffer.bytes_ = bytes;
  return buffer;
}

absl::StatusOr<PinnedBuffer> PinnedBuffer::Allocate(int64_t bytes, absl::string_view what) {
  PinnedBuffer buffer;
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    return StatusOf(error, absl::StrCat(bytes, " bytes of pinned memory for ", what));
  }
  buffer.data_.reset(data);
  buffer.bytes_ = bytes;
  return buffer;
}

}  // namespace vernier::cuda
