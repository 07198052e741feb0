// The tile instructions of AMX, written out: GCC 12's intrinsics tell the compiler neither that a
// load reads memory nor that the configuration has 64 bytes, so it drops stores before them.
#pragma once

#include <stdint.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/tile_config.h"

// What comes first in each: in builds for tests that may run where there are no tiles, the function
// of emulated_tiles.h that stands in for the instruction; in all others nothing.
#ifdef VERNIER_EMULATE_AMX
#include "kernels/cpu/emulated_tiles.h"
#define VERNIER_OR_EMULATED(call) \
  if (emulated_tiles::Enabled()) return emulated_tiles::call
#else
#define VERNIER_OR_EMULATED(call) static_cast<void>(0)
#endif

namespace vernier {
namespace {

constexpr int64_t kTileRowBytes = 64;

template <int kTile>
inline void LoadTile(const void* from) {
  VERNIER_OR_EMULATED(Load(kTile, from, kTileRowBytes));
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(kTileRowBytes), "i"(kTile)
                   : "memory");
}
template <int kTile>
inline void StoreTile(void* to) {
  VERNIER_OR_EMULATED(Store(kTile, to, kTileRowBytes));
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(kTileRowBytes), "i"(kTile)
                   : "memory");
}
template <int kTile>
inline void ZeroTile() {
  VERNIER_OR_EMULATED(Zero(kTile));
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// Adds a product of pairs of bf16, in fp32.
template <int kSum, int kA, int kB>
inline void AddPairs() {
  VERNIER_OR_EMULATED(AddPairs(kSum, kA, kB));
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}
// Adds a product of fours of signed bytes, in 32 bits.
template <int kSum, int kA, int kB>
inline void AddFours() {
  VERNIER_OR_EMULATED(AddFours(kSum, kA, kB));
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}

// Eight tiles of rows of 64 bytes.
inline void ConfigureTiles(const uint8_t (&rows_of_tile)[8]) {
  alignas(64) TileConfig config = {};
  config.palette = 1;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = kTileRowBytes;
    config.rows[tile] = rows_of_tile[tile];
  }
  VERNIER_OR_EMULATED(Configure(config));
  __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
}

void EndTiles() {
  VERNIER_OR_EMULATED(Release());
  __asm__ volatile("tilerelease" ::);
}

}  // namespace
}  // namespace vernier
