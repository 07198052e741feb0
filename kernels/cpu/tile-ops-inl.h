// The tile instructions of AMX, written out: GCC 12's intrinsics tell the compiler neither that a
// load reads memory nor that the configuration has 64 bytes, so it drops stores before them.
#pragma once

#include <stdint.h>

#include "kernels/cpu/kernel_table.h"

namespace vernier {
namespace {

constexpr int64_t kTileRowBytes = 64;

template <int kTile>
inline void LoadTile(const void* from) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(kTileRowBytes), "i"(kTile)
                   : "memory");
}
template <int kTile>
inline void StoreTile(void* to) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(kTileRowBytes), "i"(kTile)
                   : "memory");
}
template <int kTile>
inline void ZeroTile() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// Adds a product of pairs of bf16, in fp32.
template <int kSum, int kA, int kB>
inline void AddPairs() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}
// Adds a product of fours of signed bytes, in 32 bits.
template <int kSum, int kA, int kB>
inline void AddFours() {
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}

struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Eight tiles of rows of 64 bytes.
inline void ConfigureTiles(const uint8_t (&rows_of_tile)[8]) {
  alignas(64) TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = kTileRowBytes;
    config.rows[tile] = rows_of_tile[tile];
  }
  __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
}

void EndTiles() { __asm__ volatile("tilerelease" ::); }

}  // namespace
}  // namespace vernier
