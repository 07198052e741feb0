// Listens for what NVIDIA's driver reports of the GPU: ECC errors and Xids.
//
// libnvidia-ml (NVML) is opened at run time and is no dependency. Its functions and numbers are as
// in NVML's API reference, "Event Handling Methods"; which Xids mean what: NVIDIA's "XID Errors".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace vernier {

struct GpuEvent {
  enum class Kind { kXid, kEcc };
  Kind kind = Kind::kXid;
  uint64_t xid = 0;  // of kXid
};

// After which the device is not to be used any more: 48 an ECC error that cannot be corrected, 79
// it has fallen off the bus, 94 and 95 ECC errors contained and not contained.
bool IsFatal(const GpuEvent& event);

inline constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";

// One thread, which calls `told`.
class GpuEvents {
 public:
  // `visible`: what CUDA_VISIBLE_DEVICES says; its first entry may be a GPU's UUID. NOT_FOUND
  // without the library; FAILED_PRECONDITION where it has no such function, knows several GPUs and
  // `visible` has no UUID, or refuses.
  static absl::StatusOr<std::unique_ptr<GpuEvents>> Start(
      const std::string& library, const std::string& visible,
      std::function<void(const GpuEvent&)> told);
  virtual ~GpuEvents() = default;  // joins, within a quarter of a second
};

}  // namespace vernier
