#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/base/check.h"
#include "kernels/cpu/unit_products.h"

namespace vernier {
namespace {

// The rows and columns of x in one call. `rounded`: they enter its products in bf16.
struct Call {
  int64_t num_rows;
  int64_t cols;
  bool rounded;
};

// ---- Forms of x ----

// All rows of x; whether vectors take them depends on their number, in all.
DigitRows DigitsOf(const LinearRuntime& runtime, int64_t num_rows, int64_t cols) {
  static_assert(kDigitGroupRows % kChunk == 0);  // tiles stay aligned
  const int line_rows = runtime.activations == Activations::kInt8 ? 2 : 1;
  const int64_t steps = PaddedCols(cols) / kDigitCols;
  const int64_t lines = (num_rows + line_rows - 1) / line_rows;
  const int64_t scales = CheckedRoundUp(num_rows, kDigitGroupRows) * (line_rows == 1 ? 1 : steps);
  const int64_t starts = CheckedRoundUp(lines, kDigitLines) / kDigitLines * steps * kStepStarts;
  return {.tiles = reinterpret_cast<uint8_t*>(runtime.x_digits.data + scales + starts),
          .scales = runtime.x_digits.data,
          .starts = reinterpret_cast<int32_t*>(runtime.x_digits.data + scales),
          .rows = num_rows,
          .steps = steps,
          .line_rows = line_rows,
          .by_vectors = lines <= runtime.kernels->digits->vector_lines};
}

DigitRows SplitIntoDigits(const LinearRuntime& runtime, Rows x, int64_t num_rows, int64_t cols) {
  VERNIER_CHECK(DigitFloats(cols) <= runtime.x_digits.stride);
  const DigitRows all = DigitsOf(runtime, num_rows, cols);
  const int64_t group_rows = int64_t{kDigitLines} * all.line_rows;
  const int64_t groups = (num_rows + group_rows - 1) / group_rows;
  runtime.pool->ParallelFor(groups, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin * group_rows; row < std::min(end * group_rows, num_rows);
         row += group_rows) {
      runtime.kernels->digits->split(x.row(row), x.stride, DigitRowsFrom(all, row, group_rows));
    }
  });
  return all;
}

// The rows of x from `first_row`, a multiple of kBatchRows, of `num_rows` in all.
TiledRows TilesOf(const LinearRuntime& runtime, const Call& call, int64_t first_row) {
  auto* tiles = reinterpret_cast<uint16_t*>(runtime.x_tiles.data);
  const int64_t padded = PaddedCols(call.cols);
  const int parts = call.rounded ? 1 : kTileParts;
  return TiledRows(tiles + first_row * padded * parts,
                   std::min(kBatchRows, call.num_rows - first_row), padded, parts,
                   call.num_rows <= kMaxFewRows);
}

void SplitFewRows(const TileKernels& kernels, Rows x, const TiledRows& few) {
  for (int64_t row = 0; row < few.rows; ++row) {
    float* const parts[kTileParts] = {few.Few(0) + row * few.cols,
                                      few.Few(few.parts - 1) + row * few.cols};
    kernels.split_few[few.parts - 1](x.row(row), few.cols, parts);
  }
}
static_assert(kMaxFewRows * kTileParts <= kTileRows);  // x_tiles has room

void SplitIntoTiles(const LinearRuntime& runtime, Rows x, const Call& call) {
  VERNIER_CHECK(PaddedCols(call.cols) <= runtime.x_tiles.stride);
  const TileKernels& kernels = *runtime.kernels->tiles;
  if (call.num_rows <= kMaxFewRows) return SplitFewRows(kernels, x, TilesOf(runtime, call, 0));
  runtime.pool->ParallelFor(GroupsOf(call.num_rows), [&](int, int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const TiledRows tiled = TilesOf(runtime, call, g / kBatchGroups * kBatchRows);
      const int64_t group = g % kBatchGroups;
      for (int64_t col = 0; col < tiled.cols; col += tiled.block) {
        uint16_t* const parts[kTileParts] = {tiled.Tiles(col, 0, group),
                                             tiled.Tiles(col, tiled.parts - 1, group)};
        kernels.split[tiled.parts - 1](x.row(g * kTileRows) + col, x.stride, tiled.RowsOf(group),
                                       tiled.BlockCols(col), parts);
      }
    }
  });
}

// Rows of x in bf16 where that has products, else x itself becomes what it is rounded to.
RoundedRows RoundRows(const LinearRuntime& runtime, Rows x, const Call& call) {
  constexpr int64_t kRowsAtOnce = 8;
  const KernelTable& kernels = *runtime.kernels;
  const int64_t padded = PaddedCols(call.cols);
  auto* const rounded = reinterpret_cast<uint16_t*>(runtime.x_digits.data);
  VERNIER_CHECK(kernels.rounded == nullptr || padded <= 2 * runtime.x_digits.stride);
  const auto round = [&](int64_t row) {
    if (kernels.rounded != nullptr) {
      kernels.rounded->round(x.row(row), padded, rounded + row * padded);
      return;
    }
    for (int64_t k = 0; k < padded; k += kNf4Chunk) {
      uint16_t of_row[kNf4Chunk];
      kernels.store[static_cast<int>(KvType::kBF16)](x.row(row) + k, kNf4Chunk, 1, of_row);
      kernels.load[static_cast<int>(KvType::kBF16)](of_row, kNf4Chunk, x.row(row) + k);
    }
  };
  const int64_t parts = (call.num_rows + kRowsAtOnce - 1) / kRowsAtOnce;
  runtime.pool->ParallelFor(parts, [&](int, int64_t begin, int64_t end) {
    const int64_t last = std::min(end * kRowsAtOnce, call.num_rows);
    for (int64_t row = begin * kRowsAtOnce; row < last; ++row) round(row);
  });
  if (kernels.rounded == nullptr) return {};
  return {rounded, padded};
}

void SoftCap(float cap, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = cap * std::tanh(y[i] / cap);
}

// `outputs` of a tile's sums to a row of an output; a constant number of them is a few moves, if
// the compiler knows that they lie apart (one by one they took a tenth of a prefill).
template <class Count>
void StoreRow(const float* __restrict sums, Count outputs, Store store, float* __restrict to) {
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
  const int64_t first = units[0].first_row();
  const int64_t outputs = std::min<int64_t>(static_cast<int64_t>(units.size()) * kTileOutputs,
                                            units[0].weight->rows - first);
  for (int64_t row = 0; row < run.num_rows; ++row) {
    const float* from = sums + row / kTileRows * kSumsSize + row % kTileRows * kTileRows;
    float* const to = out.row(run.first_row + row) + first;
    for (int64_t column = 0, tile = 0; column < outputs; column += kTileRows, ++tile) {
      const float* of_tile = from + tile / kTilesOfUnit * size + tile % kTilesOfUnit * kTileSums;
      if (outputs - column >= kTileRows) {
        StoreRow(of_tile, std::integral_constant<int, kTileRows>(), store, to + column);
      } else {
        StoreRow(of_tile, outputs - column, store, to + column);
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

// Rows of x that fit the second cache, of 1 MB, as digits and beside their sums with a batch of
// units. All rows at once were up to 6 % slower, and so were 384 KB.
int64_t VectorRunRows(const DigitRows& x) {
  constexpr int64_t kBytes = 640 << 10;
  const int64_t row_bytes = x.steps * kDigitCols * 2 / x.line_rows +
                            kBatchUnits * kTileOutputs * static_cast<int64_t>(sizeof(float));
  return std::clamp(kBytes / row_bytes / kTileRows * kTileRows, kTileRows * int64_t{2}, kBatchRows);
}

// body(thread's scratch, its units [begin, end), rows) over `units` units whose weights have
// the orders that `weights` have, for runs of rows whose sums fit the scratch.
template <class Body>
void ForUnits(const LinearRuntime& runtime, std::span<const PackedWeight* const> weights,
              int64_t units, Rows x, int64_t num_rows, const Body& body) {
  const int64_t cols = weights[0]->cols;
  Call call = {num_rows, cols, runtime.activations == Activations::kBF16};
  bool tiles = false, digits = false;
  for (const PackedWeight* weight : weights) {
    VERNIER_CHECK(weight->cols == cols);
    tiles |= weight->order == PanelOrder::kPairs;
    digits |= weight->order == PanelOrder::kQuads;
    call.rounded &= weight->layout == PanelLayout::kBF16;
  }
  const bool rounded = call.rounded && !tiles;
  if (runtime.fast && num_rows <= kMaxPlainRows && !call.rounded) tiles = false;
  DigitRows digit_rows = {};
  RoundedRows rounded_rows;
  if (tiles) SplitIntoTiles(runtime, x, call);
  if (digits) digit_rows = SplitIntoDigits(runtime, x, num_rows, cols);
  if (rounded) rounded_rows = RoundRows(runtime, x, call);
  const int64_t run_rows =
      digits && !tiles && digit_rows.by_vectors ? VectorRunRows(digit_rows) : kBatchRows;
  runtime.pool->ParallelFor(units, [&](int thread, int64_t begin, int64_t end) {
    float* floats = runtime.scratch.row(thread);
    const UnitScratch scratch = {reinterpret_cast<uint8_t*>(floats), floats + DecodedFloats(cols)};
    for (int64_t first = 0; first < num_rows; first += run_rows) {
      const RowRun run = {
          .first_row = first,
          .num_rows = std::min(run_rows, num_rows - first),
          .x = x.From(first),
          .tiled = tiles ? TilesOf(runtime, call, first) : TiledRows(),
          .digits = digits ? DigitRowsFrom(digit_rows, first, run_rows) : DigitRows(),
          .rounded = {rounded_rows.row(first), rounded_rows.stride}};
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
  return kernels.digits == nullptr ? 0 : CheckedRoundUp(rows, kDigitGroupRows);
}

// Two bytes an input, a float a row and two starts a step, or half of that and a scale a step; for
// the whole, rows are rounded up.
int64_t DigitFloats(int64_t cols) {
  return PaddedCols(cols) / 2 + PaddedCols(cols) / kDigitCols * 2 + kChunk;
}

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
