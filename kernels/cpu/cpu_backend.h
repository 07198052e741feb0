// Makes the CPU backend: packed weights, a thread pool, kernels of one instruction set chosen once
// at start.
//
// The Backend it returns keeps the threading rules of kernels/backend.h. Its results for a row
// depend on the instruction set, the formats, the shapes and the row's own context: not on the
// batch, the chunking or the number of threads . kernels/cpu/README.md
// states the order of every sum.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace vernier {

// What KV blocks hold once they are forgotten, and before they are first written.
enum class FreeBlocks : uint8_t { kAsTheyWere, kNan };

// `isa` is one of CpuIsaChoices; auto takes the best that the processor and the operating system
// support. `threads` counts the calling thread; 0 takes every processor that the process may run
// on. INVALID_ARGUMENT for an unknown isa or an impossible number of threads, FAILED_PRECONDITION
// for an isa that this build or processor lacks.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(
    const std::string& isa, int threads, FreeBlocks free_blocks = FreeBlocks::kAsTheyWere);

}  // namespace vernier
