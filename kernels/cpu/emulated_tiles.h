// The tile instructions of AMX in software: what lets tests run the kernels of AMX on a processor
// that has AVX-512 and no tiles. In builds with VERNIER_EMULATE_AMX alone.
//
// Each function is an instruction as Intel's Software Developer's Manual defines it (volume 2, by
// its name), with the stride in bytes. Tiles belong to the thread that calls. What the processor
// would refuse (#UD, #GP: a tile that is not configured, shapes that do not fit) fails a check.
// Included by the file that is compiled for AMX: plain declarations only.
#pragma once

#include <stdint.h>

#include "kernels/cpu/tile_config.h"

namespace vernier::emulated_tiles {

// True where the processor has no tiles and these stand in: CpuEmulates(CpuIsa::kAmx).
bool Enabled();

void Configure(const TileConfig& config);                     // LDTILECFG: palette 0 or 1
void Release();                                               // TILERELEASE
void Load(int tile, const void* from, int64_t stride_bytes);  // TILELOADD
void Store(int tile, void* to, int64_t stride_bytes);         // TILESTORED
void Zero(int tile);                                          // TILEZERO
void AddPairs(int sum, int a, int b);                         // TDPBF16PS
void AddFours(int sum, int a, int b);                         // TDPBSSD

}  // namespace vernier::emulated_tiles
