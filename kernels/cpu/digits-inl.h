// Products of digits (DigitKernels) by the byte products of AVX-512 VNNI: a lane is a weight row.
// For the files that are compiled for at least that; after avx512-inl.h.
//
// VPDPBUSD multiplies unsigned bytes with signed ones, so 128 is added to each weight, and sums
// begin at what that adds, negated: DigitRows::starts. All of that is exact.
#pragma once

#include "kernels/cpu/avx512-inl.h"
#include "kernels/cpu/digit-rows-inl.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/quads-inl.h"

namespace vernier {
namespace {

// ---- Sums ----

// The sums of a row's two digits, to what it has come to: of int8 ...
inline void AddWide(__m512i high, __m512i low, __m512& total) {
  total = _mm512_add_ps(total, _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(256),
                                               _mm512_cvtepi32_ps(low)));
}

// Rows of a line of whose halves kHalves are computed.
constexpr int RowsOf(int line_rows, int halves) { return line_rows == 1 ? 1 : halves; }

// ... and the sums of one step of a line's halves, where the weights have a scale a step (NF4), or
// x has (kLineRows = 2: x_scales[0] the first row's, [kDigitLines] the second's), or both.
template <int kLineRows, int kHalves, class Scales>
inline void AddStepSums(const __m512i (&sums)[kHalves], const Scales& scales, int64_t step,
                        const float* x_scales, __m512 (&total)[RowsOf(kLineRows, kHalves)]) {
  if constexpr (kLineRows == 1) {
    // 256 high + low fits 32 bits.
    const __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(sums[0], 8), sums[1]);
    total[0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), scales.Get(step), total[0]);
  } else {
    VERNIER_UNROLL for (int half = 0; half < kHalves; ++half) {
      __m512 sum = _mm512_cvtepi32_ps(sums[half]);
      if constexpr (Scales::kAny) sum = _mm512_mul_ps(sum, scales.Get(step));
      total[half] = _mm512_fmadd_ps(sum, _mm512_set1_ps(x_scales[half * kDigitLines]), total[half]);
    }
  }
}

// int8's, which has a scale a row alone.
struct NoStepScales {
  static constexpr bool kAny = false;
};

// From one step's scales of a group to the next; a scale a row is the same for all.
template <int kLineRows>
constexpr int64_t StepScales() {
  return kLineRows == 2 ? kStepScales : 0;
}
template <int kLineRows>
inline const float* XScales(const DigitProduct& p, int64_t line, int64_t step) {
  return p.x.scales + (line / kDigitLines * p.x.steps + step) * StepScales<kLineRows>() +
         line % kDigitLines;
}

inline float* SumsOf(const DigitProduct& p, int panel, int64_t row) {
  constexpr int64_t kTile = int64_t{kTileRows} * kTileRows;
  return p.sums + (row / kTileRows * kDigitPanels + panel) * kTile + row % kTileRows * kTileRows;
}

constexpr int64_t kBlockSteps = kDigitBlock / kDigitCols;

// Where a run of up to `most` steps from `begin` on ends.
inline int64_t EndOfRun(const DigitProduct& p, int64_t begin, int64_t most) {
  return begin + most < p.x.steps ? begin + most : p.x.steps;
}

// Whole sums of kLines lines of x, of the first kHalves halves of each, with kPanels panels. Few of
// them are added in several parts, so that none waits for the one before.
template <int kLines, int kPanels, int kHalves>
struct DigitSums {
  static constexpr int kSums = kPanels * kLines * kHalves;
  static constexpr int kParts = kSums >= 8 ? 1 : kSums >= 4 ? 2 : 4;
  __m512i parts[kPanels][kLines][kHalves][kParts];

  // body(the sum's parts, line, half) for each.
  template <class Body>
  inline void ForSums(const Body& body) {
    VERNIER_UNROLL for (int p = 0; p < kPanels; ++p) {
      VERNIER_UNROLL for (int m = 0; m < kLines; ++m) {
        VERNIER_UNROLL for (int h = 0; h < kHalves; ++h) body(parts[p][m][h], m, h);
      }
    }
  }
  inline void Clear() {
    ForSums([](__m512i* sum, int, int) {
      VERNIER_UNROLL for (int i = 0; i < kParts; ++i) sum[i] = _mm512_setzero_si512();
    });
  }
  // `starts` are those of the first line's step.
  inline void Start(const int32_t* starts) {
    ForSums([&](__m512i* sum, int line, int half) {
      sum[0] = _mm512_set1_epi32(starts[half * kDigitLines + line]);
      VERNIER_UNROLL for (int i = 1; i < kParts; ++i) sum[i] = _mm512_setzero_si512();
    });
  }

  // One step; `x` is the first line's.
  template <class Quads>
  inline __attribute__((always_inline)) void Add(const Quads* quads, int64_t step,
                                                 const uint8_t* x) {
    for (int pair = 0; pair < kQuadPairs; pair += 2, x += 16) {
      VERNIER_UNROLL for (int i = 0; i < 2; ++i) {
        __m512i w[kPanels][2];
        VERNIER_UNROLL for (int p = 0; p < kPanels; ++p) {
          quads[p].Get(step * kQuadPairs + pair + i, w[p]);
        }
        VERNIER_UNROLL for (int q = 0; q < 2; ++q) {
          VERNIER_UNROLL for (int m = 0; m < kLines; ++m) {
            VERNIER_UNROLL for (int h = 0; h < kHalves; ++h) {
              const __m512i digits = Broadcast(x + m * kDigitCols + h * kHalfTile + 8 * i + 4 * q);
              VERNIER_UNROLL for (int p = 0; p < kPanels; ++p) {
                __m512i& sum = parts[p][m][h][(2 * i + q) % kParts];
                sum = _mm512_dpbusd_epi32(sum, w[p][q], digits);
              }
            }
          }
        }
      }
    }
  }
  inline __m512i Sum(int panel, int line, int half) const {
    __m512i sum = parts[panel][line][half][0];
    VERNIER_UNROLL for (int i = 1; i < kParts; ++i) {
      sum = _mm512_add_epi32(sum, parts[panel][line][half][i]);
    }
    return sum;
  }

  static inline __m512i Broadcast(const uint8_t* four) {
    int32_t bits;
    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm512_set1_epi32(bits);
  }
};

// A group of x with some of the panels.
struct DigitGroup {
  const DigitProduct& p;
  int64_t line;  // of x, the group's first
  int first;     // panel

  const uint8_t* x() const {
    return p.x.tiles + line / kDigitLines * p.x.steps * kDigitTile +
           line % kDigitLines * kDigitCols;
  }
  const int32_t* starts() const {
    return p.x.starts + line / kDigitLines * p.x.steps * kStepStarts + line % kDigitLines;
  }
};

inline int64_t LinesOf(const DigitRows& x) { return (x.rows + x.line_rows - 1) / x.line_rows; }

// What is computed at once, of kLineRows rows a line.
template <int kLineRows_, int kLines_, int kPanels_, int kHalves_ = 2>
struct Form {
  static constexpr int kLineRows = kLineRows_, kLines = kLines_, kPanels = kPanels_;
  static constexpr int kHalves = kHalves_;  // of a line: 1 where there is no second row
  static constexpr int kRows = RowsOf(kLineRows, kHalves);
  using Sums = DigitSums<kLines, kPanels, kHalves>;
  // What the rows have come to with each panel.
  using Totals = __m512[kPanels][kLines][kRows];
};

// body(total, panel, row of x) for each.
template <class Form, class Body>
inline void ForTotals(const DigitGroup& group, typename Form::Totals& totals, const Body& body) {
  VERNIER_UNROLL for (int i = 0; i < Form::kPanels; ++i) {
    VERNIER_UNROLL for (int m = 0; m < Form::kLines; ++m) {
      VERNIER_UNROLL for (int half = 0; half < Form::kRows; ++half) {
        body(totals[i][m][half], group.first + i, (group.line + m) * Form::kLineRows + half);
      }
    }
  }
}

// Kernel::Run<form>(group, args): exactly one to four lines or all of a group. One or two lines
// take a panel after the other, as the memory likes it best; more take two at once, for the sake of
// x.
template <class Kernel, class... Args>
inline void MultiplyGroup(const DigitProduct& p, int64_t line, const Args&... args) {
  static_assert(kDigitPanels == 2 && kDigitLines == 8);
  constexpr int kRows = Kernel::kLineRows;
  const auto each = [&]<class Form>(Form) {
    for (int i = 0; i < p.num_panels; ++i) {
      Kernel::template Run<Form>(DigitGroup{p, line, i}, args...);
    }
  };
  switch (LinesOf(p.x) - line) {
    case 1:
      if (kRows == 2 && p.x.rows % 2 == 1) return each(Form < kRows, 1, 1, kRows == 2 ? 1 : 2 > ());
      return each(Form<kRows, 1, 1>());
    case 2:
      return each(Form<kRows, 2, 1>());
    case 3:
      return Kernel::template Run<Form<kRows, 3, 2>>(DigitGroup{p, line, 0}, args...);
    case 4:
      return Kernel::template Run<Form<kRows, 4, 2>>(DigitGroup{p, line, 0}, args...);
    default:
      return each(Form<kRows, 8, 1>());
  }
}

// Kernel<1> or Kernel<2>::Multiply(p), by the rows of a line.
template <template <int> class Kernel>
void MultiplyLines(const DigitProduct& p) {
  return p.x.line_rows == 1 ? Kernel<1>::Multiply(p) : Kernel<2>::Multiply(p);
}

// ---- int8, two digits ----

struct WideInt8Kernel {
  static constexpr int kLineRows = 1;

  template <class Form>
  static void Run(const DigitGroup& group) {
    const DigitProduct& p = group.p;
    Int8Quads<kWideInt8Ahead> quads[Form::kPanels];
    VERNIER_UNROLL for (int i = 0; i < Form::kPanels; ++i) {
      quads[i] = {p.panels[group.first + i].codes};
    }
    typename Form::Totals totals;
    ForTotals<Form>(group, totals,
                    [](__m512& total, int, int64_t) { total = _mm512_setzero_ps(); });
    for (int64_t first = 0; first < p.x.steps; first += kBlockSteps) {
      const int64_t end = EndOfRun(p, first, kBlockSteps);
      typename Form::Sums sums;
      sums.Clear();
      __m512i starts = _mm512_setzero_si512();
      for (int64_t step = first; step < end; ++step) {
        sums.Add(quads, step, group.x() + step * kDigitTile);
        starts = _mm512_add_epi32(starts, _mm512_loadu_si512(group.starts() + step * kStepStarts));
      }
      alignas(64) int32_t of_lines[kStepStarts];
      _mm512_store_si512(of_lines, starts);
      VERNIER_UNROLL for (int i = 0; i < Form::kPanels; ++i) {
        VERNIER_UNROLL for (int m = 0; m < Form::kLines; ++m) {
          const auto sum = [&](int half) {
            const __m512i start = _mm512_set1_epi32(of_lines[half * kDigitLines + m]);
            return _mm512_add_epi32(sums.Sum(i, m, half), start);
          };
          AddWide(sum(0), sum(1), totals[i][m][0]);
        }
      }
    }
    ForTotals<Form>(group, totals, [&](const __m512& total, int panel, int64_t row) {
      _mm512_storeu_ps(SumsOf(p, panel, row),
                       _mm512_mul_ps(total, _mm512_set1_ps(p.x.scales[row])));
    });
  }
};

// ---- A scale a step ----

// What a group's sums have come to before step `begin`, and its way back before step `end`: times
// what is left to scale with after the last.
template <class Form>
inline void LoadTotals(const DigitGroup& group, int64_t begin, typename Form::Totals& totals) {
  ForTotals<Form>(group, totals, [&](__m512& total, int panel, int64_t row) {
    total = begin == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(SumsOf(group.p, panel, row));
  });
}
template <class Form, class Scales>
inline void StoreTotals(const DigitGroup& group, int64_t end, typename Form::Totals& totals) {
  const DigitProduct& p = group.p;
  ForTotals<Form>(group, totals, [&](const __m512& total, int panel, int64_t row) {
    float scale = 1;
    if (end == p.x.steps) {
      if constexpr (Form::kLineRows == 1) scale = p.x.scales[row];
      if constexpr (Scales::kAny) scale /= kNf4CodeScale;
    }
    _mm512_storeu_ps(SumsOf(p, panel, row), _mm512_mul_ps(total, _mm512_set1_ps(scale)));
  });
}

// Steps [begin, end) of some panels, whose sums so far lie in p.sums; `quads` and `scales` count
// from `begin`.
template <class Form, class Quads, class Scales>
inline void AddSteps(const DigitGroup& group, const Quads* quads, const Scales* scales,
                     int64_t begin, int64_t end) {
  typename Form::Totals totals;
  LoadTotals<Form>(group, begin, totals);
  const uint8_t* x = group.x() + begin * kDigitTile;
  const int32_t* starts = group.starts() + begin * kStepStarts;
  for (int64_t step = 0; step < end - begin; ++step, x += kDigitTile, starts += kStepStarts) {
    typename Form::Sums sums;
    sums.Start(starts);
    sums.Add(quads, step, x);
    const float* x_scales = XScales<Form::kLineRows>(group.p, group.line, begin + step);
    VERNIER_UNROLL for (int i = 0; i < Form::kPanels; ++i) {
      VERNIER_UNROLL for (int m = 0; m < Form::kLines; ++m) {
        __m512i of_line[Form::kHalves];
        VERNIER_UNROLL for (int h = 0; h < Form::kHalves; ++h) of_line[h] = sums.Sum(i, m, h);
        AddStepSums<Form::kLineRows>(of_line, scales[i], step, x_scales + m, totals[i][m]);
      }
    }
  }
  StoreTotals<Form, Scales>(group, end, totals);
}

// ---- int8, one digit ----

struct NarrowInt8Kernel {
  static constexpr int kLineRows = 2;

  template <class Form>
  static void Run(const DigitGroup& group) {
    Int8Quads<kNarrowInt8Ahead> quads[Form::kPanels];
    VERNIER_UNROLL for (int i = 0; i < Form::kPanels; ++i) {
      quads[i] = {group.p.panels[group.first + i].codes};
    }
    constexpr NoStepScales kNone[Form::kPanels] = {};
    AddSteps<Form>(group, quads, kNone, 0, group.p.x.steps);
  }
};

template <class Kernel>
void MultiplyGroups(const DigitProduct& p) {
  for (int64_t line = 0; line < LinesOf(p.x); line += kDigitLines) MultiplyGroup<Kernel>(p, line);
}
template <int kLineRows>
struct Int8Kernel {
  static void Multiply(const DigitProduct& p) {
    if constexpr (kLineRows == 1) {
      MultiplyGroups<WideInt8Kernel>(p);
    } else {
      MultiplyGroups<NarrowInt8Kernel>(p);
    }
  }
};

// ---- NF4 ----

// Some steps of one panel, decoded in DigitProduct::scratch.
struct DecodedScales {
  static constexpr bool kAny = true;
  const float* absmax;
  inline __m512 Get(int64_t step) const { return _mm512_loadu_ps(absmax + step * kTileRows); }
};
struct DecodedPanel {
  const uint8_t* codes;
  DecodedScales scales;
};

constexpr int64_t kDecodedSteps = kDigitScratchCols / kDigitCols;

// kBiased: as BiasedQuads.
template <bool kBiased, class Scales>
inline DecodedPanel DecodePanel(const DigitProduct& p, int panel, int64_t begin, int64_t end) {
  constexpr int64_t kCodes = kDigitScratchCols * kTileRows;
  uint8_t* codes = p.scratch + panel * (kDigitScratchBytes / kDigitPanels);
  auto* absmax = reinterpret_cast<float*>(codes + kCodes);
  const Nf4Quads<kBiased> quads = {p.panels[panel].codes};
  const Scales scales(p.panels[panel]);
  for (int64_t step = begin; step < end; ++step) {
    uint8_t* to = codes + (step - begin) * kDigitCols * kTileRows;
    VERNIER_UNROLL for (int pair = 0; pair < kQuadPairs; ++pair) {
      __m512i both[2];
      quads.Get(step * kQuadPairs + pair, both);
      _mm512_storeu_si512(to + 2 * pair * kQuadBytes, both[0]);
      _mm512_storeu_si512(to + (2 * pair + 1) * kQuadBytes, both[1]);
    }
    _mm512_storeu_ps(absmax + (step - begin) * kTileRows, scales.Get(step));
  }
  return {codes, {absmax}};
}

template <int kLineRows_, class Scales>
struct WholeNf4Kernel {
  static constexpr int kLineRows = kLineRows_;

  template <class Form>
  static void Run(const DigitGroup& group) {
    const Panel* panels = group.p.panels + group.first;
    const Scales scales[2] = {Scales(panels[0]), Scales(panels[Form::kPanels - 1])};
    const Nf4Quads<true> quads[2] = {{panels[0].codes}, {panels[Form::kPanels - 1].codes}};
    AddSteps<Form>(group, quads, scales, 0, group.p.x.steps);
  }
};

template <int kLineRows_>
struct DecodedNf4Kernel {
  static constexpr int kLineRows = kLineRows_;

  template <class Form>
  static void Run(const DigitGroup& group, const DecodedPanel (&panels)[kDigitPanels],
                  int64_t begin, int64_t end) {
    const DecodedPanel& a = panels[group.first];
    const DecodedPanel& b = panels[group.first + Form::kPanels - 1];
    const BiasedQuads quads[2] = {{a.codes}, {b.codes}};
    const DecodedScales scales[2] = {a.scales, b.scales};
    AddSteps<Form>(group, quads, scales, begin, end);
  }
};

// body(decoded panels, begin, end) for runs of up to `most` steps, in order.
template <bool kBiased, class Scales, class Body>
inline void ForDecodedSteps(const DigitProduct& p, int64_t most, const Body& body) {
  for (int64_t begin = 0; begin < p.x.steps; begin += most) {
    const int64_t end = EndOfRun(p, begin, most);
    const DecodedPanel panels[kDigitPanels] = {DecodePanel<kBiased, Scales>(p, 0, begin, end),
                                               DecodePanel<kBiased, Scales>(p, 1, begin, end)};
    body(panels, begin, end);
  }
}

template <int kLineRows, class Scales>
void MultiplyNf4Digits(const DigitProduct& p) {
  const int64_t lines = LinesOf(p.x);
  if (lines <= kDigitLines) return MultiplyGroup<WholeNf4Kernel<kLineRows, Scales>>(p, 0);
  ForDecodedSteps<true, Scales>(
      p, kDecodedSteps, [&](const DecodedPanel(&panels)[kDigitPanels], int64_t begin, int64_t end) {
        for (int64_t line = 0; line < lines; line += kDigitLines) {
          MultiplyGroup<DecodedNf4Kernel<kLineRows>>(p, line, panels, begin, end);
        }
      });
}
template <int kLineRows>
struct Nf4Kernel {
  static void Multiply(const DigitProduct& p) { MultiplyNf4Digits<kLineRows, PlainQuadScales>(p); }
};
template <int kLineRows>
struct NestedNf4Kernel {
  static void Multiply(const DigitProduct& p) { MultiplyNf4Digits<kLineRows, NestedQuadScales>(p); }
};

}  // namespace
}  // namespace vernier
