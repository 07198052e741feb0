// Chooses and opens a backend: the only door to kernels/cpu and to the CUDA module.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace vernier {

struct BackendOptions {
  // auto | cpu | cuda | reference (slow, obvious, for tests). auto takes cuda where its module lies
  // beside the program and finds a device, else the CPU, and logs why.
  std::string kind = "auto";
  // Instruction set of the CPU backend, one of CpuIsaChoices (kernels/cpu_isas.h). auto takes the
  // best that the processor has.
  std::string isa = "auto";
  // The bits of a row are a function of that row alone: not of the rows beside it, of where a
  // prompt is cut, of what was cached. So it always is on the CPU; on CUDA it costs speed
  // (kernels/cuda/README.md).
  bool deterministic = false;
  // CPU: gives that up where the order of sums that serves decode and prefill alike costs speed,
  // which is 16-bit and fp32 weights on AMX (kernels/cpu/README.md has the price).
  bool fast_prefill = false;
  bool pin_threads = false;  // CPU: each compute thread but the caller has a processor of its own
  // CUDA: as on devices before Hopper, whatever the device. For tests.
  bool portable_cuda = false;
  std::string cuda_module;  // empty: ../lib/libvernier_cuda.so from the program's folder
  int threads = 0;          // compute threads; 0: every processor the process may run on
  // CPU: KV blocks that are free hold NaN, so that who reads one is found. Costs a write of each
  // block when it is freed.
#ifdef NDEBUG
  bool poison_kv = false;
#else
  bool poison_kv = true;
#endif
};

// INVALID_ARGUMENT for an unknown kind or isa; FAILED_PRECONDITION for one that this build or
// machine lacks: an instruction set, the CUDA module, a driver, a device, or a module of another
// build (with both ids).
absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const BackendOptions& options);

}  // namespace vernier
