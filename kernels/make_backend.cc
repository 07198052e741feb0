#include "kernels/make_backend.h"

#include <dlfcn.h>
#include <unistd.h>

#include <type_traits>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/module.h"
#include "kernels/reference_backend.h"

namespace vernier {
namespace {

// ../lib beside the folder of the running program.
std::string DefaultModulePath() {
  char path[4096];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  const std::string program(path, size > 0 ? static_cast<size_t>(size) : 0);
  const std::string folder = program.substr(0, program.find_last_of('/'));
  return absl::StrCat(folder.substr(0, folder.find_last_of('/')), "/lib/", cuda::kModuleFile);
}

absl::StatusOr<std::unique_ptr<Backend>> OpenCudaBackend(const std::string& path,
                                                         const cuda::CudaOptions& options) {
  // Never closed: its code runs as long as anything that it made.
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("no CUDA module: ", dlerror()));
  }
  const auto make =
      reinterpret_cast<cuda::MakeBackendFunction*>(dlsym(module, cuda::kMakeBackendSymbol));
  if (make == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is no CUDA module of this program: ", dlerror()));
  }
  const char* module_build_id = "";
  cuda::BackendResult result = absl::InternalError("the CUDA module made no backend");
  if (!make(VERNIER_BUILD_ID, &module_build_id, &result, options)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " has build id ", module_build_id, ", this program ", VERNIER_BUILD_ID));
  }
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const BackendOptions& options) {
  const std::string module =
      options.cuda_module.empty() ? DefaultModulePath() : options.cuda_module;
  const cuda::CudaOptions for_cuda{.deterministic = options.deterministic,
                                   .portable = options.portable_cuda};
  if (options.kind == "cuda") return OpenCudaBackend(module, for_cuda);
  if (options.kind == "auto" && access(module.c_str(), F_OK) == 0) {
    absl::StatusOr<std::unique_ptr<Backend>> backend = OpenCudaBackend(module, for_cuda);
    if (backend.ok()) return backend;
    Log(LogLevel::kWarning, absl::StrCat("running on the CPU: ", backend.status().message()));
  }
  if (options.kind == "auto" || options.kind == "cpu") {
    return MakeCpuBackend(
        {.isa = options.isa,
         .threads = options.threads,
         .free_blocks = options.poison_kv ? FreeBlocks::kNan : FreeBlocks::kAsTheyWere,
         .fast_prefill = options.fast_prefill,
         .pin_threads = options.pin_threads});
  }
  if (options.kind == "reference") return MakeReferenceBackend();
  return absl::InvalidArgumentError(
      absl::StrCat("unknown backend '", options.kind, "', known: auto, cpu, cuda, reference"));
}

}  // namespace vernier
