// Products of digits (DigitKernels) by the matrix unit of AMX, of signed bytes; few rows of x by
// vectors, to the same bits. For the file that is compiled for AMX.
//
// A tile of x is both digits of a group's kDigitRows rows, so its product with a tile of weights is
// the two sums of each row: high digits in the first half of the tile, low ones in the second.
#pragma once

#include "kernels/cpu/digits-inl.h"
#include "kernels/cpu/tile-ops-inl.h"

namespace vernier {
namespace {

// Rows of x up to which vectors are as fast; four are half a tile.
constexpr int64_t kVectorRows = 4;

void BeginDigits() {
  constexpr uint8_t kAll = kTileRows;
  constexpr uint8_t kRows[8] = {kAll, kAll, kAll, kAll, kAll, kAll, kAll, kAll};
  ConfigureTiles(kRows);
}

constexpr int64_t kWeightTile = int64_t{kTileRows} * kDigitCols;  // bytes
constexpr int kTileWords = kTileRows * kTileRows;                 // of sums
constexpr int kLowWords = kTileWords / 2;  // of the high digits, before the low

// ---- int8 ----

// Tiles 0 to 3 are sums: 0 and 1 of the first group with either panel, 2 and 3 of the second; 4 and
// 5 are x of either group, 6 and 7 weights of either panel.
template <int kGroups>
inline void AddInt8Tiles(const DigitProduct& p, int64_t group, int64_t begin, int64_t end) {
  const uint8_t* x = p.x.tiles + group * p.x.steps * kDigitTile;
  const uint8_t* second = x + p.x.steps * kDigitTile;
  ZeroTile<0>();
  ZeroTile<1>();
  ZeroTile<2>();
  ZeroTile<3>();
  for (int64_t step = begin; step < end; ++step) {
    LoadTile<4>(x + step * kDigitTile);
    LoadTile<6>(p.panels[0].codes + step * kWeightTile);
    AddFours<0, 4, 6>();
    LoadTile<7>(p.panels[1].codes + step * kWeightTile);
    AddFours<1, 4, 7>();
    if constexpr (kGroups == 2) {
      LoadTile<5>(second + step * kDigitTile);
      AddFours<2, 5, 6>();
      AddFours<3, 5, 7>();
    }
  }
}

// Adds a block's sums of one group and panel to p.sums; the last block's are scaled.
inline void JoinInt8(const DigitProduct& p, const int32_t* words, int64_t group, int panel,
                     bool first, bool last) {
  VERNIER_UNROLL for (int m = 0; m < kDigitRows; ++m) {
    const int64_t row = group * kDigitRows + m;
    float* sums = SumsOf(p, panel, row);
    const __m512 before = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sums);
    const __m512 total =
        _mm512_add_ps(before, JoinWide(_mm512_load_si512(words + m * kTileRows),
                                       _mm512_load_si512(words + kLowWords + m * kTileRows)));
    _mm512_storeu_ps(sums, _mm512_mul_ps(total, _mm512_set1_ps(last ? p.x.scales[row] : 1)));
  }
}

template <int kGroups>
void MultiplyInt8Tiles(const DigitProduct& p, int64_t group) {
  alignas(64) int32_t words[4][kTileWords];
  for (int64_t begin = 0; begin < p.x.steps; begin += kBlockSteps) {
    const int64_t end = EndOfRun(p, begin, kBlockSteps);
    AddInt8Tiles<kGroups>(p, group, begin, end);
    StoreTile<0>(words[0]);
    StoreTile<1>(words[1]);
    if constexpr (kGroups == 2) {
      StoreTile<2>(words[2]);
      StoreTile<3>(words[3]);
    }
    for (int i = 0; i < 2 * kGroups; ++i) {
      JoinInt8(p, words[i], group + i / 2, i % 2, begin == 0, end == p.x.steps);
    }
  }
}

void MultiplyInt8(const DigitProduct& p) {
  if (p.x.biased) return MultiplyInt8Digits(p);
  const int64_t groups = (p.x.rows + kDigitRows - 1) / kDigitRows;
  int64_t group = 0;
  for (; group + 2 <= groups; group += 2) MultiplyInt8Tiles<2>(p, group);
  if (group < groups) MultiplyInt8Tiles<1>(p, group);
}

// ---- NF4 ----
//
// A step is a block of one absmax: its sums leave the unit and are scaled by vectors, while the
// unit computes the next. Even steps have tiles 0, 1 (sums) and 4 (x), odd ones 2, 3 and 5; 6 and 7
// are weights of either panel.

struct DecodedTiles {
  const uint8_t* x;                // of the first step
  const uint8_t* w[kDigitPanels];  // likewise
  const float* absmax[kDigitPanels];
};

// Sums in kSums and the next, x in kX.
template <int kSums, int kX>
inline void AddStep(const DecodedTiles& t, int64_t step) {
  ZeroTile<kSums>();
  ZeroTile<kSums + 1>();
  LoadTile<kX>(t.x + step * kDigitTile);
  LoadTile<6>(t.w[0] + step * kWeightTile);
  AddFours<kSums, kX, 6>();
  LoadTile<7>(t.w[1] + step * kWeightTile);
  AddFours<kSums + 1, kX, 7>();
}

using GroupTotals = __m512[kDigitPanels][kDigitRows];

inline void ScaleStep(const DecodedTiles& t, const int32_t (*words)[kTileWords], int64_t step,
                      GroupTotals& total) {
  VERNIER_UNROLL for (int i = 0; i < kDigitPanels; ++i) {
    const __m512 absmax = _mm512_loadu_ps(t.absmax[i] + step * kTileRows);
    VERNIER_UNROLL for (int m = 0; m < kDigitRows; ++m) {
      const __m512 joined = JoinNarrow(_mm512_load_si512(words[i] + m * kTileRows),
                                       _mm512_load_si512(words[i] + kLowWords + m * kTileRows));
      total[i][m] = _mm512_fmadd_ps(joined, absmax, total[i][m]);
    }
  }
}

inline void AddNf4Tiles(const DecodedTiles& t, int64_t steps, GroupTotals& total) {
  alignas(64) int32_t even[kDigitPanels][kTileWords], odd[kDigitPanels][kTileWords];
  AddStep<0, 4>(t, 0);
  for (int64_t step = 0; step < steps; step += 2) {
    if (step + 1 < steps) AddStep<2, 5>(t, step + 1);
    StoreTile<0>(even[0]);
    StoreTile<1>(even[1]);
    ScaleStep(t, even, step, total);
    if (step + 1 == steps) break;
    if (step + 2 < steps) AddStep<0, 4>(t, step + 2);
    StoreTile<2>(odd[0]);
    StoreTile<3>(odd[1]);
    ScaleStep(t, odd, step + 1, total);
  }
}

void MultiplyNf4Tiles(const DigitProduct& p, int64_t group,
                      const DecodedPanel (&panels)[kDigitPanels], int64_t begin, int64_t end) {
  const DigitGroup whole = {p, group * kDigitRows, 0};
  GroupTotals total;
  LoadTotals(whole, begin, total);
  const DecodedTiles tiles = {whole.x() + begin * kDigitTile,
                              {panels[0].quads.codes, panels[1].quads.codes},
                              {panels[0].scales.absmax, panels[1].scales.absmax}};
  AddNf4Tiles(tiles, end - begin, total);
  StoreTotals(whole, end, total);
}

// Steps that are decoded at once for one or two groups, so that decoding runs beside the products
// of the steps before.
constexpr int64_t kFewSteps = 4;
template <class Scales>
void MultiplyNf4(const DigitProduct& p) {
  if (p.x.biased) return MultiplyNf4Digits<Scales>(p);
  const int64_t groups = (p.x.rows + kDigitRows - 1) / kDigitRows;
  ForDecodedSteps<Scales>(
      p, groups <= 2 ? kFewSteps : kDecodedSteps,
      [&](const DecodedPanel(&panels)[kDigitPanels], int64_t begin, int64_t end) {
        for (int64_t group = 0; group < groups; ++group) {
          MultiplyNf4Tiles(p, group, panels, begin, end);
        }
      });
}

constexpr DigitKernels kDigitKernels = {
    kVectorRows,
    SplitDigits,
    {nullptr, nullptr, nullptr, MultiplyInt8, MultiplyNf4<PlainQuadScales>,
     MultiplyNf4<NestedQuadScales>, nullptr},
    BeginDigits,
    EndTiles,
};

}  // namespace
}  // namespace vernier
