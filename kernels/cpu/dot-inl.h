// Dot products and decoding of weight panels, written once over the vectors of an instruction set.
//
// Included by one file an instruction set, after its Vec; everything here has internal linkage, so
// that no other file can be linked with code that its processor lacks.
#pragma once

#include "kernels/cpu/kernel_table.h"

namespace vernier {
namespace {

// Rows of a panel that are summed at once: the most whose sums, for `x_rows` rows of x, fill three
// quarters of the registers. The rest is for weights, tables and x.
constexpr int RowsAtOnce(int x_rows) {
  int rows = kPanelRows;
  while (rows * x_rows > kRegisters * 3 / 4 && rows > 1) rows /= 2;
  return rows;
}

// sums[m * kPanelRows + r] of acc[m * kRows + r], eight vectors at a time.
template <int kXRows, int kRows>
inline void ReduceSums(const Vec* acc, float* sums) {
  constexpr int kSums = kXRows * kRows;
  VERNIER_UNROLL for (int first = 0; first < kSums; first += 8) {
    Vec eight[8];
    float out[8];
    VERNIER_UNROLL for (int i = 0; i < 8; ++i) {
      eight[i] = first + i < kSums ? acc[first + i] : Zero();
    }
    SumLanes8(eight, out);
    VERNIER_UNROLL for (int i = 0; i < 8; ++i) {
      const int sum = first + i;
      if (sum < kSums) sums[sum / kRows * kPanelRows + sum % kRows] = out[i];
    }
  }
}

// Asks for bytes that follow `codes`, as many as are read of them. A thread's panels lie one after
// the other, and a hint past their end does nothing. With one or two rows of x that is as fast as
// memory: codes of 8 bits or fewer are asked for two KB ahead, wider ones not at all, as hints cost
// them up to a third (Zen 4). More rows read too slowly for the processor to foresee enough: twice
// as fast with 16 KB ahead, in the second cache.
template <int kXRows, int kBits, int64_t kBytes>
inline void PrefetchAhead(const uint8_t* codes) {
  constexpr bool kFar = kXRows > 2;
  if constexpr (kFar || (kXRows == 1 && kBits <= 8)) {
    for (int64_t i = 0; i < kBytes; i += 64) {
      __builtin_prefetch(codes + (kFar ? 16384 : 2048) + i, 0, kFar ? 2 : 3);
    }
  }
}

// ---- Layouts of one element after the other: [chunk][row][kChunk] ----

struct ElementF32 {
  static constexpr int kBytes = 4;
  static inline Vec Get(const uint8_t* p) { return Load(reinterpret_cast<const float*>(p)); }
};
// A panel that was decoded a moment ago.
struct ElementInCache : ElementF32 {};
template <class Element>
constexpr bool kInCache = false;
template <>
constexpr bool kInCache<ElementInCache> = true;
struct ElementF16 {
  static constexpr int kBytes = 2;
  static inline Vec Get(const uint8_t* p) { return LoadF16(p); }
};
struct ElementBF16 {
  static constexpr int kBytes = 2;
  static inline Vec Get(const uint8_t* p) { return LoadBF16(p); }
};
struct ElementInt8 {
  static constexpr int kBytes = 1;
  static inline Vec Get(const uint8_t* p) { return LoadInt8(p); }
};

template <class Element, int kXRows>
void DotElements(const Panel& panel, const float* x, int64_t x_stride, float* sums) {
  constexpr int kRows = RowsAtOnce(kXRows);
  constexpr int64_t kChunkBytes = int64_t{kPanelRows} * kChunk * Element::kBytes;
  for (int row = 0; row < kPanelRows; row += kRows) {
    Vec acc[kXRows * kRows];
    VERNIER_UNROLL for (int i = 0; i < kXRows * kRows; ++i) acc[i] = Zero();
    const uint8_t* codes = panel.codes + row * kChunk * Element::kBytes;
    for (int64_t k = 0; k < panel.padded_cols; k += kChunk, codes += kChunkBytes) {
      if constexpr (!kInCache<Element>) {
        PrefetchAhead<kXRows, 8 * Element::kBytes, kChunkBytes * kRows / kPanelRows>(codes);
      }
      VERNIER_UNROLL for (int s = 0; s < kChunk; s += kLanes) {
        Vec xv[kXRows];
        VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) xv[m] = Load(x + m * x_stride + k + s);
        VERNIER_UNROLL for (int r = 0; r < kRows; ++r) {
          const Vec w = Element::Get(codes + (r * kChunk + s) * Element::kBytes);
          VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
            acc[m * kRows + r] = Fma(w, xv[m], acc[m * kRows + r]);
          }
        }
      }
    }
    ReduceSums<kXRows, kRows>(acc, sums + row);
  }
}

template <class Element>
void DecodeElements(const Panel& panel, float* out) {
  const int64_t count = panel.padded_cols * kPanelRows;
  for (int64_t i = 0; i < count; i += kLanes) {
    Store(out + i, Element::Get(panel.codes + i * Element::kBytes));
  }
}

// ---- NF4 ----
//
// Two chunks of kNf4Chunk inputs make a pair: [row][16 words], nibble q of word l is input 32 q +
// l, nibble 4 + q input 32 q + 16 + l. A last chunk without a partner: [two rows][16 words],
// nibbles 4 (row % 2) + i of word l are input 16 i + l.

constexpr int64_t kNf4WordsBytes = 64;
constexpr int64_t kNf4PairBytes = kPanelRows * kNf4WordsBytes;
constexpr int kWordVectors = 16 / kLanes;

// Where a chunk lies: first or second of its pair, or alone.
enum class Nf4Place : uint8_t { kFirst, kSecond, kAlone };

inline Nf4Place PlaceOf(const Panel& panel, int64_t chunk) {
  if (chunk % 2 == 1) return Nf4Place::kSecond;
  return (chunk + 1) * kNf4Chunk == panel.padded_cols ? Nf4Place::kAlone : Nf4Place::kFirst;
}

inline int64_t Nf4CodeBytes(const Panel& panel) { return panel.padded_cols * kPanelRows / 2; }

// From the codes of a chunk's pair to the words of a row.
template <Nf4Place kPlace>
constexpr int64_t Nf4RowOffset(int row) {
  return (kPlace == Nf4Place::kAlone ? row / 2 : row) * kNf4WordsBytes;
}
// Bits below the code of input 16 i + l of a chunk in word l.
template <Nf4Place kPlace>
constexpr int Nf4Shift(int row, int i) {
  if (kPlace == Nf4Place::kAlone) return 4 * (row % 2 * 4 + i);
  return 4 * ((kPlace == Nf4Place::kSecond ? 2 : 0) + i / 2 + i % 2 * 4);
}

// absmax of the rows of a panel in one chunk: stored as fp32 behind the codes.
struct PlainScales {
  explicit PlainScales(const Panel& panel)
      : scales(reinterpret_cast<const float*>(panel.codes + Nf4CodeBytes(panel))) {}
  inline const float* Get(int64_t chunk) { return scales + chunk * kPanelRows; }
  const float* scales;
};

// The same as 8-bit indices into a map, times a second-level scale a 256 blocks, plus an offset.
// What Get returns is good for one more call.
struct NestedScales {
  explicit NestedScales(const Panel& p)
      : panel(p), codes(p.codes + Nf4CodeBytes(p)), row_blocks(p.padded_cols / kNf4Chunk) {}
  inline const float* Get(int64_t chunk) {
    const uint8_t* code = codes + chunk * kPanelRows;
    float* const out = values[chunk % 2];
    for (int r = 0; r < kPanelRows; ++r) {
      const int64_t block = (panel.first_row + r) * row_blocks + chunk;
      out[r] = panel.map[code[r]] * panel.scales[block >> 8] + panel.offset;
    }
    return out;
  }
  const Panel& panel;
  const uint8_t* codes;
  int64_t row_blocks;
  float values[2][kPanelRows];
};

inline void LoadRow(const uint8_t* codes, Words* words) {
  VERNIER_UNROLL for (int v = 0; v < kWordVectors; ++v) {
    words[v] = LoadWords(codes + v * kLanes * 4);
  }
}

// `codes` are those of the chunk's pair from the first of kRows rows on; the same for absmax.
template <Nf4Place kPlace, int kXRows, int kRows>
inline void AddNf4Chunk(const uint8_t* codes, const float* absmax, const float* x, int64_t x_stride,
                        Vec* acc) {
  VERNIER_UNROLL for (int r = 0; r < kRows; ++r) {
    const Table table = ScaledNf4(absmax[r]);
    Words words[kWordVectors];
    LoadRow(codes + Nf4RowOffset<kPlace>(r), words);
    VERNIER_UNROLL for (int i = 0; i < 4; ++i) {
      VERNIER_UNROLL for (int v = 0; v < kWordVectors; ++v) {
        const Vec w = Lookup(table, words[v], Nf4Shift<kPlace>(r, i));
        VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
          const Vec xv = Load(x + m * x_stride + 16 * i + v * kLanes);
          acc[m * kRows + r] = Fma(w, xv, acc[m * kRows + r]);
        }
      }
    }
  }
}

template <class Scales, int kXRows>
void DotNf4(const Panel& panel, const float* x, int64_t x_stride, float* sums) {
  constexpr int kRows = RowsAtOnce(kXRows);
  static_assert(kRows % 2 == 0);  // a chunk alone has two rows in a word
  const int64_t pairs = panel.padded_cols / (2 * kNf4Chunk);
  for (int row = 0; row < kPanelRows; row += kRows) {
    Vec acc[kXRows * kRows];
    VERNIER_UNROLL for (int i = 0; i < kXRows * kRows; ++i) acc[i] = Zero();
    Scales scales(panel);
    const uint8_t* codes = panel.codes;
    for (int64_t pair = 0; pair < pairs; ++pair, codes += kNf4PairBytes) {
      const float* xs = x + pair * 2 * kNf4Chunk;
      const uint8_t* words = codes + Nf4RowOffset<Nf4Place::kFirst>(row);
      PrefetchAhead<kXRows, 4, kNf4PairBytes * kRows / kPanelRows>(words);
      AddNf4Chunk<Nf4Place::kFirst, kXRows, kRows>(words, scales.Get(2 * pair) + row, xs, x_stride,
                                                   acc);
      AddNf4Chunk<Nf4Place::kSecond, kXRows, kRows>(words, scales.Get(2 * pair + 1) + row,
                                                    xs + kNf4Chunk, x_stride, acc);
    }
    if (pairs * 2 * kNf4Chunk < panel.padded_cols) {
      AddNf4Chunk<Nf4Place::kAlone, kXRows, kRows>(codes + Nf4RowOffset<Nf4Place::kAlone>(row),
                                                   scales.Get(2 * pairs) + row,
                                                   x + pairs * 2 * kNf4Chunk, x_stride, acc);
    }
    ReduceSums<kXRows, kRows>(acc, sums + row);
  }
}

// out[k] for the kNf4Chunk inputs of one row of a chunk.
template <Nf4Place kPlace>
inline void DecodeNf4Row(const uint8_t* codes, int row, Table table, float* out) {
  Words words[kWordVectors];
  LoadRow(codes + Nf4RowOffset<kPlace>(row), words);
  VERNIER_UNROLL for (int i = 0; i < 4; ++i) {
    // Alone, the row's parity chooses between two constants: a shift by a variable is slow.
    VERNIER_UNROLL for (int v = 0; v < kWordVectors; ++v) {
      const Vec w = kPlace == Nf4Place::kAlone && row % 2 == 1
                        ? Lookup(table, words[v], Nf4Shift<kPlace>(1, i))
                        : Lookup(table, words[v], Nf4Shift<kPlace>(0, i));
      Store(out + 16 * i + v * kLanes, w);
    }
  }
}

inline void DecodeNf4Row(const Panel& panel, int64_t chunk, int row, Table table, float* out) {
  const uint8_t* codes = panel.codes + chunk / 2 * kNf4PairBytes;
  switch (PlaceOf(panel, chunk)) {
    case Nf4Place::kFirst:
      return DecodeNf4Row<Nf4Place::kFirst>(codes, row, table, out);
    case Nf4Place::kSecond:
      return DecodeNf4Row<Nf4Place::kSecond>(codes, row, table, out);
    case Nf4Place::kAlone:
      return DecodeNf4Row<Nf4Place::kAlone>(codes, row, table, out);
  }
}

// Rows whose length is no multiple of 64: two blocks of the flattened weight can meet in a chunk,
// so the input at which the second begins is computed.
inline void DecodeStraddledRow(const Panel& panel, int64_t chunk, int row, float* out) {
  const int64_t first = (panel.first_row + row) * panel.cols + chunk * kNf4Chunk;
  const float* absmax = panel.scales + first / kNf4Chunk;
  const int boundary = kNf4Chunk - static_cast<int>(first % kNf4Chunk);
  alignas(64) float after[kNf4Chunk];
  DecodeNf4Row(panel, chunk, row, ScaledNf4(absmax[0]), out);
  DecodeNf4Row(panel, chunk, row, ScaledNf4(absmax[1]), after);
  for (int k = boundary; k < kNf4Chunk; ++k) out[k] = after[k];
}

// From one row of a chunk to its places in a panel of layout kF32.
inline void PlaceRow(const float* values, int64_t chunk, int row, float* out) {
  float* to = out + chunk * kNf4Chunk * kPanelRows + row * kChunk;
  for (int k = 0; k < kNf4Chunk; k += kLanes) {
    Store(to + k / kChunk * kPanelRows * kChunk + k % kChunk, Load(values + k));
  }
}

template <class Scales>
void DecodeNf4(const Panel& panel, float* out) {
  Scales scales(panel);
  const int64_t chunks = panel.padded_cols / kNf4Chunk;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const float* absmax = scales.Get(chunk);
    for (int row = 0; row < kPanelRows; ++row) {
      alignas(64) float values[kNf4Chunk];
      DecodeNf4Row(panel, chunk, row, ScaledNf4(absmax[row]), values);
      PlaceRow(values, chunk, row, out);
    }
  }
}

void DecodeNf4Straddled(const Panel& panel, float* out) {
  const int64_t chunks = panel.padded_cols / kNf4Chunk;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (int row = 0; row < kPanelRows; ++row) {
      alignas(64) float values[kNf4Chunk];
      DecodeStraddledRow(panel, chunk, row, values);
      PlaceRow(values, chunk, row, out);
    }
  }
}

static_assert(kMaxDotRows == 6);

// Decoded is what every pass would else convert with more than an instruction.
template <class Element>
constexpr DotKernels ElementKernels() {
  return {{DotElements<Element, 1>, DotElements<Element, 2>, DotElements<Element, 3>,
           DotElements<Element, 4>, DotElements<Element, 5>, DotElements<Element, 6>},
          kConverts || Element::kBytes == 4 ? nullptr : DecodeElements<Element>};
}

template <class Scales>
constexpr DotKernels Nf4Kernels() {
  return {{DotNf4<Scales, 1>, DotNf4<Scales, 2>, DotNf4<Scales, 3>, DotNf4<Scales, 4>,
           DotNf4<Scales, 5>, DotNf4<Scales, 6>},
          DecodeNf4<Scales>};
}

}  // namespace
}  // namespace vernier
