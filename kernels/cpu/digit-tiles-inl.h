// Products of digits (DigitKernels) by the matrix unit of AMX, of signed bytes; few rows of x by
// vectors, to the same bits. For the file that is compiled for AMX.
//
// A tile of x is both halves of a group's kDigitLines lines, so its product with a tile of weights
// is the two sums of each line: those of first halves in the first half of the tile, the others in
// the second.
#pragma once

#include "kernels/cpu/digits-inl.h"
#include "kernels/cpu/tile-ops-inl.h"

namespace vernier {
namespace {

// Lines of x up to which vectors are as fast; four are half a tile.
constexpr int64_t kVectorLines = 4;

void BeginDigits() {
  constexpr uint8_t kAll = kTileRows;
  constexpr uint8_t kRows[8] = {kAll, kAll, kAll, kAll, kAll, kAll, kAll, kAll};
  ConfigureTiles(kRows);
}

constexpr int64_t kWeightTile = int64_t{kTileRows} * kDigitCols;  // bytes
constexpr int kTileWords = kTileRows * kTileRows;                 // of sums
constexpr int kLowWords = kTileWords / 2;  // of first halves, before the others

// Sums of a tile: of a line's first half, and of its second.
inline __m512i HighWords(const int32_t* words, int line) {
  return _mm512_load_si512(words + line * kTileRows);
}
inline __m512i LowWords(const int32_t* words, int line) {
  return _mm512_load_si512(words + kLowWords + line * kTileRows);
}
inline int64_t DigitGroups(const DigitProduct& p) {
  return (LinesOf(p.x) + kDigitLines - 1) / kDigitLines;
}

// ---- int8, two digits ----

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
inline void JoinInt8(const DigitProduct& p, const int32_t* words, const DigitGroup& group,
                     bool first, bool last) {
  VERNIER_UNROLL for (int m = 0; m < kDigitLines; ++m) {
    const int64_t row = group.line + m;
    float* sums = SumsOf(p, group.panel, row);
    __m512 total = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sums);
    AddWide(HighWords(words, m), LowWords(words, m), total);
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
      JoinInt8(p, words[i], {p, (group + i / 2) * kDigitLines, i % 2}, begin == 0,
               end == p.x.steps);
    }
  }
}

// ---- A scale a step ----
//
// Sums leave the unit after each step and are scaled by vectors, while the unit computes the next.
// Even steps have tiles 0, 1 (sums) and 4 (x), odd ones 2, 3 and 5; 6 and 7 are weights of either
// panel.

template <class Scales>
struct StepTiles {
  const uint8_t* x;                // of the first step
  const uint8_t* w[kDigitPanels];  // likewise
  Scales scales[kDigitPanels];     // likewise
  const float* x_scales;           // likewise; read where x has a scale a step
};

// Sums in kSums and the next, x in kX.
template <int kSums, int kX, class Scales>
inline void AddStep(const StepTiles<Scales>& t, int64_t step) {
  ZeroTile<kSums>();
  ZeroTile<kSums + 1>();
  LoadTile<kX>(t.x + step * kDigitTile);
  LoadTile<6>(t.w[0] + step * kWeightTile);
  AddFours<kSums, kX, 6>();
  LoadTile<7>(t.w[1] + step * kWeightTile);
  AddFours<kSums + 1, kX, 7>();
}

template <int kLineRows>
using GroupForm = Form<kLineRows, kDigitLines>;
template <int kLineRows>
using GroupTotals = typename GroupForm<kLineRows>::Totals[kDigitPanels];

template <int kLineRows, class Scales>
inline void ScaleStep(const StepTiles<Scales>& t, const int32_t (*words)[kTileWords], int64_t step,
                      GroupTotals<kLineRows>& totals) {
  const float* x_scales = t.x_scales + step * StepScales<kLineRows>();
  VERNIER_UNROLL for (int i = 0; i < kDigitPanels; ++i) {
    VERNIER_UNROLL for (int m = 0; m < kDigitLines; ++m) {
      const __m512i sums[2] = {HighWords(words[i], m), LowWords(words[i], m)};
      AddStepSums<kLineRows>(sums, t.scales[i], step, x_scales + m, totals[i][m]);
    }
  }
}

template <int kLineRows, class Scales>
inline void AddStepTiles(const StepTiles<Scales>& t, int64_t steps,
                         GroupTotals<kLineRows>& totals) {
  alignas(64) int32_t even[kDigitPanels][kTileWords], odd[kDigitPanels][kTileWords];
  AddStep<0, 4>(t, 0);
  for (int64_t step = 0; step < steps; step += 2) {
    if (step + 1 < steps) AddStep<2, 5>(t, step + 1);
    StoreTile<0>(even[0]);
    StoreTile<1>(even[1]);
    ScaleStep<kLineRows>(t, even, step, totals);
    if (step + 1 == steps) break;
    if (step + 2 < steps) AddStep<0, 4>(t, step + 2);
    StoreTile<2>(odd[0]);
    StoreTile<3>(odd[1]);
    ScaleStep<kLineRows>(t, odd, step + 1, totals);
  }
}

// Steps [begin, end) of a group; `w` and `scales` count from `begin`.
template <int kLineRows, class Scales>
void MultiplyBySteps(const DigitProduct& p, int64_t group, const uint8_t* const (&w)[kDigitPanels],
                     const Scales (&scales)[kDigitPanels], int64_t begin, int64_t end) {
  const DigitGroup panels[kDigitPanels] = {{p, group * kDigitLines, 0},
                                           {p, group * kDigitLines, 1}};
  GroupTotals<kLineRows> totals;
  VERNIER_UNROLL for (int i = 0; i < kDigitPanels; ++i) {
    LoadTotals<GroupForm<kLineRows>>(panels[i], begin, totals[i]);
  }
  AddStepTiles<kLineRows, Scales>({panels[0].x() + begin * kDigitTile,
                                   {w[0], w[1]},
                                   {scales[0], scales[1]},
                                   XScales<kLineRows>(p, panels[0].line, begin)},
                                  end - begin, totals);
  VERNIER_UNROLL for (int i = 0; i < kDigitPanels; ++i) {
    StoreTotals<GroupForm<kLineRows>, Scales>(panels[i], end, totals[i]);
  }
}

template <int kLineRows>
struct Int8Tiles {
  static void Multiply(const DigitProduct& p) {
    if (p.x.by_vectors) return Int8Kernel<kLineRows>::Multiply(p);
    const int64_t groups = DigitGroups(p);
    int64_t group = 0;
    if constexpr (kLineRows == 1) {
      for (; group + 2 <= groups; group += 2) MultiplyInt8Tiles<2>(p, group);
      if (group < groups) MultiplyInt8Tiles<1>(p, group);
    } else {
      constexpr NoStepScales kNone[kDigitPanels] = {};
      for (; group < groups; ++group) {
        MultiplyBySteps<2>(p, group, {p.panels[0].codes, p.panels[1].codes}, kNone, 0, p.x.steps);
      }
    }
  }
};

// ---- NF4 ----

// Some steps of one panel, decoded in DigitProduct::scratch.
struct DecodedPanel {
  const uint8_t* codes;
  DecodedScales scales;
};

template <class Scales>
inline DecodedPanel DecodePanel(const DigitProduct& p, int panel, int64_t begin, int64_t end) {
  uint8_t* codes = ScratchOf(p, panel);
  const Nf4Quads<false> quads = {p.panels[panel].codes};
  for (int64_t step = begin; step < end; ++step) {
    uint8_t* to = codes + (step - begin) * kDigitCols * kTileRows;
    VERNIER_UNROLL for (int pair = 0; pair < kQuadPairs; ++pair) {
      __m512i both[2];
      quads.Get(step * kQuadPairs + pair, both);
      _mm512_storeu_si512(to + 2 * pair * kQuadBytes, both[0]);
      _mm512_storeu_si512(to + (2 * pair + 1) * kQuadBytes, both[1]);
    }
  }
  return {codes, DecodeScales<Scales>(p, panel, begin, end)};
}

// Steps that are decoded at once for one or two groups, so that decoding runs beside the products
// of the steps before.
constexpr int64_t kFewSteps = 4;
template <int kLineRows, class Scales>
void MultiplyNf4Tiles(const DigitProduct& p) {
  const int64_t groups = DigitGroups(p);
  const int64_t most = groups <= 2 ? kFewSteps : kDecodedSteps;
  for (int64_t begin = 0; begin < p.x.steps; begin += most) {
    const int64_t end = EndOfRun(p, begin, most);
    const DecodedPanel panels[kDigitPanels] = {DecodePanel<Scales>(p, 0, begin, end),
                                               DecodePanel<Scales>(p, 1, begin, end)};
    for (int64_t group = 0; group < groups; ++group) {
      MultiplyBySteps<kLineRows, DecodedScales>(p, group, {panels[0].codes, panels[1].codes},
                                                {panels[0].scales, panels[1].scales}, begin, end);
    }
  }
}
template <int kLineRows>
struct Nf4Tiles {
  static void Multiply(const DigitProduct& p) {
    if (p.x.by_vectors) return Nf4Kernel<kLineRows>::Multiply(p);
    MultiplyNf4Tiles<kLineRows, PlainQuadScales>(p);
  }
};
template <int kLineRows>
struct NestedNf4Tiles {
  static void Multiply(const DigitProduct& p) {
    if (p.x.by_vectors) return NestedNf4Kernel<kLineRows>::Multiply(p);
    MultiplyNf4Tiles<kLineRows, NestedQuadScales>(p);
  }
};

constexpr DigitKernels kDigitKernels = {
    kVectorLines,
    SplitDigits,
    {nullptr, nullptr, nullptr, MultiplyLines<Int8Tiles>, MultiplyLines<Nf4Tiles>,
     MultiplyLines<NestedNf4Tiles>, nullptr},
    BeginDigits,
    EndTiles,
};

}  // namespace
}  // namespace vernier
