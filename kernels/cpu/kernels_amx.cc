// The kernels of AMX with bf16 tiles: AVX-512's, with products by the matrix unit. Compiled with
// its own flags: includes nothing but intrinsics and the table.
#include "kernels/cpu/avx512-inl.h"

namespace vernier {
namespace {
// AMX is Intel's, whose processors foresee these reads badly: 576 x 576 from memory takes 16.8 us
// with 4 KB, 16.5 with 8, 20.3 with 2, 25.9 without (Xeon, one thread, best of ten).
constexpr int64_t kWideInt8Ahead = 4096;
}  // namespace
}  // namespace vernier

#include "kernels/cpu/columns-inl.h"
#include "kernels/cpu/digit-tiles-inl.h"
#include "kernels/cpu/row-inl.h"
#include "kernels/cpu/tile-ops-inl.h"

namespace vernier {
namespace {

// Flush to zero and denormals are zero: what the matrix unit does whatever MXCSR says.
constexpr unsigned kNoSubnormals = 0x8040;

// Tiles 0 to 3 are sums: 0 and 1 of the first group of x with each of the two tiles of weights, 2
// and 3 of the second. 4 and 5 are weights, 6 and 7 x: of either group, or both parts of the only
// one. A product takes a time that grows with its rows of x, so tiles have no more than there are.
void BeginTiles(int64_t rows) {
  constexpr uint8_t kAll = kTileRows;
  const uint8_t first = rows < kTileRows ? static_cast<uint8_t>(rows) : kAll;
  const uint8_t second = rows <= kTileRows      ? first
                         : rows < 2 * kTileRows ? static_cast<uint8_t>(rows - kTileRows)
                                                : kAll;
  const uint8_t rows_of_tile[8] = {first, first, second, second, kAll, kAll, first, second};
  ConfigureTiles(rows_of_tile);
}

unsigned BeginFlushing() {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kNoSubnormals);
  return before;
}
void EndFlushing(unsigned before) { _mm_setcsr(before); }

// ---- Rows of x ----

// The parts of x: both, or the one that it is rounded to.
template <int kParts>
inline void SplitVector(const float* x, __m512* parts) {
  if constexpr (kParts == 1) {
    parts[0] = RoundToEven(_mm512_loadu_ps(x));
    return;
  }
  const __m512i nan = _mm512_set1_epi32(0x33);  // of quiet and signalling ones, the rest is kept
  // A NaN becomes the default one: rounding would carry another's bits over into a zero.
  const __m512 given = _mm512_loadu_ps(x);
  const __m512 all = _mm512_fixupimm_ps(given, given, nan, 0);
  parts[0] = RoundToBF16(all);
  parts[kParts - 1] = RoundToBF16(_mm512_sub_ps(all, parts[0]));
}

template <int kParts>
void SplitRows(const float* x, int64_t stride, int rows, int64_t cols, uint16_t* const* parts) {
  for (int64_t k = 0; k < cols; k += kTileCols) {
    for (int row = 0; row < rows; ++row) {
      const float* from = x + row * stride + k;
      __m512 low[kParts], high[kParts];
      SplitVector<kParts>(from, low);
      SplitVector<kParts>(from + kTileCols / 2, high);
      VERNIER_UNROLL for (int part = 0; part < kParts; ++part) {
        _mm512_storeu_si512(parts[part] + k * kTileRows + row * kTileCols,
                            UpperPairs(low[part], high[part]));
      }
    }
  }
}

template <int kParts>
void SplitFewRows(const float* x, int64_t cols, float* const* parts) {
  for (int64_t k = 0; k < cols; k += kLanes) {
    __m512 all[kParts];
    SplitVector<kParts>(x + k, all);
    VERNIER_UNROLL for (int part = 0; part < kParts; ++part) {
      _mm512_storeu_ps(parts[part] + k, all[part]);
    }
  }
}

// ---- Weights ----

// The parts of a weight: the upper 16 bits of an fp32 hold 7 bits of its fraction, and what they
// leave is exact. An fp16 has 10, an fp32 23.
template <int kParts>
inline void SplitExactly(__m512 w, __m512* parts) {
  VERNIER_UNROLL for (int part = 0; part < kParts; ++part) {
    parts[part] = part + 1 < kParts ? UpperHalf(w) : w;
    w = _mm512_sub_ps(w, parts[part]);
  }
}

constexpr int64_t kTilesOfStep = kTileOutputs / kTileRows;

template <int kParts>
constexpr int64_t StepSize() {
  return kParts * kTilesOfStep * kTileSize;
}

template <class Columns>
void DecodeTiles(const Panel& panel, int64_t first_col, int64_t cols, uint16_t* tiles) {
  Columns columns(panel);
  const int64_t first = first_col / kTileCols, end = first + cols / kTileCols;
  for (int64_t step = first; step < end; ++step, tiles += StepSize<Columns::kParts>()) {
    columns.Begin(step);
    VERNIER_UNROLL for (int pair = 0; pair < kPairs; ++pair) {
      __m512 low[Columns::kParts], high[Columns::kParts];
      SplitExactly<Columns::kParts>(columns.Get(pair, 0), low);
      SplitExactly<Columns::kParts>(columns.Get(pair, 1), high);
      VERNIER_UNROLL for (int part = 0; part < Columns::kParts; ++part) {
        _mm512_storeu_si512(tiles + part * kTilesOfStep * kTileSize + pair * kTileCols,
                            UpperPairs(low[part], high[part]));
      }
    }
  }
}

// ---- Products of a few rows ----
//
// To the bit what the matrix unit gives: a lane is a weight row; for each step and each pair of
// parts one chain of fused multiply-adds over the inputs of either half, from 0, then the chains'
// sum, then the sum so far.

template <class Columns, int kXParts, int kXRows, int kTiles>
inline void MultiplyFewTiles(const TileKernels::FewRows& p, const Panel* panels, float* sums) {
  // Of the first part of x with each of the weight's, then of the second with the first.
  constexpr int kParts = Columns::kParts, kProducts = kParts + kXParts - 1;
  __m512 total[kTiles][kXRows];
  VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) {
    VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) total[t][m] = _mm512_setzero_ps();
  }
  Columns columns[2] = {Columns(panels[0]), Columns(panels[kTiles - 1])};
  const int64_t steps = panels[0].padded_cols / kTileCols;
  const float* x[kTileParts] = {p.x[0], p.x[kXParts - 1]};
  for (int64_t step = 0; step < steps; ++step, x[0] += kTileCols, x[1] += kTileCols) {
    __m512 chains[kTiles][kXRows][kProducts][2];
    VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) {
      columns[t].Begin(step);
      VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
        VERNIER_UNROLL for (int i = 0; i < kProducts; ++i) {
          chains[t][m][i][0] = chains[t][m][i][1] = _mm512_setzero_ps();
        }
      }
    }
    VERNIER_UNROLL for (int pair = 0; pair < kPairs; ++pair) {
      VERNIER_UNROLL for (int half = 0; half < 2; ++half) {
        VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) {
          __m512 w[kParts];
          SplitExactly<kParts>(columns[t].Get(pair, half), w);
          VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
            const int64_t at = m * p.x_stride + pair + half * kPairs;
            __m512(&chain)[kProducts][2] = chains[t][m];
            const __m512 first = _mm512_set1_ps(x[0][at]);
            chain[0][half] = _mm512_fmadd_ps(w[0], first, chain[0][half]);
            if constexpr (kXParts == 2) {
              chain[1][half] = _mm512_fmadd_ps(w[0], _mm512_set1_ps(x[1][at]), chain[1][half]);
            }
            VERNIER_UNROLL for (int part = 1; part < kParts; ++part) {
              __m512& own = chain[part + kXParts - 1][half];
              own = _mm512_fmadd_ps(w[part], first, own);
            }
          }
        }
      }
    }
    VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) {
      VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
        VERNIER_UNROLL for (int i = 0; i < kProducts; ++i) {
          total[t][m] =
              _mm512_add_ps(total[t][m], _mm512_add_ps(chains[t][m][i][0], chains[t][m][i][1]));
        }
      }
    }
  }
  VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) {
    VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
      _mm512_storeu_ps(sums + (t * kTileRows + m) * kTileRows, total[t][m]);
    }
  }
}

// Two tiles at once where their chains leave registers for the rest: one alone does not hide the
// latency of its additions.
template <class Columns, int kXParts, int kXRows>
void MultiplyFew(const TileKernels::FewRows& p) {
  constexpr int64_t kTileSums = int64_t{kTileRows} * kTileRows;
  constexpr bool kBoth = kXRows * (Columns::kParts + kXParts - 1) * 4 <= 16;
  if (kBoth && p.num_panels == 2) {
    return MultiplyFewTiles < Columns, kXParts, kXRows, kBoth ? 2 : 1 > (p, p.panels, p.sums);
  }
  for (int i = 0; i < p.num_panels; ++i) {
    MultiplyFewTiles<Columns, kXParts, kXRows, 1>(p, p.panels + i, p.sums + i * kTileSums);
  }
}

// ---- Plain products of a few rows ----

template <class Columns, int kXRows, int kTiles>
inline void MultiplyPlainTiles(const TileKernels::FewRows& p, const Panel* panels, float* sums) {
  // Sums of either half of a step alone where those of both would not hide an addition's latency.
  constexpr int kHalves = kXRows * kTiles < 8 ? 2 : 1;
  __m512 acc[kTiles][kXRows][kHalves];
  VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) {
    VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
      VERNIER_UNROLL for (int h = 0; h < kHalves; ++h) acc[t][m][h] = _mm512_setzero_ps();
    }
  }
  Columns columns[2] = {Columns(panels[0]), Columns(panels[kTiles - 1])};
  const int64_t steps = panels[0].padded_cols / kTileCols;
  const float* x = p.x[0];
  for (int64_t step = 0; step < steps; ++step, x += kTileCols) {
    VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) columns[t].Begin(step);
    VERNIER_UNROLL for (int pair = 0; pair < kPairs; ++pair) {
      VERNIER_UNROLL for (int half = 0; half < 2; ++half) {
        __m512 w[kTiles];
        VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) w[t] = columns[t].Get(pair, half);
        VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
          const __m512 xv = _mm512_set1_ps(x[m * p.x_stride + pair + half * kPairs]);
          VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) {
            __m512& sum = acc[t][m][half % kHalves];
            sum = _mm512_fmadd_ps(w[t], xv, sum);
          }
        }
      }
    }
  }
  VERNIER_UNROLL for (int t = 0; t < kTiles; ++t) {
    VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
      __m512 sum = acc[t][m][0];
      if constexpr (kHalves == 2) sum = _mm512_add_ps(sum, acc[t][m][kHalves - 1]);
      _mm512_storeu_ps(sums + (t * kTileRows + m) * kTileRows, sum);
    }
  }
}

template <class Columns, int kXRows>
void MultiplyPlain(const TileKernels::FewRows& p) {
  if (p.num_panels == 2) return MultiplyPlainTiles<Columns, kXRows, 2>(p, p.panels, p.sums);
  MultiplyPlainTiles<Columns, kXRows, 1>(p, p.panels, p.sums);
}

// ---- Products of tiles ----

// Adds the products of one part of a group's x, in tile kX, with both tiles of weights, 4 and 5:
// that in kFirst first.
template <int kX, int kFirst>
inline void AddOneGroup(const uint16_t* x) {
  constexpr int kSecond = 9 - kFirst;
  LoadTile<kX>(x);
  AddPairs<kFirst - 4, kX, kFirst>();
  AddPairs<kSecond - 4, kX, kSecond>();
}

// The same of two groups.
template <int kFirst>
inline void AddTwoGroups(const uint16_t* x, int64_t x_group) {
  constexpr int kSecond = 9 - kFirst;
  LoadTile<6>(x);
  LoadTile<7>(x + x_group);
  AddPairs<kFirst - 4, 6, kFirst>();
  AddPairs<kFirst - 2, 7, kFirst>();
  AddPairs<kSecond - 2, 7, kSecond>();
  AddPairs<kSecond - 4, 6, kSecond>();
}

// Adds the products of one part of the weights, in 4 and 5, with the first `kXParts` parts of x. A
// sum takes these in order; among different sums those come together that share a tile of weights,
// since the unit takes a few rows of x faster with weights that it holds already.
template <int kXParts, int kGroups>
inline void AddWeightPart(const uint16_t* w, const uint16_t* const* x, int64_t x_group) {
  LoadTile<4>(w);
  LoadTile<5>(w + kTileSize);
  if constexpr (kGroups == 2) {
    AddTwoGroups<4>(x[0], x_group);
    if constexpr (kXParts == 2) AddTwoGroups<5>(x[1], x_group);
  } else {
    AddOneGroup<6, 4>(x[0]);
    if constexpr (kXParts == 2) AddOneGroup<7, 5>(x[1]);
  }
}

template <int kXParts, int kWeightParts, int kGroups>
inline void MultiplySteps(const TileKernels::Product& p) {
  const uint16_t* w = p.w;
  const uint16_t* x[kTileParts] = {p.x[0], p.x[kXParts - 1]};
  for (int64_t step = 0; step < p.steps; ++step, w += StepSize<kWeightParts>()) {
    AddWeightPart<kXParts, kGroups>(w, x, p.x_group);
    VERNIER_UNROLL for (int part = 1; part < kWeightParts; ++part) {
      AddWeightPart<1, kGroups>(w + part * kTilesOfStep * kTileSize, x, p.x_group);
    }
    x[0] += kTileSize;
    x[1] += kTileSize;
  }
}

constexpr int64_t kSumsSize = kTileRows * kTileRows;  // floats of one tile of sums

template <int kXParts, int kWeightParts>
void MultiplyTiles(const TileKernels::Product& p) {
  if (p.zero) {
    ZeroTile<0>();
    ZeroTile<1>();
    ZeroTile<2>();
    ZeroTile<3>();
  }
  if (p.load) {
    LoadTile<0>(p.sums);
    LoadTile<1>(p.sums + kSumsSize);
    if (p.groups == 2) {
      LoadTile<2>(p.sums + 2 * kSumsSize);
      LoadTile<3>(p.sums + 3 * kSumsSize);
    }
  }
  if (p.groups == 2) {
    MultiplySteps<kXParts, kWeightParts, 2>(p);
  } else {
    MultiplySteps<kXParts, kWeightParts, 1>(p);
  }
  if (!p.store) return;
  StoreTile<0>(p.sums);
  StoreTile<1>(p.sums + kSumsSize);
  if (p.groups == 1) return;
  StoreTile<2>(p.sums + 2 * kSumsSize);
  StoreTile<3>(p.sums + 3 * kSumsSize);
}

using F32Columns = ElementColumns<ElementF32, 3>;
using F16Columns = ElementColumns<ElementF16, 2>;
using BF16Columns = ElementColumns<ElementBF16, 1>;

template <class Columns>
constexpr TileKernels::OfLayout LayoutKernels() {
  static_assert(kMaxFewRows == 2 && kTileParts == 2 && kMaxPlainRows == 8);
  TileKernels::OfLayout kernels = {
      Columns::kParts,
      DecodeTiles<Columns>,
      {{}, {MultiplyFew<Columns, 2, 1>, MultiplyFew<Columns, 2, 2>}},
      {MultiplyPlain<Columns, 1>, MultiplyPlain<Columns, 2>, MultiplyPlain<Columns, 3>,
       MultiplyPlain<Columns, 4>, MultiplyPlain<Columns, 5>, MultiplyPlain<Columns, 6>,
       MultiplyPlain<Columns, 7>, MultiplyPlain<Columns, 8>}};
  if constexpr (Columns::kParts == 1) {
    kernels.multiply_few[0][0] = MultiplyFew<Columns, 1, 1>;
    kernels.multiply_few[0][1] = MultiplyFew<Columns, 1, 2>;
  }
  return kernels;
}

constexpr TileKernels kTileKernels = {
    {LayoutKernels<F32Columns>(), LayoutKernels<F16Columns>(), LayoutKernels<BF16Columns>()},
    {SplitRows<1>, SplitRows<2>},
    {SplitFewRows<1>, SplitFewRows<2>},
    BeginTiles,
    EndTiles,
    BeginFlushing,
    EndFlushing,
    {{MultiplyTiles<1, 1>, nullptr, nullptr},
     {MultiplyTiles<2, 1>, MultiplyTiles<2, 2>, MultiplyTiles<2, 3>}},
};

}  // namespace

const KernelTable& AmxKernels() {
  static constexpr KernelTable kKernels = MakeKernelTable(&kTileKernels, &kDigitKernels);
  return kKernels;
}

}  // namespace vernier
