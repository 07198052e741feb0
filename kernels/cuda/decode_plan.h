// How the keys of rows with one new token are cut into runs that blocks of threads attend to: pure,
// no CUDA.
//
// A run is cut at multiples of a power of two of keys, the same for all rows of a step: long runs
// leave little to merge, short ones are enough for every multiprocessor when rows are few.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/device_types.h"

namespace vernier::cuda {

inline constexpr int kDecodeWarps = 4;  // of a block of threads; each reads a block of the cache
inline constexpr int kLeastRunKeys = kDecodeWarps * 32;

struct DecodePlan {
  int keys = kLeastRunKeys;     // of a run
  std::vector<DecodeRun> runs;  // whole ones, then what is left of each row
};

// `tiles`: blocks of threads that a run takes, one for each tile of heads. Fills `first_partial`
// and `partials` of `rows`, at most max(most_partials, rows) partials in all.
DecodePlan PlanDecode(int tiles, int64_t most_partials, std::span<DecodeRow> rows);

}  // namespace vernier::cuda
