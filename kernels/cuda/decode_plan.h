// How the keys of rows with one new token are shared out to blocks of threads: pure, no CUDA.
//
// The keys of all rows, once for each tile of heads, form one line of groups of kGroupKeys: row 0's
// for tile 0, for tile 1, and so on, then row 1's. Every block of threads attends to an equal run
// of that line, whatever rows it cuts (stream-K), and leaves partials of at most two rows of which
// it has not all keys: partial 2 c of what its run begins with, 2 c + 1 of what it ends with.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/device_types.h"

namespace vernier::cuda {

inline constexpr int kDecodeWarps = 4;        // of a block of threads
inline constexpr int kGroupKeys = 4 * 32;     // a block of the cache for each warp
inline constexpr int kMultiprocessors = 132;  // of an H100 or H200
inline constexpr int kMostDecodeBlocks = 3 * kMultiprocessors;  // of threads
inline constexpr int kPartialsPerBlock = 2;

// Groups of a row that hold keys in sight.
VERNIER_HOST_DEVICE constexpr int GroupsOf(const DecodeRow& row) {
  return (row.context + kGroupKeys - 1) / kGroupKeys - row.first_group;
}

struct DecodePlan {
  int blocks = 0;                   // of threads
  std::vector<DecodeShare> shares;  // [kMostDecodeBlocks], groups in the first `blocks` at most
};

// Of layers with a window of `window` keys (0: all) on multiprocessors that have room for
// `blocks_at_once` blocks of threads, 1 to 3. Fills `first_group` and `line` of `rows`, all of
// which have a context.
DecodePlan PlanDecode(int tiles, int window, int blocks_at_once, std::span<DecodeRow> rows);

}  // namespace vernier::cuda
