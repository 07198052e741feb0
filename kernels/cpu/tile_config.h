// What LDTILECFG reads, as Intel's Software Developer's Manual lays it out (volume 2). Included by
// the file that is compiled for AMX: a plain aggregate, without functions of its own.
#pragma once

#include <stdint.h>

namespace vernier {

struct TileConfig {
  uint8_t palette;    // 1; 0 releases the tiles
  uint8_t start_row;  // of an interrupted load
  uint8_t reserved[14];
  uint16_t row_bytes[16];  // by tile
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace vernier
