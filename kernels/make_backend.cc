#include "kernels/make_backend.h"

#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference_backend.h"

namespace vernier {

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const BackendOptions& options) {
  if (options.kind == "auto" || options.kind == "cpu") {
    return MakeCpuBackend(
        options.isa, options.threads,
        options.fast_prefill ? MatrixUnitUse::kManyRows : MatrixUnitUse::kAllRows);
  }
  if (options.kind == "reference") return MakeReferenceBackend();
  return absl::InvalidArgumentError(
      absl::StrCat("unknown backend '", options.kind, "', known: auto, cpu, reference"));
}

}  // namespace vernier
