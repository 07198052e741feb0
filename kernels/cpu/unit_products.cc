#include "kernels/cpu/unit_products.h"

#include "kernels/base/check.h"

namespace vernier {
namespace {

// The sums of one panel and `count` rows of x from row `first` on: y [count][kPanelRows].
void CopySums(const float* y, int64_t first, int count, float* to) {
  for (int row = 0; row < count; ++row) {
    const int64_t at = first + row;
    std::copy_n(y + row * kPanelRows, kPanelRows,
                to + at / kTileRows * kSumsSize + at % kTileRows * kTileRows);
  }
}

// Where sums of a unit's panel begin.
float* SumsOfPanel(int panel, float* sums) {
  static_assert(kTileRows == kTilesOfUnit * kPanelRows);
  return sums + panel / kTilesOfUnit * kTileSums + panel % kTilesOfUnit * kPanelRows;
}

// ---- Dots: PanelOrder::kRows ----

// A panel is decoded where that pays, and multiplied with a few rows of x in each pass; after the
// first it comes from cache.
void MultiplyByDots(const KernelTable& kernels, const WeightUnit& unit, const RowRun& run,
                    const UnitScratch& scratch, float* sums) {
  const DotKernels& own = kernels.dots[static_cast<int>(unit.weight->layout)];
  const bool decode =
      own.decode != nullptr && (own.dot[0] == nullptr || run.num_rows > kMaxDotRows);
  Panel panels[kMaxUnitPanels];
  const int num_panels = unit.Panels(panels);
  for (int i = 0; i < num_panels; ++i) {
    const DotKernels* dots = &own;
    if (decode) {
      own.decode(panels[i], reinterpret_cast<float*>(scratch.decoded));
      panels[i].codes = scratch.decoded;
      dots = &kernels.decoded;
    }
    for (int64_t m = 0; m < run.num_rows; m += kMaxDotRows) {
      const auto count = static_cast<int>(std::min<int64_t>(kMaxDotRows, run.num_rows - m));
      float y[kMaxDotRows * kPanelRows];
      dots->dot[count - 1](panels[i], run.x.row(m), run.x.stride, y);
      CopySums(y, m, count, SumsOfPanel(i, sums));
    }
  }
}

// ---- Rounded: bf16 times bf16 ----

// x of a pass over a batch's weights stays in the second cache.
constexpr int64_t kRoundedPassBytes = 384 << 10;

void MultiplyRounded(const RoundedKernels& kernels, std::span<const WeightUnit> units,
                     const RowRun& run, float* const* sums) {
  const int64_t row_bytes = units[0].weight->padded_cols * static_cast<int64_t>(sizeof(uint16_t));
  const int64_t pass_rows =
      std::max<int64_t>(1, kRoundedPassBytes / row_bytes / kMaxDotRows) * kMaxDotRows;
  for (int64_t first = 0; first < run.num_rows; first += pass_rows) {
    const int64_t end = std::min(first + pass_rows, run.num_rows);
    for (size_t i = 0; i < units.size(); ++i) {
      Panel panels[kMaxUnitPanels];
      const int num_panels = units[i].Panels(panels);
      for (int panel = 0; panel < num_panels; ++panel) {
        for (int64_t m = first; m < end; m += kMaxDotRows) {
          const auto count = static_cast<int>(std::min<int64_t>(kMaxDotRows, end - m));
          float y[kMaxDotRows * kPanelRows];
          kernels.dot[count - 1](panels[panel], run.rounded.row(m), run.rounded.stride, y);
          CopySums(y, m, count, SumsOfPanel(panel, sums[i]));
        }
      }
    }
  }
}

// ---- Digits: PanelOrder::kQuads ----

// x of a pass over a batch's weights stays in the second cache.
constexpr int64_t kDigitPassBytes = 768 << 10;
constexpr int64_t kPassUnit = kTileRows;  // whole groups, whatever the rows of a line
static_assert(kPassUnit % kDigitGroupRows == 0);

void MultiplyByDigits(const DigitKernels& kernels, std::span<const WeightUnit> units,
                      const DigitRows& x, const UnitScratch& scratch, float* const* sums) {
  const int64_t row_bytes = x.steps * kDigitCols * 2 / x.line_rows;
  const int64_t fitting = kDigitPassBytes / row_bytes / kPassUnit * kPassUnit;
  const int64_t pass_rows = std::max<int64_t>(kPassUnit, fitting);
  kernels.begin();
  for (int64_t first = 0; first < x.rows; first += pass_rows) {
    DigitProduct product = {};
    product.x = DigitRowsFrom(x, first, pass_rows);
    product.scratch = scratch.decoded;
    for (size_t i = 0; i < units.size(); ++i) {
      product.num_panels = units[i].Panels(product.panels);
      if (product.num_panels == 1) product.panels[1] = product.panels[0];
      product.sums = sums[i] + first / kTileRows * kSumsSize;
      kernels.multiply[static_cast<int>(units[i].weight->layout)](product);
    }
  }
  kernels.end();
}

// ---- Tiles: PanelOrder::kPairs ----
//
// For a block of inputs each unit of a batch is decoded in turn, into tiles that stay in the first
// cache, and multiplied with that block of every group of x, which stays in the second cache for
// the whole batch; the sums are loaded and stored in between. One or two groups need none of that:
// their sums stay in the matrix unit from a weight row's first input to its last.

// Decodes inputs [col, col + count) of one unit, which lie in the block of x from `first_col`, and
// multiplies them with every group. `resident`: the sums stay in the matrix unit until the last.
void MultiplyBlock(const TileKernels& kernels, const WeightUnit& unit, const TiledRows& x,
                   int64_t first_col, int64_t col, int64_t count, bool resident, float* sums,
                   uint16_t* tiles) {
  const TileKernels::OfLayout& own = kernels.layouts[static_cast<int>(unit.weight->layout)];
  const int64_t offset = (col - first_col) * kTileRows;
  Panel panels[kMaxUnitPanels];
  const int num_panels = unit.Panels(panels);
  for (int i = 0; i < num_panels; ++i) own.decode(panels[i], col, count, tiles + i * kTileSize);
  for (int64_t g = 0; g < x.groups; g += 2) {
    kernels.multiply[x.parts - 1][own.weight_parts - 1](
        {.w = tiles,
         .x = {x.Tiles(first_col, 0, g) + offset, x.Tiles(first_col, x.parts - 1, g) + offset},
         .x_group = x.GroupSize(first_col),
         .steps = count / kTileCols,
         .groups = static_cast<int>(std::min<int64_t>(2, x.groups - g)),
         .zero = col == 0,
         .load = col > 0 && !resident,
         .store = col + count == unit.weight->padded_cols || !resident,
         .sums = sums + g * kSumsSize});
  }
}

// `product` with the unit's panels.
void MultiplyFew(const WeightUnit& unit, void (*multiply)(const TileKernels::FewRows&),
                 TileKernels::FewRows product) {
  Panel panels[kMaxUnitPanels];
  product.num_panels = unit.Panels(panels);
  product.panels = panels;
  multiply(product);
}

void MultiplyFewByTiles(const TileKernels& kernels, const WeightUnit& unit, const TiledRows& x,
                        float* sums) {
  const auto& own = kernels.layouts[static_cast<int>(unit.weight->layout)];
  MultiplyFew(unit, own.multiply_few[x.parts - 1][x.rows - 1],
              {.x = {x.Few(0), x.Few(x.parts - 1)}, .x_stride = x.cols, .sums = sums});
}

void MultiplyPlain(const TileKernels& kernels, const WeightUnit& unit, const RowRun& run,
                   float* sums) {
  const auto& own = kernels.layouts[static_cast<int>(unit.weight->layout)];
  MultiplyFew(unit, own.multiply_plain[run.num_rows - 1],
              {.x = {run.x.data, nullptr}, .x_stride = run.x.stride, .sums = sums});
}

// Columns of a unit are decoded `most` at a time.
void MultiplyResident(const TileKernels& kernels, const WeightUnit& unit, const TiledRows& x,
                      uint16_t* tiles, float* sums) {
  const int64_t cols = unit.weight->padded_cols;
  // So that as much is decoded at once, whatever a weight's parts.
  const int parts = kernels.layouts[static_cast<int>(unit.weight->layout)].weight_parts;
  const int64_t most = kResidentBlock / parts / kTileCols * kTileCols;
  for (int64_t first = 0; first < cols; first += x.block) {
    const int64_t end = std::min(first + x.block, cols);
    for (int64_t col = first; col < end; col += most) {
      MultiplyBlock(kernels, unit, x, first, col, std::min(most, end - col), true, sums, tiles);
    }
  }
}

void MultiplyManyByTiles(const TileKernels& kernels, std::span<const WeightUnit> units,
                         const TiledRows& x, uint16_t* tiles, float* const* sums) {
  if (x.groups <= kResidentGroups) {
    for (size_t i = 0; i < units.size(); ++i) {
      MultiplyResident(kernels, units[i], x, tiles, sums[i]);
    }
    return;
  }
  for (int64_t col = 0; col < x.cols; col += x.block) {
    for (size_t i = 0; i < units.size(); ++i) {
      const int64_t count = std::min(x.block, units[i].weight->padded_cols - col);
      if (count <= 0) continue;
      MultiplyBlock(kernels, units[i], x, col, col, count, false, sums[i], tiles);
    }
  }
}

void MultiplyByTiles(const TileKernels& kernels, std::span<const WeightUnit> units,
                     const TiledRows& x, const UnitScratch& scratch, float* const* sums) {
  const unsigned flushing = kernels.begin_flushing();
  if (x.few) {
    for (size_t i = 0; i < units.size(); ++i) MultiplyFewByTiles(kernels, units[i], x, sums[i]);
  } else {
    kernels.begin(x.rows);
    MultiplyManyByTiles(kernels, units, x, reinterpret_cast<uint16_t*>(scratch.decoded), sums);
    kernels.end();
  }
  kernels.end_flushing(flushing);
}

// ---- Any of them ----

// sums *= row scales, += bias, where there are any.
void Finish(const WeightUnit& unit, const RowRun& run, float* sums) {
  const float* scales = unit.weight->row_scales.floats();
  if (scales == nullptr && unit.bias == nullptr) return;
  ForTiles(unit, run, sums, [&](float* y, int tile, int64_t, int rows) {
    const int64_t first = unit.first_row() + int64_t{tile} * kTileRows;
    float scale[kTileRows], bias[kTileRows];
    std::fill_n(scale, kTileRows, 1.0f);
    std::fill_n(bias, kTileRows, 0.0f);
    if (scales != nullptr) std::copy_n(scales + first, unit.valid_rows(tile), scale);
    if (unit.bias != nullptr) std::copy_n(unit.bias + first, unit.valid_rows(tile), bias);
    for (int row = 0; row < rows; ++row, y += kTileRows) {
      if (scales != nullptr) {
        for (int i = 0; i < kTileRows; ++i) y[i] *= scale[i];
      }
      if (unit.bias != nullptr) {
        for (int i = 0; i < kTileRows; ++i) y[i] += bias[i];
      }
    }
  });
}

}  // namespace

void MultiplyUnits(const KernelTable& kernels, std::span<const WeightUnit> units, const RowRun& run,
                   const UnitScratch& scratch) {
  const int64_t size = run.groups() * kSumsSize;
  float* sums[kBatchUnits];
  for (size_t i = 0; i < units.size(); ++i) sums[i] = scratch.sums + i * size;
  size_t begin = 0;
  while (begin < units.size()) {
    const PanelOrder order = units[begin].weight->order;
    size_t end = begin + 1;
    while (end < units.size() && units[end].weight == units[begin].weight) ++end;
    const std::span<const WeightUnit> same = units.subspan(begin, end - begin);
    switch (order) {
      case PanelOrder::kRows:
        if (run.rounded.data != nullptr) {
          MultiplyRounded(*kernels.rounded, same, run, sums + begin);
          break;
        }
        for (size_t i = begin; i < end; ++i) {
          MultiplyByDots(kernels, units[i], run, scratch, sums[i]);
        }
        break;
      case PanelOrder::kPairs:
        if (run.tiled.data == nullptr) {
          for (size_t i = begin; i < end; ++i) {
            MultiplyPlain(*kernels.tiles, units[i], run, sums[i]);
          }
          break;
        }
        MultiplyByTiles(*kernels.tiles, same, run.tiled, scratch, sums + begin);
        break;
      case PanelOrder::kQuads:
        MultiplyByDigits(*kernels.digits, same, run.digits, scratch, sums + begin);
        break;
    }
    begin = end;
  }
  for (size_t i = 0; i < units.size(); ++i) Finish(units[i], run, sums[i]);
}

int64_t DecodedFloats(int64_t cols) {
  constexpr int64_t kTiles = kBlock * kTileOutputs * kMaxWeightParts / 2;
  constexpr int64_t kDigits = kDigitScratchBytes / static_cast<int64_t>(sizeof(float));
  const int64_t panel = CheckedMultiply(CheckedRoundUp(cols, kNf4Chunk), kPanelRows);
  return panel < 0 ? -1 : std::max({kTiles, kDigits, panel});
}

}  // namespace vernier
