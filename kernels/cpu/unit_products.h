// The sums of a few rows of a weight with rows of x, whichever kernels the weight is packed for.
//
// Sums of a unit of kTileOutputs weight rows lie as [groups of kTileRows rows of
// x][kTilesOfUnit][kTileRows rows of x][kTileRows weight rows], whatever kernels made them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/tiled_rows.h"

namespace vernier {

// Rows of activations: row m begins at data + m * stride.
struct Rows {
  float* data = nullptr;
  int64_t stride = 0;  // floats
  float* row(int64_t index) const { return data + index * stride; }
  Rows From(int64_t first) const { return {row(first), stride}; }
};

constexpr int kMaxUnitPanels = kTileOutputs / kPanelRows;

// kTileOutputs rows of a weight: what a thread multiplies at once, whatever kernels do it.
struct WeightUnit {
  const PackedWeight* weight;
  const float* bias;  // [weight rows, to a multiple of kPanelRows], or null
  int64_t index;

  int64_t first_row() const { return index * kTileOutputs; }
  int valid_rows(int tile) const {
    const int64_t rows = weight->rows - first_row() - int64_t{tile} * kTileRows;
    return static_cast<int>(std::clamp<int64_t>(rows, 0, kTileRows));
  }
  // The panels that there are.
  int Panels(Panel* panels) const {
    const int64_t of_unit = kTileOutputs / weight->panel_rows();
    const int64_t first = index * of_unit;
    const auto count = static_cast<int>(std::min(of_unit, weight->num_panels() - first));
    for (int i = 0; i < count; ++i) panels[i] = weight->panel(first + i);
    return count;
  }
};

inline int64_t NumUnits(const PackedWeight& weight) {
  return (weight.rows + kTileOutputs - 1) / kTileOutputs;
}

// The rows of x from `first` on, up to `most`; whole groups come before them.
inline DigitRows DigitRowsFrom(DigitRows x, int64_t first, int64_t most) {
  x.tiles += first / x.line_rows / kDigitLines * x.steps * kDigitTile;
  x.starts += first / x.line_rows / kDigitLines * x.steps * kStepStarts;
  x.scales += x.line_rows == 1 ? first : first * x.steps;  // or two rows a line, a scale a step
  x.rows = std::min(most, x.rows - first);
  return x;
}

// Rows of x in bf16; no data: the call multiplies none so.
struct RoundedRows {
  const uint16_t* data = nullptr;
  int64_t stride = 0;  // elements
  const uint16_t* row(int64_t index) const { return data + index * stride; }
};

// Up to kBatchRows rows of x, in each form that a weight of the call is multiplied with; the other
// is empty.
struct RowRun {
  int64_t first_row;  // of the call's x
  int64_t num_rows;
  Rows x;
  TiledRows tiled;  // no data: at most kMaxPlainRows rows, multiplied as they are
  DigitRows digits;
  RoundedRows rounded;

  int64_t groups() const { return GroupsOf(num_rows); }
  int RowsOf(int64_t group) const {
    return static_cast<int>(std::min<int64_t>(kTileRows, num_rows - group * kTileRows));
  }
};

// One thread's scratch.
struct UnitScratch {
  uint8_t* decoded;
  float* sums;  // [kBatchUnits][groups][kSumsSize]
};

// body(sums of one tile, the tile, its group, the group's rows of x) for the tiles that have rows
// of the weight. sums: [groups][kTilesOfUnit][kTileRows rows of x][kTileRows weight rows].
template <class Body>
void ForTiles(const WeightUnit& unit, const RowRun& run, float* sums, const Body& body) {
  for (int64_t group = 0; group < run.groups(); ++group, sums += kSumsSize) {
    for (int tile = 0; tile < kTilesOfUnit && unit.valid_rows(tile) > 0; ++tile) {
      body(sums + tile * kTileSums, tile, group, run.RowsOf(group));
    }
  }
}

// The sums of up to kBatchUnits units, units of one weight side by side: scaled by row, with the
// bias. scratch.sums [units][groups][kSumsSize].
void MultiplyUnits(const KernelTable& kernels, std::span<const WeightUnit> units, const RowRun& run,
                   const UnitScratch& scratch);

// Floats behind UnitScratch::decoded for weights of `cols` columns; -1 when that overflows.
int64_t DecodedFloats(int64_t cols);

}  // namespace vernier
