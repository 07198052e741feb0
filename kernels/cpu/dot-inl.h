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
    Reduce8(eight, out);
    VERNIER_UNROLL for (int i = 0; i < 8; ++i) {
      const int sum = first + i;
      if (sum < kSums) sums[sum / kRows * kPanelRows + sum % kRows] = out[i];
    }
  }
}

// One row of x is the memory-bound case: ask for the bytes that follow, two KB ahead. A thread's
// panels lie one after the other, and a hint past their end does nothing.
template <int kXRows, int64_t kBytes>
inline void PrefetchAhead(const uint8_t* codes) {
  if constexpr (kXRows == 1) {
    for (int64_t i = 0; i < kBytes; i += 64) __builtin_prefetch(codes + 2048 + i);
  }
}

// ---- Layouts of one element after the other: [chunk][row][kChunk] ----

struct ElementF32 {
  static constexpr int kBytes = 4;
  static inline Vec Get(const uint8_t* p) { return Load(reinterpret_cast<const float*>(p)); }
};
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
      PrefetchAhead<kXRows, kChunkBytes>(codes);
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

// ---- NF4: [chunk][pair of rows][16 words], word l nibble 4 * (row & 1) + i is input 16 i + l ----

constexpr int64_t kNf4ChunkBytes = kPanelRows * kNf4Chunk / 2;
constexpr int kWordVectors = 16 / kLanes;

inline int64_t Nf4CodeBytes(const Panel& panel) {
  return panel.padded_cols / kNf4Chunk * kNf4ChunkBytes;
}

// absmax of the rows of a panel in one chunk: stored as fp32 behind the codes.
struct PlainScales {
  explicit PlainScales(const Panel& panel)
      : scales(reinterpret_cast<const float*>(panel.codes + Nf4CodeBytes(panel))) {}
  inline const float* Get(int64_t chunk) { return scales + chunk * kPanelRows; }
  const float* scales;
};

// The same as 8-bit indices into a map, times a second-level scale a 256 blocks, plus an offset.
struct NestedScales {
  explicit NestedScales(const Panel& p)
      : panel(p), codes(p.codes + Nf4CodeBytes(p)), row_blocks(p.padded_cols / kNf4Chunk) {}
  inline const float* Get(int64_t chunk) {
    const uint8_t* code = codes + chunk * kPanelRows;
    for (int r = 0; r < kPanelRows; ++r) {
      const int64_t block = (panel.first_row + r) * row_blocks + chunk;
      values[r] = panel.map[code[r]] * panel.scales[block >> 8] + panel.offset;
    }
    return values;
  }
  const Panel& panel;
  const uint8_t* codes;
  int64_t row_blocks;
  float values[kPanelRows];
};

template <class Scales, int kXRows>
void DotNf4(const Panel& panel, const float* x, int64_t x_stride, float* sums) {
  constexpr int kRows = RowsAtOnce(kXRows);
  for (int row = 0; row < kPanelRows; row += kRows) {
    Vec acc[kXRows * kRows];
    VERNIER_UNROLL for (int i = 0; i < kXRows * kRows; ++i) acc[i] = Zero();
    Scales scales(panel);
    const uint8_t* codes = panel.codes + row / 2 * 64;
    const int64_t chunks = panel.padded_cols / kNf4Chunk;
    for (int64_t chunk = 0; chunk < chunks; ++chunk, codes += kNf4ChunkBytes) {
      const float* absmax = scales.Get(chunk) + row;
      const float* xs = x + chunk * kNf4Chunk;
      PrefetchAhead<kXRows, kNf4ChunkBytes>(codes);
      VERNIER_UNROLL for (int r = 0; r < kRows; ++r) {
        const Table table = ScaledNf4(absmax[r]);
        VERNIER_UNROLL for (int i = 0; i < 4; ++i) {
          VERNIER_UNROLL for (int v = 0; v < kWordVectors; ++v) {
            const Words words = LoadWords(codes + r / 2 * 64 + v * kLanes * 4);
            const Vec w = Lookup(table, words, 4 * ((r & 1) * 4 + i));
            VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
              const Vec xv = Load(xs + m * x_stride + 16 * i + v * kLanes);
              acc[m * kRows + r] = Fma(w, xv, acc[m * kRows + r]);
            }
          }
        }
      }
    }
    ReduceSums<kXRows, kRows>(acc, sums + row);
  }
}

template <class Scales>
void DecodeNf4(const Panel& panel, float* out) {
  Scales scales(panel);
  const uint8_t* codes = panel.codes;
  const int64_t chunks = panel.padded_cols / kNf4Chunk;
  for (int64_t chunk = 0; chunk < chunks; ++chunk, codes += kNf4ChunkBytes) {
    const float* absmax = scales.Get(chunk);
    float* to = out + chunk * kNf4Chunk * kPanelRows;
    for (int r = 0; r < kPanelRows; ++r) {
      const Table table = ScaledNf4(absmax[r]);
      VERNIER_UNROLL for (int i = 0; i < 4; ++i) {
        VERNIER_UNROLL for (int v = 0; v < kWordVectors; ++v) {
          const Words words = LoadWords(codes + r / 2 * 64 + v * kLanes * 4);
          Store(to + (i * kPanelRows + r) * kChunk + v * kLanes,
                Lookup(table, words, 4 * ((r & 1) * 4 + i)));
        }
      }
    }
  }
}

// Rows whose length is no multiple of 64: two blocks of the flattened weight can meet in a chunk,
// so the input at which the second begins is computed.
void DecodeNf4Straddled(const Panel& panel, float* out) {
  const uint8_t* codes = panel.codes;
  const int64_t chunks = panel.padded_cols / kNf4Chunk;
  for (int64_t chunk = 0; chunk < chunks; ++chunk, codes += kNf4ChunkBytes) {
    float* to = out + chunk * kNf4Chunk * kPanelRows;
    for (int r = 0; r < kPanelRows; ++r) {
      const int64_t first = (panel.first_row + r) * panel.cols + chunk * kNf4Chunk;
      const float* absmax = panel.scales + first / kNf4Chunk;
      const int boundary = kNf4Chunk - static_cast<int>(first % kNf4Chunk);
      alignas(64) float low[kNf4Chunk], high[kNf4Chunk];
      const Table before = ScaledNf4(absmax[0]);
      const Table after = ScaledNf4(absmax[1]);
      for (int i = 0; i < 4; ++i) {
        for (int v = 0; v < kWordVectors; ++v) {
          const Words words = LoadWords(codes + r / 2 * 64 + v * kLanes * 4);
          const int shift = 4 * ((r & 1) * 4 + i);
          Store(low + 16 * i + v * kLanes, Lookup(before, words, shift));
          Store(high + 16 * i + v * kLanes, Lookup(after, words, shift));
        }
      }
      for (int k = 0; k < kNf4Chunk; ++k) {
        to[(k / kChunk * kPanelRows + r) * kChunk + k % kChunk] = k < boundary ? low[k] : high[k];
      }
    }
  }
}

static_assert(kMaxDotRows == 6);

template <class Element>
constexpr DotKernels ElementKernels(DotKernels::Decode decode) {
  return {{DotElements<Element, 1>, DotElements<Element, 2>, DotElements<Element, 3>,
           DotElements<Element, 4>, DotElements<Element, 5>, DotElements<Element, 6>},
          decode};
}

template <class Scales>
constexpr DotKernels Nf4Kernels() {
  return {{DotNf4<Scales, 1>, DotNf4<Scales, 2>, DotNf4<Scales, 3>, DotNf4<Scales, 4>,
           DotNf4<Scales, 5>, DotNf4<Scales, 6>},
          DecodeNf4<Scales>};
}

}  // namespace
}  // namespace vernier
