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

// Whole sums of kLines lines of x, of the first kHalves halves of each, with a panel. Few of them
// are added in several parts, so that none waits for the one before.
template <int kLines, int kHalves>
struct DigitSums {
  static constexpr int kSums = kLines * kHalves;
  static constexpr int kParts = kSums >= 8 ? 1 : kSums >= 4 ? 2 : 4;
  __m512i parts[kLines][kHalves][kParts];

  // body(the sum's parts, line, half) for each.
  template <class Body>
  inline void ForSums(const Body& body) {
    VERNIER_UNROLL for (int m = 0; m < kLines; ++m) {
      VERNIER_UNROLL for (int h = 0; h < kHalves; ++h) body(parts[m][h], m, h);
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

  // One step; `x` is the first line's. In a loop the compiler moves sums from register to register.
  template <class Quads>
  inline __attribute__((always_inline)) void Add(const Quads& quads, int64_t step,
                                                 const uint8_t* x) {
    VERNIER_UNROLL for (int pair = 0; pair < kQuadPairs; ++pair) {
      __m512i w[2];
      quads.Get(step * kQuadPairs + pair, w);
      VERNIER_UNROLL for (int q = 0; q < 2; ++q) {
        VERNIER_UNROLL for (int m = 0; m < kLines; ++m) {
          VERNIER_UNROLL for (int h = 0; h < kHalves; ++h) {
            const uint8_t* digits = x + m * kDigitCols + h * kHalfTile + 8 * pair + 4 * q;
            __m512i& sum = parts[m][h][(2 * pair + q) % kParts];
            sum = _mm512_dpbusd_epi32(sum, w[q], Broadcast(digits));
          }
        }
      }
    }
  }
  inline __m512i Sum(int line, int half) const {
    __m512i sum = parts[line][half][0];
    VERNIER_UNROLL for (int i = 1; i < kParts; ++i) {
      sum = _mm512_add_epi32(sum, parts[line][half][i]);
    }
    return sum;
  }

  static inline __m512i Broadcast(const uint8_t* four) {
    int32_t bits;
    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm512_set1_epi32(bits);
  }
};

// A group of x with one of the panels.
struct DigitGroup {
  const DigitProduct& p;
  int64_t line;  // of x, the group's first
  int panel;

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
template <int kLineRows_, int kLines_, int kHalves_ = 2>
struct Form {
  static constexpr int kLineRows = kLineRows_, kLines = kLines_;
  static constexpr int kHalves = kHalves_;  // of a line: 1 where there is no second row
  static constexpr int kRows = RowsOf(kLineRows, kHalves);
  using Sums = DigitSums<kLines, kHalves>;
  // What the rows have come to.
  using Totals = __m512[kLines][kRows];
};

// body(total, row of x) for each.
template <class Form, class Body>
inline void ForTotals(const DigitGroup& group, typename Form::Totals& totals, const Body& body) {
  VERNIER_UNROLL for (int m = 0; m < Form::kLines; ++m) {
    VERNIER_UNROLL for (int half = 0; half < Form::kRows; ++half) {
      body(totals[m][half], (group.line + m) * Form::kLineRows + half);
    }
  }
}

// Kernel::Run<form>(group, args): exactly one to four lines or all of a group, a panel after the
// other, as the memory likes it best.
template <class Kernel, class... Args>
inline void MultiplyGroup(const DigitProduct& p, int64_t line, const Args&... args) {
  static_assert(kDigitLines == 8);
  constexpr int kRows = Kernel::kLineRows;
  const auto each = [&]<class Form>(Form) {
    for (int i = 0; i < p.num_panels; ++i) {
      Kernel::template Run<Form>(DigitGroup{p, line, i}, args...);
    }
  };
  switch (LinesOf(p.x) - line) {
    case 1:
      if (kRows == 2 && p.x.rows % 2 == 1) return each(Form < kRows, 1, kRows == 2 ? 1 : 2 > ());
      return each(Form<kRows, 1>());
    case 2:
      return each(Form<kRows, 2>());
    case 3:
      return each(Form<kRows, 3>());
    case 4:
      return each(Form<kRows, 4>());
    default:
      return each(Form<kRows, 8>());
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
    const Int8Quads<(Form::kLines <= 2 ? kWideInt8Ahead : kFarAhead)> quads = {
        p.panels[group.panel].codes};
    typename Form::Totals totals;
    ForTotals<Form>(group, totals, [](__m512& total, int64_t) { total = _mm512_setzero_ps(); });
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
      VERNIER_UNROLL for (int m = 0; m < Form::kLines; ++m) {
        const auto sum = [&](int half) {
          const __m512i start = _mm512_set1_epi32(of_lines[half * kDigitLines + m]);
          return _mm512_add_epi32(sums.Sum(m, half), start);
        };
        AddWide(sum(0), sum(1), totals[m][0]);
      }
    }
    ForTotals<Form>(group, totals, [&](const __m512& total, int64_t row) {
      _mm512_storeu_ps(SumsOf(p, group.panel, row),
                       _mm512_mul_ps(total, _mm512_set1_ps(p.x.scales[row])));
    });
  }
};

// ---- A scale a step ----

// What a group's sums have come to before step `begin`, and its way back before step `end`: times
// what is left to scale with after the last.
template <class Form>
inline void LoadTotals(const DigitGroup& group, int64_t begin, typename Form::Totals& totals) {
  ForTotals<Form>(group, totals, [&](__m512& total, int64_t row) {
    total = begin == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(SumsOf(group.p, group.panel, row));
  });
}
template <class Form, class Scales>
inline void StoreTotals(const DigitGroup& group, int64_t end, typename Form::Totals& totals) {
  const DigitProduct& p = group.p;
  ForTotals<Form>(group, totals, [&](const __m512& total, int64_t row) {
    float scale = 1;
    if (end == p.x.steps) {
      if constexpr (Form::kLineRows == 1) scale = p.x.scales[row];
      if constexpr (Scales::kAny) scale /= kNf4CodeScale;
    }
    _mm512_storeu_ps(SumsOf(p, group.panel, row), _mm512_mul_ps(total, _mm512_set1_ps(scale)));
  });
}

// Steps [begin, end) of a panel, whose sums so far lie in p.sums; `quads` and `scales` count from
// `begin`.
template <class Form, class Quads, class Scales>
inline void AddSteps(const DigitGroup& group, const Quads& quads, const Scales& scales,
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
    VERNIER_UNROLL for (int m = 0; m < Form::kLines; ++m) {
      __m512i of_line[Form::kHalves];
      VERNIER_UNROLL for (int h = 0; h < Form::kHalves; ++h) of_line[h] = sums.Sum(m, h);
      AddStepSums<Form::kLineRows>(of_line, scales, step, x_scales + m, totals[m]);
    }
  }
  StoreTotals<Form, Scales>(group, end, totals);
}

// ---- int8, one digit ----

struct NarrowInt8Kernel {
  static constexpr int kLineRows = 2;

  template <class Form>
  static void Run(const DigitGroup& group) {
    const Int8Quads<(Form::kLines == 1 ? kNarrowInt8Ahead : kFarAhead)> quads = {
        group.p.panels[group.panel].codes};
    AddSteps<Form>(group, quads, NoStepScales(), 0, group.p.x.steps);
  }
};

template <class Kernel, class... Args>
void MultiplyGroups(const DigitProduct& p, const Args&... args) {
  for (int64_t line = 0; line < LinesOf(p.x); line += kDigitLines) {
    MultiplyGroup<Kernel>(p, line, args...);
  }
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

// absmax of some steps of one panel, in DigitProduct::scratch.
struct DecodedScales {
  static constexpr bool kAny = true;
  const float* absmax;
  inline __m512 Get(int64_t step) const { return _mm512_loadu_ps(absmax + step * kTileRows); }
};

constexpr int64_t kDecodedSteps = kDigitScratchCols / kDigitCols;

// What a panel has of the scratch: room for codes of a byte, then for absmax.
inline uint8_t* ScratchOf(const DigitProduct& p, int panel) {
  return p.scratch + panel * (kDigitScratchBytes / kDigitPanels);
}

template <class Scales>
inline DecodedScales DecodeScales(const DigitProduct& p, int panel, int64_t begin, int64_t end) {
  auto* absmax = reinterpret_cast<float*>(ScratchOf(p, panel) + kDigitScratchCols * kTileRows);
  const Scales scales(p.panels[panel]);
  for (int64_t step = begin; step < end; ++step) {
    _mm512_storeu_ps(absmax + (step - begin) * kTileRows, scales.Get(step));
  }
  return {absmax};
}

// 0 where the compiler knows it: one line of x is a tenth faster.
struct FirstStep {
  constexpr operator int64_t() const { return 0; }
};

// Codes are decoded as they are multiplied, anew for each group: that costs less than to store and
// load them again.
template <int kLineRows_>
struct Nf4Steps {
  static constexpr int kLineRows = kLineRows_;

  // Steps [begin, end); `scales` count from `begin`.
  template <class Form, class Scales, class Begin>
  static void Run(const DigitGroup& group, const Scales (&scales)[kDigitPanels], Begin begin,
                  int64_t end) {
    using Quads = Nf4Quads<true>;
    const uint8_t* codes = group.p.panels[group.panel].codes;
    const Quads quads = {codes + begin * kQuadPairs * Quads::kPairBytes};
    AddSteps<Form>(group, quads, scales[group.panel], begin, end);
  }
};

template <int kLineRows, class Scales>
void MultiplyNf4Whole(const DigitProduct& p) {
  const Scales scales[kDigitPanels] = {Scales(p.panels[0]), Scales(p.panels[1])};
  MultiplyGroups<Nf4Steps<kLineRows>>(p, scales, FirstStep(), p.x.steps);
}
template <int kLineRows>
struct Nf4Kernel {
  static void Multiply(const DigitProduct& p) { MultiplyNf4Whole<kLineRows, PlainQuadScales>(p); }
};

// To gather the scales takes longer than to multiply a group with their codes: more than a line
// has them gathered before, once for all groups.
template <int kLineRows>
struct NestedNf4Kernel {
  static void Multiply(const DigitProduct& p) {
    if (LinesOf(p.x) == 1) return MultiplyNf4Whole<kLineRows, NestedQuadScales>(p);
    for (int64_t begin = 0; begin < p.x.steps; begin += kDecodedSteps) {
      const int64_t end = EndOfRun(p, begin, kDecodedSteps);
      const DecodedScales scales[kDigitPanels] = {DecodeScales<NestedQuadScales>(p, 0, begin, end),
                                                  DecodeScales<NestedQuadScales>(p, 1, begin, end)};
      MultiplyGroups<Nf4Steps<kLineRows>>(p, scales, begin, end);
    }
  }
};

}  // namespace
}  // namespace vernier
