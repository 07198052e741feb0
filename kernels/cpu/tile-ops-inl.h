// The tile instructions of AMX, written out: GCC 12's intrinsics tell the compiler neither that a
// load reads memory nor that the configuration has 64 bytes, so it drops stores before them.
#pragma once

#include <stdint.h>

#include "kernels/cpu/kernel_table.h"

namespace vernier {
namespace {

#define VERNIER_TILE_LOAD(tile, from) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile::"r"(from), "r"(kTileRowBytes) : "memory")
#define VERNIER_TILE_STORE(to, tile)                                                              \
  __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"(kTileRowBytes) : "memor" \
                                                                                          "y")
#define VERNIER_TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::)
// Pairs of bf16, added in fp32.
#define VERNIER_TILE_ADD_PRODUCT(sum, a, b) \
  __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::)
// Fours of signed bytes, added in 32 bits.
#define VERNIER_TILE_ADD_BYTES(sum, a, b) \
  __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::)

constexpr int64_t kTileRowBytes = 64;

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
