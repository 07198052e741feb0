#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"
#include "kernels/cpu/tiled_rows.h"

namespace vernier {
namespace {

// Rows of x that pass over a panel together when there are more than one pass can take: three sums
// for each of the panel's rows fill the registers of AVX-512 and read each weight from cache once.
constexpr int kPanelPassRows = 3;

// A panel, decoded where that pays, with the kernels that multiply it.
struct ReadyPanel {
  Panel panel;
  const DotKernels* kernels;
  const float* row_scales;  // [kPanelRows] or null
  const float* bias;        // [kPanelRows] or null
  int64_t first_row;
  int valid_rows;
  int pass_rows;  // rows of x of one Multiply, at most

  // y[m * kPanelRows + r] for `count` rows of x.
  void Multiply(const float* x, int64_t x_stride, int count, float* y) const {
    kernels->dot[count - 1](panel, x, x_stride, y);
    if (row_scales != nullptr) {
      for (int i = 0; i < count * kPanelRows; ++i) y[i] *= row_scales[i % kPanelRows];
    }
    if (bias != nullptr) {
      for (int i = 0; i < count * kPanelRows; ++i) y[i] += bias[i % kPanelRows];
    }
  }
};

ReadyPanel Prepare(const KernelTable& kernels, const PackedWeight& weight, const float* bias,
                   int64_t index, int64_t num_rows, float* scratch) {
  ReadyPanel ready;
  ready.panel = weight.panel(index);
  ready.kernels = &kernels.dots[static_cast<int>(weight.layout)];
  ready.row_scales = weight.scales_of(index);
  ready.first_row = index * kPanelRows;
  ready.bias = bias == nullptr ? nullptr : bias + ready.first_row;
  ready.valid_rows = static_cast<int>(std::min<int64_t>(kPanelRows, weight.rows - ready.first_row));
  const bool one_pass = ready.kernels->dot[0] != nullptr && num_rows <= kMaxDotRows;
  ready.pass_rows = one_pass ? kMaxDotRows : kPanelPassRows;
  if (!one_pass && ready.kernels->decode != nullptr) {
    ready.kernels->decode(ready.panel, scratch);
    ready.panel.codes = reinterpret_cast<const uint8_t*>(scratch);
    ready.kernels = &kernels.dots[static_cast<int>(PanelLayout::kF32)];
  }
  return ready;
}

void SoftCap(float cap, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = cap * std::tanh(y[i] / cap);
}

void StoreOutputs(const Projection& projection, const ReadyPanel& ready, int64_t first_row,
                  int count, float* y) {
  if (projection.soft_cap > 0) SoftCap(projection.soft_cap, count * kPanelRows, y);
  for (int m = 0; m < count; ++m) {
    float* out = projection.out.row(first_row + m) + ready.first_row;
    const float* from = y + m * kPanelRows;
    if (projection.store == Store::kAdd) {
      for (int r = 0; r < ready.valid_rows; ++r) out[r] += from[r];
    } else {
      for (int r = 0; r < ready.valid_rows; ++r) out[r] = from[r];
    }
  }
}

// Of one Multiply; a multiple of kChunk, since activations work on whole chunks.
constexpr int64_t kMaxOutputs = int64_t{kMaxDotRows} * kPanelRows;
static_assert(kMaxOutputs % kChunk == 0);

// body(projection, first, last) for the units [begin, end) of all projections, one after the other:
// `first` and `last` count from the projection's own first. units_of(weight) is how many it has.
template <class UnitsOf, class Body>
void ForProjections(std::span<const Projection> projections, int64_t begin, int64_t end,
                    const UnitsOf& units_of, const Body& body) {
  int64_t before = 0;  // units of the projections before
  for (const Projection& projection : projections) {
    const int64_t first = std::max<int64_t>(begin - before, 0);
    const int64_t last = std::min(end - before, units_of(*projection.weight));
    if (first < last) body(projection, first, last);
    before += units_of(*projection.weight);
  }
}

int64_t NumPanels(const PackedWeight& weight) { return weight.num_panels(); }

void ProjectByDots(const LinearRuntime& runtime, Rows x, int64_t num_rows,
                   std::span<const Projection> projections) {
  int64_t panels = 0;
  for (const Projection& projection : projections) panels += projection.weight->num_panels();
  runtime.pool->ParallelFor(panels, [&](int thread, int64_t begin, int64_t end) {
    alignas(64) float y[kMaxOutputs];
    const auto multiply = [&](const Projection& projection, int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const ReadyPanel ready = Prepare(*runtime.kernels, *projection.weight, projection.bias, i,
                                         num_rows, runtime.scratch.row(thread));
        for (int64_t m = 0; m < num_rows; m += ready.pass_rows) {
          const int count = static_cast<int>(std::min<int64_t>(ready.pass_rows, num_rows - m));
          ready.Multiply(x.row(m), x.stride, count, y);
          StoreOutputs(projection, ready, m, count, y);
        }
      }
    };
    ForProjections(projections, begin, end, NumPanels, multiply);
  });
}

void ProjectGatedByDots(const LinearRuntime& runtime, Rows x, int64_t num_rows,
                        const GatedArgs& args, Rows h) {
  const auto activate = runtime.kernels->activate[static_cast<int>(args.activation)];
  runtime.pool->ParallelFor(args.up->num_panels(), [&](int thread, int64_t begin, int64_t end) {
    alignas(64) float gated[kMaxOutputs] = {};
    alignas(64) float up[kMaxOutputs] = {};
    float* scratch = runtime.scratch.row(thread);
    for (int64_t i = begin; i < end; ++i) {
      const ReadyPanel up_panel =
          Prepare(*runtime.kernels, *args.up, args.up_bias, i, num_rows, scratch);
      ReadyPanel gate_panel = up_panel;
      if (args.gate != nullptr) {
        gate_panel = Prepare(*runtime.kernels, *args.gate, args.gate_bias, i, num_rows,
                             scratch + kPanelRows * PaddedCols(args.up->cols));
      }
      const int pass_rows = std::min(gate_panel.pass_rows, up_panel.pass_rows);
      for (int64_t m = 0; m < num_rows; m += pass_rows) {
        const int count = static_cast<int>(std::min<int64_t>(pass_rows, num_rows - m));
        gate_panel.Multiply(x.row(m), x.stride, count, gated);
        if (args.gate != nullptr) up_panel.Multiply(x.row(m), x.stride, count, up);
        const int64_t outputs = (count * kPanelRows + kChunk - 1) / kChunk * kChunk;
        activate(gated, args.gate != nullptr ? up : nullptr, outputs);
        for (int j = 0; j < count; ++j) {
          std::copy_n(gated + j * kPanelRows, up_panel.valid_rows,
                      h.row(m + j) + up_panel.first_row);
        }
      }
    }
  });
}

// ---- Products by a matrix unit ----
//
// A thread takes its units of kTileOutputs weight rows in batches. For a block of inputs it decodes
// each unit of the batch in turn, into tiles that stay in the first cache, and multiplies them with
// that block of every group of x, which stays in the second cache for the whole batch; the sums are
// loaded and stored in between. One or two groups need none of that: their sums stay in the matrix
// unit from a weight row's first input to its last.

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

int64_t NumUnits(const PackedWeight& weight) {
  return (weight.rows + kTileOutputs - 1) / kTileOutputs;
}

// kTileOutputs rows of a weight.
struct WeightUnit {
  const PackedWeight* weight;
  const float* bias;  // [weight rows, to a multiple of kPanelRows], or null
  int64_t index;

  int64_t first_row() const { return index * kTileOutputs; }
  int valid_rows(int tile) const {
    const int64_t rows = weight->rows - first_row() - int64_t{tile} * kTileRows;
    return static_cast<int>(std::clamp<int64_t>(rows, 0, kTileRows));
  }

  const TileKernels::OfLayout& KernelsOf(const TileKernels& kernels) const {
    return kernels.layouts[static_cast<int>(weight->layout)];
  }
  // The panels that there are: a panel is a tile's rows.
  int Panels(Panel* panels) const {
    const int64_t first = index * kTilesOfUnit;
    const auto count =
        static_cast<int>(std::min<int64_t>(kTilesOfUnit, weight->num_panels() - first));
    for (int i = 0; i < count; ++i) panels[i] = weight->panel(first + i);
    return count;
  }

  void Decode(const TileKernels& kernels, int64_t col, int64_t count, uint16_t* tiles) const {
    Panel panels[kTilesOfUnit];
    const int num_panels = Panels(panels);
    for (int i = 0; i < num_panels; ++i) {
      KernelsOf(kernels).decode(panels[i], col, count, tiles + i * kTileSize);
    }
  }

  // sums of few rows, as MultiplyBlock leaves those of a group.
  void MultiplyFew(const TileKernels& kernels, const TiledRows& x, float* sums) const {
    Panel panels[kTilesOfUnit];
    const int num_panels = Panels(panels);
    KernelsOf(kernels).multiply_few[x.rows - 1]({.panels = panels,
                                                 .num_panels = num_panels,
                                                 .x = {x.Few(0), x.Few(1)},
                                                 .x_stride = x.cols,
                                                 .sums = sums});
  }

  // body(sums of one tile, the tile, its group, the group's rows of x) for the tiles that have rows
  // of the weight.
  template <class Body>
  void ForTiles(const TiledRows& x, float* sums, const Body& body) const {
    for (int64_t group = 0; group < x.groups; ++group, sums += kSumsSize) {
      for (int tile = 0; tile < kTilesOfUnit && valid_rows(tile) > 0; ++tile) {
        body(sums + tile * kTileSums, tile, group, x.RowsOf(group));
      }
    }
  }

  // sums [groups][kTilesOfUnit][kTileRows rows of x][kTileRows]: scaled by row, with the bias.
  void Finish(const TileKernels& kernels, const TiledRows& x, float* sums) const {
    const float* scales = weight->row_scales.floats();
    if (scales == nullptr && bias == nullptr) return;
    ForTiles(x, sums, [&](float* tile_sums, int tile, int64_t, int rows) {
      const int64_t row = first_row() + int64_t{tile} * kTileRows;
      kernels.finish(tile_sums, valid_rows(tile), rows, scales == nullptr ? nullptr : scales + row,
                     bias == nullptr ? nullptr : bias + row);
    });
  }

  // Rows of x become rows of `out`.
  void Store(const TileKernels& kernels, const TiledRows& x, float* sums, bool add,
             Rows out) const {
    ForTiles(x, sums, [&](const float* tile_sums, int tile, int64_t group, int rows) {
      kernels.store(tile_sums, valid_rows(tile), rows, add,
                    out.row(group * kTileRows) + first_row() + tile * kTileRows, out.stride);
    });
  }
};

// One thread's scratch.
struct TileScratch {
  explicit TileScratch(float* scratch)
      : tiles(reinterpret_cast<uint16_t*>(scratch)), sums(scratch + kTilesFloats) {}

  static constexpr int64_t kTilesFloats =
      kBlock * kTileOutputs * kMaxWeightParts * 2 / static_cast<int64_t>(sizeof(float));

  uint16_t* tiles;  // of one unit and block
  float* sums;      // [kBatchUnits][groups][kSumsSize]
};

// Decodes inputs [col, col + count) of one unit, which lie in the block of x from `first_col`, and
// multiplies them with every group. `resident`: the sums stay in the matrix unit until the last.
void MultiplyBlock(const TileKernels& kernels, const WeightUnit& unit, const TiledRows& x,
                   int64_t first_col, int64_t col, int64_t count, bool resident, uint16_t* tiles,
                   float* sums) {
  const int parts = unit.KernelsOf(kernels).weight_parts;
  const int64_t offset = (col - first_col) * kTileRows;
  unit.Decode(kernels, col, count, tiles);
  for (int64_t g = 0; g < x.groups; g += 2) {
    kernels.multiply[parts - 1](
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

// The sums of a batch of units, finished.
void MultiplyUnits(const TileKernels& kernels, std::span<const WeightUnit> units,
                   const TiledRows& x, const TileScratch& scratch) {
  const int64_t size = x.groups * kSumsSize;
  if (IsFew(x.rows)) {
    for (size_t i = 0; i < units.size(); ++i) {
      units[i].MultiplyFew(kernels, x, scratch.sums + i * size);
    }
  } else if (x.groups <= kResidentGroups) {
    for (size_t i = 0; i < units.size(); ++i) {
      const PackedWeight& weight = *units[i].weight;
      // So that as much is decoded at once, whatever a weight's parts.
      const int64_t most =
          kResidentBlock / units[i].KernelsOf(kernels).weight_parts / kTileCols * kTileCols;
      for (int64_t first = 0; first < weight.padded_cols; first += x.block) {
        const int64_t end = std::min(first + x.block, weight.padded_cols);
        for (int64_t col = first; col < end; col += most) {
          MultiplyBlock(kernels, units[i], x, first, col, std::min(most, end - col), true,
                        scratch.tiles, scratch.sums + i * size);
        }
      }
    }
  } else {
    for (int64_t col = 0; col < x.cols; col += x.block) {
      for (size_t i = 0; i < units.size(); ++i) {
        const int64_t count = std::min(x.block, units[i].weight->padded_cols - col);
        if (count <= 0) continue;
        MultiplyBlock(kernels, units[i], x, col, col, count, false, scratch.tiles,
                      scratch.sums + i * size);
      }
    }
  }
  for (size_t i = 0; i < units.size(); ++i) {
    units[i].Finish(kernels, x, scratch.sums + i * size);
  }
}

// body(thread's scratch, its units [begin, end), first row, rows of x from there), for runs of rows
// whose sums fit the scratch.
template <class Body>
void ForUnits(const LinearRuntime& runtime, int64_t units, int64_t num_rows, int64_t cols,
              const Body& body) {
  const TileKernels& kernels = *runtime.kernels->tiles;
  runtime.pool->ParallelFor(units, [&](int thread, int64_t begin, int64_t end) {
    const TileScratch scratch(runtime.scratch.row(thread));
    const unsigned flushing = kernels.begin_flushing();
    for (int64_t first = 0; first < num_rows; first += kBatchRows) {
      const TiledRows x = TilesOf(runtime, num_rows, cols, first);
      if (IsFew(x.rows)) {
        body(scratch, begin, end, first, x);
        continue;
      }
      kernels.begin(x.rows);
      body(scratch, begin, end, first, x);
      kernels.end();
    }
    kernels.end_flushing(flushing);
  });
}

void ProjectByTiles(const LinearRuntime& runtime, Rows x, int64_t num_rows,
                    std::span<const Projection> projections) {
  const TileKernels& kernels = *runtime.kernels->tiles;
  const int64_t cols = projections[0].weight->cols;
  int64_t units = 0;
  for (const Projection& projection : projections) {
    VERNIER_CHECK(projection.weight->cols == cols);
    units += NumUnits(*projection.weight);
  }
  SplitIntoTiles(runtime, x, num_rows, cols);
  ForUnits(runtime, units, num_rows, cols,
           [&](const TileScratch& scratch, int64_t begin, int64_t end, int64_t first_row,
               const TiledRows& tiled) {
             const int64_t size = tiled.groups * kSumsSize;
             const auto multiply = [&](const Projection& projection, int64_t first, int64_t last) {
               for (int64_t i = first; i < last; i += kBatchUnits) {
                 const int64_t count = std::min(kBatchUnits, last - i);
                 WeightUnit batch[kBatchUnits];
                 for (int64_t j = 0; j < count; ++j) {
                   batch[j] = {projection.weight, projection.bias, i + j};
                 }
                 MultiplyUnits(kernels, std::span(batch, count), tiled, scratch);
                 for (int64_t j = 0; j < count; ++j) {
                   float* sums = scratch.sums + j * size;
                   if (projection.soft_cap > 0) {
                     batch[j].ForTiles(tiled, sums, [&](float* y, int, int64_t, int rows) {
                       SoftCap(projection.soft_cap, int64_t{rows} * kTileRows, y);
                     });
                   }
                   batch[j].Store(kernels, tiled, sums, projection.store == Store::kAdd,
                                  projection.out.From(first_row));
                 }
               }
             };
             ForProjections(projections, begin, end, NumUnits, multiply);
           });
}

void ProjectGatedByTiles(const LinearRuntime& runtime, Rows x, int64_t num_rows,
                         const GatedArgs& args, Rows h) {
  const TileKernels& kernels = *runtime.kernels->tiles;
  const auto activate = runtime.kernels->activate[static_cast<int>(args.activation)];
  // Half a batch of each, gates first; without a gate, `up` is what is activated.
  const bool gated = args.gate != nullptr;
  constexpr int64_t kHalf = kBatchUnits / 2;
  SplitIntoTiles(runtime, x, num_rows, args.up->cols);
  ForUnits(runtime, NumUnits(*args.up), num_rows, args.up->cols,
           [&](const TileScratch& scratch, int64_t begin, int64_t end, int64_t first_row,
               const TiledRows& tiled) {
             for (int64_t i = begin; i < end; i += kHalf) {
               const int64_t count = std::min(kHalf, end - i);
               WeightUnit batch[kBatchUnits];
               for (int64_t j = 0; j < count; ++j) {
                 batch[j] = gated ? WeightUnit{args.gate, args.gate_bias, i + j}
                                  : WeightUnit{args.up, args.up_bias, i + j};
                 batch[count + j] = {args.up, args.up_bias, i + j};
               }
               MultiplyUnits(kernels, std::span(batch, gated ? 2 * count : count), tiled, scratch);
               const int64_t size = tiled.groups * kSumsSize;
               for (int64_t j = 0; j < count; ++j) {
                 float* sums = scratch.sums + j * size;
                 batch[j].ForTiles(tiled, sums, [&](float* y, int, int64_t, int rows) {
                   activate(y, gated ? y + count * size : nullptr, int64_t{rows} * kTileRows);
                 });
                 batch[j].Store(kernels, tiled, sums, false, h.From(first_row));
               }
             }
           });
}

}  // namespace

int64_t LinearScratchFloats(const KernelTable& kernels, int64_t cols, int64_t rows) {
  const int64_t panels = CheckedMultiply(CheckedRoundUp(cols, kNf4Chunk), 2 * kPanelRows);
  if (kernels.tiles == nullptr || panels < 0) return panels;
  const int64_t groups = std::min(GroupsOf(rows), kBatchGroups);
  return std::max(panels, TileScratch::kTilesFloats + kBatchUnits * groups * kSumsSize);
}

int64_t LinearTileRows(const KernelTable& kernels, int64_t rows) {
  static_assert(kTileParts * sizeof(uint16_t) == sizeof(float));
  return kernels.tiles == nullptr ? 0 : CheckedRoundUp(rows, kTileRows);
}

void Project(const LinearRuntime& runtime, Rows x, int64_t num_rows,
             std::span<const Projection> projections) {
  const auto project = runtime.kernels->tiles == nullptr ? ProjectByDots : ProjectByTiles;
  project(runtime, x, num_rows, projections);
}

void ProjectGated(const LinearRuntime& runtime, Rows x, int64_t num_rows, const GatedArgs& args,
                  Rows h) {
  VERNIER_CHECK(args.gate == nullptr || args.gate->rows == args.up->rows);
  const auto project = runtime.kernels->tiles == nullptr ? ProjectGatedByDots : ProjectGatedByTiles;
  project(runtime, x, num_rows, args, h);
  for (int64_t m = 0; m < num_rows; ++m) {
    std::fill(h.row(m) + args.up->rows, h.row(m) + PaddedCols(args.up->rows), 0.0f);
  }
}

void DecodeRow(const KernelTable& kernels, const PackedWeight& weight, int64_t index,
               float* scratch, float* out) {
  const int64_t panel_index = index / weight.panel_rows();
  const int64_t row = index % weight.panel_rows();
  const Panel panel = weight.panel(panel_index);
  const float* scales = weight.scales_of(panel_index);
  const float scale = scales == nullptr ? 1.0f : scales[row];
  if (kernels.tiles != nullptr) {
    kernels.tiles->layouts[static_cast<int>(weight.layout)].decode_row(panel, static_cast<int>(row),
                                                                       scratch);
    for (int64_t k = 0; k < weight.cols; ++k) out[k] = scratch[k] * scale;
    return;
  }
  const DotKernels& dots = kernels.dots[static_cast<int>(weight.layout)];
  const float* decoded = reinterpret_cast<const float*>(panel.codes);
  if (dots.decode != nullptr) {
    dots.decode(panel, scratch);
    decoded = scratch;
  }
  for (int64_t k = 0; k < weight.cols; ++k) {
    out[k] = decoded[(k / kChunk * kPanelRows + row) * kChunk + k % kChunk] * scale;
  }
}

}  // namespace vernier
