// The one function that libvernier_cuda.so exports: how a backend comes through dlopen.
//
// C++ values pass through it, so both sides must have been built from the same headers by the same
// compiler: each gives its build id (kernels/CMakeLists.txt), and where they differ nothing else is
// touched.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace vernier::cuda {

// As BackendOptions of make_backend.h.
struct CudaOptions {
  bool deterministic = false;
  bool portable = false;
};

using BackendResult = absl::StatusOr<std::unique_ptr<Backend>>;

// Sets `*module_build_id` (static). False when that is not `host_build_id`; else `*result` becomes
// a backend on the first device, or FAILED_PRECONDITION saying what is missing: a driver, a device,
// or one of at least the compute capability that the module is made for.
using MakeBackendFunction = bool(const char* host_build_id, const char** module_build_id,
                                 BackendResult* result, const CudaOptions& options);

inline constexpr char kModuleFile[] = "libvernier_cuda.so";
inline constexpr char kMakeBackendSymbol[] = "vernier_cuda_make_backend";

// Inside the module.
BackendResult MakeCudaBackend(const CudaOptions& options);

}  // namespace vernier::cuda
