#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/base/check.h"
#include "kernels/cpu/tiled_rows.h"

namespace vernier {
namespace {

// Rows of x that pass over a panel together when there are more than one pass can take: three sums
// for each of the panel's rows fill the registers of AVX-512 and read each weight from cache once.
constexpr int kPanelPassRows = 3;

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

constexpr int kMaxUnitPanels = kTileOutputs / kPanelRows;

int64_t NumUnits(const PackedWeight& weight) {
  return (weight.rows + kTileOutputs - 1) / kTileOutputs;
}

// Up to kBatchRows rows of x, in each form that a weight of the call is multiplied with.
struct RowRun {
  int64_t first_row;  // of the call's x
  int64_t num_rows;
  Rows x;
  TiledRows tiled;
  DigitRows digits;

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

// ---- Dots: PanelOrder::kRows ----

// A panel is decoded where that pays, and multiplied with a few rows of x in each pass.
void MultiplyByDots(const KernelTable& kernels, const WeightUnit& unit, const RowRun& run,
                    const UnitScratch& scratch, float* sums) {
  const DotKernels& own = kernels.dots[static_cast<int>(unit.weight->layout)];
  const bool one_pass = own.dot[0] != nullptr && run.num_rows <= kMaxDotRows;
  const int pass_rows = one_pass ? kMaxDotRows : kPanelPassRows;
  Panel panels[kMaxUnitPanels];
  const int num_panels = unit.Panels(panels);
  for (int i = 0; i < num_panels; ++i) {
    const DotKernels* dots = &own;
    if (!one_pass && own.decode != nullptr) {
      own.decode(panels[i], reinterpret_cast<float*>(scratch.decoded));
      panels[i].codes = scratch.decoded;
      dots = &kernels.dots[static_cast<int>(PanelLayout::kF32)];
    }
    float* to = sums + i / kTilesOfUnit * kTileSums + i % kTilesOfUnit * kPanelRows;
    static_assert(kTileRows == kTilesOfUnit * kPanelRows);
    for (int64_t m = 0; m < run.num_rows; m += pass_rows) {
      const auto count = static_cast<int>(std::min<int64_t>(pass_rows, run.num_rows - m));
      float y[kMaxDotRows * kPanelRows];
      dots->dot[count - 1](panels[i], run.x.row(m), run.x.stride, y);
      for (int row = 0; row < count; ++row) {
        const int64_t at = m + row;
        std::copy_n(y + row * kPanelRows, kPanelRows,
                    to + at / kTileRows * kSumsSize + at % kTileRows * kTileRows);
      }
    }
  }
}

// ---- Digits: PanelOrder::kQuads ----

DigitRows DigitsOf(const LinearRuntime& runtime, int64_t num_rows, int64_t cols,
                   int64_t first_row) {
  const int64_t groups = (num_rows + kDigitRows - 1) / kDigitRows;
  const int64_t steps = PaddedCols(cols) / kDigitCols;
  const int64_t scales = (groups * kDigitRows + kChunk - 1) / kChunk * kChunk;
  const auto* tiles = reinterpret_cast<const uint8_t*>(runtime.x_digits.data + scales);
  return {.tiles = tiles + first_row / kDigitRows * steps * kDigitTile,
          .scales = runtime.x_digits.data + first_row,
          .rows = std::min(kBatchRows, num_rows - first_row),
          .steps = steps};
}

void SplitIntoDigits(const LinearRuntime& runtime, Rows x, int64_t num_rows, int64_t cols) {
  VERNIER_CHECK(DigitFloats(cols) <= runtime.x_digits.stride);
  const DigitRows all = DigitsOf(runtime, num_rows, cols, 0);
  auto* tiles = const_cast<uint8_t*>(all.tiles);
  auto* scales = const_cast<float*>(all.scales);
  const int64_t groups = (num_rows + kDigitRows - 1) / kDigitRows;
  runtime.pool->ParallelFor(groups, [&](int, int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const int64_t row = g * kDigitRows;
      runtime.kernels->digits->split(
          x.row(row), x.stride, static_cast<int>(std::min<int64_t>(kDigitRows, num_rows - row)),
          all.steps, num_rows, tiles + g * all.steps * kDigitTile, scales + row);
    }
  });
}

// x of a pass over a batch's weights stays in the second cache.
constexpr int64_t kDigitPassBytes = 768 << 10;

void MultiplyByDigits(const DigitKernels& kernels, std::span<const WeightUnit> units,
                      const RowRun& run, const UnitScratch& scratch, float* const* sums) {
  const DigitRows& x = run.digits;
  const int64_t fitting = kDigitPassBytes / (x.steps * kDigitCols * 2) / kTileRows * kTileRows;
  const int64_t pass_rows = std::max<int64_t>(kTileRows, fitting);
  kernels.begin();
  for (int64_t first = 0; first < x.rows; first += pass_rows) {
    DigitProduct product = {};
    product.x = {.tiles = x.tiles + first / kDigitRows * x.steps * kDigitTile,
                 .scales = x.scales + first,
                 .rows = std::min(pass_rows, x.rows - first),
                 .steps = x.steps};
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

// The rows of x from `first_row`, a multiple of kBatchRows, of `num_rows` in all.
TiledRows TilesOf(const LinearRuntime& runtime, int64_t num_rows, int64_t cols, int64_t first_row) {
  auto* tiles = reinterpret_cast<uint16_t*>(runtime.x_tiles.data);
  const int64_t padded = PaddedCols(cols);
  return TiledRows(tiles + first_row * padded * kTileParts,
                   std::min(kBatchRows, num_rows - first_row), padded);
}

void SplitFewRows(const TileKernels& kernels, Rows x, const TiledRows& few) {
  for (int64_t row = 0; row < few.rows; ++row) {
    float* const parts[kTileParts] = {few.Few(0) + row * few.cols, few.Few(1) + row * few.cols};
    kernels.split_few(x.row(row), few.cols, parts);
  }
}
static_assert(kMaxFewRows * kTileParts <= kTileRows);  // x_tiles has room

void SplitIntoTiles(const LinearRuntime& runtime, Rows x, int64_t num_rows, int64_t cols) {
  VERNIER_CHECK(PaddedCols(cols) <= runtime.x_tiles.stride);
  const TileKernels& kernels = *runtime.kernels->tiles;
  if (IsFew(num_rows)) return SplitFewRows(kernels, x, TilesOf(runtime, num_rows, cols, 0));
  runtime.pool->ParallelFor(GroupsOf(num_rows), [&](int, int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const TiledRows tiled = TilesOf(runtime, num_rows, cols, g / kBatchGroups * kBatchRows);
      const int64_t group = g % kBatchGroups;
      for (int64_t col = 0; col < tiled.cols; col += tiled.block) {
        uint16_t* const parts[kTileParts] = {tiled.Tiles(col, 0, group),
                                             tiled.Tiles(col, 1, group)};
        kernels.split(x.row(g * kTileRows) + col, x.stride, tiled.RowsOf(group),
                      tiled.BlockCols(col), parts);
      }
    }
  });
}

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
    kernels.multiply[own.weight_parts - 1](
        {.w = tiles,
         .x = {x.Tiles(first_col, 0, g) + offset, x.Tiles(first_col, 1, g) + offset},
         .x_group = x.GroupSize(first_col),
         .steps = count / kTileCols,
         .groups = static_cast<int>(std::min<int64_t>(2, x.groups - g)),
         .zero = col == 0,
         .load = col > 0 && !resident,
         .store = col + count == unit.weight->padded_cols || !resident,
         .sums = sums + g * kSumsSize});
  }
}

void MultiplyFewByTiles(const TileKernels& kernels, const WeightUnit& unit, const TiledRows& x,
                        float* sums) {
  Panel panels[kMaxUnitPanels];
  const int num_panels = unit.Panels(panels);
  const auto& own = kernels.layouts[static_cast<int>(unit.weight->layout)];
  own.multiply_few[x.rows - 1]({.panels = panels,
                                .num_panels = num_panels,
                                .x = {x.Few(0), x.Few(1)},
                                .x_stride = x.cols,
                                .sums = sums});
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

void MultiplyByTiles(const TileKernels& kernels, std::span<const WeightUnit> units,
                     const RowRun& run, const UnitScratch& scratch, float* const* sums) {
  const TiledRows& x = run.tiled;
  auto* tiles = reinterpret_cast<uint16_t*>(scratch.decoded);
  const unsigned flushing = kernels.begin_flushing();
  if (!IsFew(x.rows)) kernels.begin(x.rows);
  if (IsFew(x.rows)) {
    for (size_t i = 0; i < units.size(); ++i) MultiplyFewByTiles(kernels, units[i], x, sums[i]);
  } else if (x.groups <= kResidentGroups) {
    for (size_t i = 0; i < units.size(); ++i) {
      MultiplyResident(kernels, units[i], x, tiles, sums[i]);
    }
  } else {
    for (int64_t col = 0; col < x.cols; col += x.block) {
      for (size_t i = 0; i < units.size(); ++i) {
        const int64_t count = std::min(x.block, units[i].weight->padded_cols - col);
        if (count <= 0) continue;
        MultiplyBlock(kernels, units[i], x, col, col, count, false, sums[i], tiles);
      }
    }
  }
  if (!IsFew(x.rows)) kernels.end();
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

// The sums of a batch of units, finished; those of the units of one weight lie side by side.
void MultiplyUnits(const KernelTable& kernels, std::span<const WeightUnit> units,
                   const RowRun& run, const UnitScratch& scratch) {
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
        for (size_t i = begin; i < end; ++i) {
          MultiplyByDots(kernels, units[i], run, scratch, sums[i]);
        }
        break;
      case PanelOrder::kPairs:
        MultiplyByTiles(*kernels.tiles, same, run, scratch, sums + begin);
        break;
      case PanelOrder::kQuads:
        MultiplyByDigits(*kernels.digits, same, run, scratch, sums + begin);
        break;
    }
    begin = end;
  }
  for (size_t i = 0; i < units.size(); ++i) Finish(units[i], run, sums[i]);
}

void SoftCap(float cap, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = cap * std::tanh(y[i] / cap);
}

// `outputs` of a tile's sums to a row of an output; a constant number of them is a few moves.
template <class Count>
void StoreRow(const float* sums, Count outputs, Store store, float* to) {
  if (store == Store::kSet) {
    for (int i = 0; i < outputs; ++i) to[i] = sums[i];
  } else {
    for (int i = 0; i < outputs; ++i) to[i] += sums[i];
  }
}

// Rows of x become rows of `out`, one after the other for all units, which lie side by side there:
// a thread writes a run of each row.
void StoreUnits(std::span<const WeightUnit> units, const RowRun& run, const float* sums,
                Store store, Rows out) {
  const int64_t size = run.groups() * kSumsSize;
  for (int64_t row = 0; row < run.num_rows; ++row) {
    const float* of_row = sums + row / kTileRows * kSumsSize + row % kTileRows * kTileRows;
    float* const to = out.row(run.first_row + row);
    for (size_t i = 0; i < units.size(); ++i) {
      for (int tile = 0; tile < kTilesOfUnit; ++tile) {
        const float* from = of_row + static_cast<int64_t>(i) * size + tile * kTileSums;
        const int64_t column = units[i].first_row() + int64_t{tile} * kTileRows;
        const int outputs = units[i].valid_rows(tile);
        if (outputs == kTileRows) {
          StoreRow(from, std::integral_constant<int, kTileRows>(), store, to + column);
        } else {
          StoreRow(from, outputs, store, to + column);
        }
      }
    }
  }
}

// body(projection, first, last) for the units [begin, end) of all projections, one after the other:
// `first` and `last` count from the projection's own first.
template <class Body>
void ForProjections(std::span<const Projection> projections, int64_t begin, int64_t end,
                    const Body& body) {
  int64_t before = 0;  // units of the projections before
  for (const Projection& projection : projections) {
    const int64_t units = NumUnits(*projection.weight);
    const int64_t first = std::max<int64_t>(begin - before, 0);
    const int64_t last = std::min(end - before, units);
    if (first < last) body(projection, first, last);
    before += units;
  }
}

// Floats of one thread's scratch before its sums, whatever the kernels.
int64_t DecodedFloats(int64_t cols) {
  constexpr int64_t kTiles = kBlock * kTileOutputs * kMaxWeightParts / 2;
  constexpr int64_t kDigits = kDigitScratchBytes / static_cast<int64_t>(sizeof(float));
  const int64_t panel = CheckedMultiply(CheckedRoundUp(cols, kNf4Chunk), kPanelRows);
  return panel < 0 ? -1 : std::max({kTiles, kDigits, panel});
}

// body(thread's scratch, its units [begin, end), rows) over `units` units whose weights have
// the orders that `weights` have, for runs of rows whose sums fit the scratch.
template <class Body>
void ForUnits(const LinearRuntime& runtime, std::span<const PackedWeight* const> weights,
              int64_t units, Rows x, int64_t num_rows, const Body& body) {
  const int64_t cols = weights[0]->cols;
  bool tiles = false, digits = false;
  for (const PackedWeight* weight : weights) {
    VERNIER_CHECK(weight->cols == cols);
    tiles |= weight->order == PanelOrder::kPairs;
    digits |= weight->order == PanelOrder::kQuads;
  }
  if (tiles) SplitIntoTiles(runtime, x, num_rows, cols);
  if (digits) SplitIntoDigits(runtime, x, num_rows, cols);
  runtime.pool->ParallelFor(units, [&](int thread, int64_t begin, int64_t end) {
    float* floats = runtime.scratch.row(thread);
    const UnitScratch scratch = {reinterpret_cast<uint8_t*>(floats), floats + DecodedFloats(cols)};
    for (int64_t first = 0; first < num_rows; first += kBatchRows) {
      const RowRun run = {.first_row = first,
                          .num_rows = std::min(kBatchRows, num_rows - first),
                          .x = x.From(first),
                          .tiled = TilesOf(runtime, num_rows, cols, first),
                          .digits = DigitsOf(runtime, num_rows, cols, first)};
      body(scratch, begin, end, run);
    }
  });
}

}  // namespace

int64_t LinearScratchFloats(int64_t cols, int64_t rows) {
  const int64_t decoded = DecodedFloats(cols);
  if (decoded < 0) return -1;
  return decoded + kBatchUnits * std::min(GroupsOf(rows), kBatchGroups) * kSumsSize;
}

int64_t LinearTileRows(const KernelTable& kernels, int64_t rows) {
  static_assert(kTileParts * sizeof(uint16_t) == sizeof(float));
  return kernels.tiles == nullptr ? 0 : CheckedRoundUp(rows, kTileRows);
}

int64_t LinearDigitRows(const KernelTable& kernels, int64_t rows) {
  return kernels.digits == nullptr ? 0 : CheckedRoundUp(rows, kDigitRows);
}

// Two bytes an input; scales take a float a row, rounded up for the whole.
int64_t DigitFloats(int64_t cols) { return PaddedCols(cols) / 2 + kChunk; }

void Project(const LinearRuntime& runtime, Rows x, int64_t num_rows,
             std::span<const Projection> projections) {
  constexpr size_t kMostProjections = 4;
  VERNIER_CHECK(!projections.empty() && projections.size() <= kMostProjections);
  const PackedWeight* weights[kMostProjections];
  int64_t units = 0;
  for (size_t i = 0; i < projections.size(); ++i) {
    weights[i] = projections[i].weight;
    units += NumUnits(*weights[i]);
  }
  const auto multiply = [&](const UnitScratch& scratch, int64_t begin, int64_t end,
                            const RowRun& run) {
    const auto project = [&](const Projection& projection, int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i += kBatchUnits) {
        const int64_t count = std::min(kBatchUnits, last - i);
        WeightUnit batch[kBatchUnits];
        for (int64_t j = 0; j < count; ++j) batch[j] = {projection.weight, projection.bias, i + j};
        MultiplyUnits(*runtime.kernels, std::span(batch, count), run, scratch);
        for (int64_t j = 0; projection.soft_cap > 0 && j < count; ++j) {
          float* sums = scratch.sums + j * run.groups() * kSumsSize;
          ForTiles(batch[j], run, sums, [&](float* y, int, int64_t, int rows) {
            SoftCap(projection.soft_cap, int64_t{rows} * kTileRows, y);
          });
        }
        StoreUnits(std::span(batch, count), run, scratch.sums, projection.store, projection.out);
      }
    };
    ForProjections(projections, begin, end, project);
  };
  ForUnits(runtime, std::span(weights, projections.size()), units, x, num_rows, multiply);
}

void ProjectGated(const LinearRuntime& runtime, Rows x, int64_t num_rows, const GatedArgs& args,
                  Rows h) {
  // Half a batch of each, gates first; without a gate, `up` is what is activated.
  const bool gated = args.gate != nullptr;
  VERNIER_CHECK(!gated || args.gate->rows == args.up->rows);
  constexpr int64_t kHalf = kBatchUnits / 2;
  const auto activate = runtime.kernels->activate[static_cast<int>(args.activation)];
  const PackedWeight* weights[] = {args.up, gated ? args.gate : args.up};
  const auto multiply = [&](const UnitScratch& scratch, int64_t begin, int64_t end,
                            const RowRun& run) {
    for (int64_t i = begin; i < end; i += kHalf) {
      const int64_t count = std::min(kHalf, end - i);
      WeightUnit batch[kBatchUnits];
      for (int64_t j = 0; j < count; ++j) {
        batch[j] = gated ? WeightUnit{args.gate, args.gate_bias, i + j}
                         : WeightUnit{args.up, args.up_bias, i + j};
        batch[count + j] = {args.up, args.up_bias, i + j};
      }
      MultiplyUnits(*runtime.kernels, std::span(batch, gated ? 2 * count : count), run, scratch);
      const int64_t size = run.groups() * kSumsSize;
      for (int64_t j = 0; j < count; ++j) {
        float* sums = scratch.sums + j * size;
        ForTiles(batch[j], run, sums, [&](float* y, int, int64_t, int rows) {
          activate(y, gated ? y + count * size : nullptr, int64_t{rows} * kTileRows);
        });
      }
      StoreUnits(std::span(batch, count), run, scratch.sums, Store::kSet, h);
    }
  };
  ForUnits(runtime, weights, NumUnits(*args.up), x, num_rows, multiply);
  for (int64_t m = 0; m < num_rows; ++m) {
    std::fill(h.row(m) + args.up->rows, h.row(m) + PaddedCols(args.up->rows), 0.0f);
  }
}

}  // namespace vernier
