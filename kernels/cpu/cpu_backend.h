// Makes the CPU backend: packed weights, a thread pool, kernels of one instruction set chosen once
// at start.
//
// The Backend it returns keeps the threading rules of kernels/backend.h. Its results for a row
// depend on the instruction set, the formats, the shapes and the row's own context: not on the
// batch, the chunking or the number of threads (CpuOptions::fast_prefill aside).
// kernels/cpu/README.md states the order of every sum.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace vernier {

// What KV blocks hold once they are forgotten, and before they are first written.
enum class FreeBlocks : uint8_t { kAsTheyWere, kNan };

struct CpuOptions {
  // One of CpuIsaChoices; auto takes the best that the processor and the operating system support.
  std::string isa = "auto";
  int threads = 0;  // the calling one too; 0: every processor that the process may run on
  FreeBlocks free_blocks = FreeBlocks::kAsTheyWere;
  // Where a matrix unit adds otherwise than vectors do, each takes what it is faster at: a row's
  // bits depend on how many are beside it.
  bool fast_prefill = false;
  // Each thread but the calling one stays on a processor of its own.
  bool pin_threads = false;
};

// INVALID_ARGUMENT for an unknown isa or an impossible number of threads, FAILED_PRECONDITION for
// an isa that this build or processor lacks.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuOptions& options);

}  // namespace vernier
