// The kernels of AMX with bf16 tiles: AVX-512's, with products by the matrix unit. Compiled with
// its own flags: includes nothing but intrinsics and the table.
#include "kernels/cpu/avx512-inl.h"
#include "kernels/cpu/row-inl.h"

namespace vernier {
namespace {

// ---- Tile instructions ----
//
// Written out, because GCC 12's intrinsics tell the compiler neither that a load reads memory nor
// that the configuration has 64 bytes: it drops stores before them.

#define VERNIER_TILE_LOAD(tile, from) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile::"r"(from), "r"(kTileRowBytes) : "memory")
#define VERNIER_TILE_STORE(to, tile)                                                    \
  __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"(kTileRowBytes) \
                   : "memor"                                                            \
                     "y")
#define VERNIER_TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::)
#define VERNIER_TILE_ADD_PRODUCT(sum, a, b) \
  __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::)

constexpr int64_t kTileRowBytes = 64;

struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Eight tiles of 16 rows of 64 bytes.
void BeginTiles() {
  alignas(64) TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = kTileRowBytes;
    config.rows[tile] = kTileRows;
  }
  __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
}

void EndTiles() { __asm__ volatile("tilerelease" ::); }

// ---- Rows of x ----

// Rows become columns: 16 vectors of 16 words of 32 bits.
inline void Transpose(__m512i* r) {
  __m512i t[16];
  VERNIER_UNROLL for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  VERNIER_UNROLL for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  VERNIER_UNROLL for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  VERNIER_UNROLL for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// Words of 16 bits in the order of a tile's row: the pair that a product adds is (k, k + 16).
inline __m512i Pairs(__m512i in_order) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                      21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), in_order);
}
// The upper halves of 16 words each, as such pairs.
inline __m512i UpperPairs(__m512 low, __m512 high) {
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(_mm512_castps_si512(low), 16),
                                 _mm512_castps_si512(high));
}
// bf16 of 32 floats, to the nearest, in order.
inline __m512i ToBF16(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// The two parts of 32 inputs, as pairs. The first is the bf16 nearest (ties away from 0): half of
// its last place is added before the lower bits are cut off. The second likewise.
inline void Split(__m512 low, __m512 high, __m512i* parts) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  // A NaN becomes the default one: rounding would carry another's bits over into a zero.
  const __m512i nan = _mm512_set1_epi32(0x33);  // of quiet and signalling ones, the rest is kept
  low = _mm512_fixupimm_ps(low, low, nan, 0);
  high = _mm512_fixupimm_ps(high, high, nan, 0);
  const auto rounded = [&](__m512 x) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), half));
  };
  const auto rest = [&](__m512 x, __m512 up) {
    return _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(up), upper)));
  };
  const __m512 a = rounded(low), b = rounded(high);
  parts[0] = UpperPairs(a, b);
  parts[1] = UpperPairs(rounded(rest(low, a)), rounded(rest(high, b)));
}

// Up to this many rows are placed word by word.
constexpr int kFewRows = 4;

void SplitFewRows(const float* x, int64_t stride, int rows, int64_t cols, uint16_t* const* parts) {
  for (int row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < cols; k += kTileCols) {
      const float* from = x + row * stride + k;
      __m512i both[kTileParts];
      Split(Load(from).v, Load(from + 16).v, both);
      for (int part = 0; part < kTileParts; ++part) {
        alignas(64) uint32_t pairs[16];
        _mm512_store_si512(pairs, both[part]);
        auto* tile = reinterpret_cast<uint32_t*>(parts[part] + k * kTileRows);
        for (int pair = 0; pair < 16; ++pair) tile[pair * kTileRows + row] = pairs[pair];
      }
    }
  }
}

void SplitRows(const float* x, int64_t stride, int rows, int64_t cols, uint16_t* const* parts) {
  if (rows <= kFewRows) return SplitFewRows(x, stride, rows, cols, parts);
  for (int64_t k = 0; k < cols; k += kTileCols) {
    __m512i low[kTileRows], high[kTileRows];
    VERNIER_UNROLL for (int row = 0; row < kTileRows; ++row) {
      // Rows that are not there repeat the last: their sums are never stored.
      const float* from = x + (row < rows ? row : rows - 1) * stride + k;
      low[row] = _mm512_loadu_si512(from);
    }
    Transpose(low);
    VERNIER_UNROLL for (int row = 0; row < kTileRows; ++row) {
      const float* from = x + (row < rows ? row : rows - 1) * stride + k + 16;
      high[row] = _mm512_loadu_si512(from);
    }
    Transpose(high);
    VERNIER_UNROLL for (int pair = 0; pair < 16; ++pair) {
      __m512i both[kTileParts];
      Split(_mm512_castsi512_ps(low[pair]), _mm512_castsi512_ps(high[pair]), both);
      VERNIER_UNROLL for (int part = 0; part < kTileParts; ++part) {
        _mm512_storeu_si512(parts[part] + k * kTileRows + pair * kTileCols, both[part]);
      }
    }
  }
}

// ---- Decoding ----
//
// A panel's row r of one step is a row of a tile; the next step lies behind the tiles of all parts.

constexpr int64_t kTilesOfStep = kTileOutputs / kTileRows;

template <int kParts>
constexpr int64_t StepSize() {
  return kParts * kTilesOfStep * kTileSize;
}

// Bytes ahead of the one being decoded that are asked for.
constexpr int64_t kDecodePrefetch = 2048;
constexpr int kToSecondCache = 2;  // the first is full of tiles

struct TileBF16 {
  static constexpr int kParts = 1;
  static constexpr int kBytes = 2;
  static inline void Get(const uint8_t* low, const uint8_t* high, __m512i* parts) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high));
    parts[0] = Pairs(_mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
  }
};

// Codes to 127 are exact in bf16.
struct TileInt8 {
  static constexpr int kParts = 1;
  static constexpr int kBytes = 1;
  static inline void Get(const uint8_t* low, const uint8_t* high, __m512i* parts) {
    parts[0] = UpperPairs(LoadInt8(low).v, LoadInt8(high).v);
  }
};

// The upper 16 bits of an fp32 hold 7 bits of its fraction; what they leave is exact. An fp16 has
// 10, an fp32 23.
template <int kParts>
inline void SplitExactly(__m512 a, __m512 b, __m512i* parts) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  VERNIER_UNROLL for (int part = 0; part < kParts; ++part) {
    parts[part] = UpperPairs(a, b);
    a = _mm512_sub_ps(a, _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), upper)));
    b = _mm512_sub_ps(b, _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(b), upper)));
  }
}

struct TileF32 {
  static constexpr int kParts = 3;
  static constexpr int kBytes = 4;
  static inline void Get(const uint8_t* low, const uint8_t* high, __m512i* parts) {
    SplitExactly<kParts>(Load(reinterpret_cast<const float*>(low)).v,
                         Load(reinterpret_cast<const float*>(high)).v, parts);
  }
};

struct TileF16 {
  static constexpr int kParts = 2;
  static constexpr int kBytes = 2;
  static inline void Get(const uint8_t* low, const uint8_t* high, __m512i* parts) {
    SplitExactly<kParts>(LoadF16(low).v, LoadF16(high).v, parts);
  }
};

template <class Element>
void DecodeTiles(const Panel& panel, int64_t first_col, int64_t cols, uint16_t* tiles) {
  constexpr int64_t kChunkBytes = int64_t{kPanelRows} * kChunk * Element::kBytes;
  const uint8_t* codes = panel.codes + first_col / kChunk * kChunkBytes;
  for (int64_t k = 0; k < cols; k += kTileCols, codes += 2 * kChunkBytes) {
    for (int64_t i = 0; i < 2 * kChunkBytes; i += 64) {
      __builtin_prefetch(codes + kDecodePrefetch + i, 0, kToSecondCache);
    }
    VERNIER_UNROLL for (int r = 0; r < kPanelRows; ++r) {
      const uint8_t* from = codes + r * kChunk * Element::kBytes;
      __m512i parts[Element::kParts];
      Element::Get(from, from + kChunkBytes, parts);
      VERNIER_UNROLL for (int part = 0; part < Element::kParts; ++part) {
        _mm512_storeu_si512(tiles + (part * kTilesOfStep * kTileRows + r) * kTileCols, parts[part]);
      }
    }
    tiles += StepSize<Element::kParts>();
  }
}

using U16x32 = uint16_t __attribute__((vector_size(64), may_alias));

inline __m512i ShiftedWords(__m512i words, int bits) {
  const U16x32 shifted = reinterpret_cast<U16x32>(words) >> static_cast<uint16_t>(bits);
  return reinterpret_cast<__m512i>(shifted);
}

// The scaled values of two blocks, rounded to bf16: of 32 entries each 16.
inline __m512i Nf4Table(float low, float high) {
  const __m512 values = _mm512_loadu_ps(kNf4Values);
  return ToBF16(_mm512_mul_ps(values, _mm512_set1_ps(low)),
                _mm512_mul_ps(values, _mm512_set1_ps(high)));
}

// A pair of chunks is four steps: the words of 16 bits of a row, shifted by a nibble a step, index
// its values. VPERMW looks at the low five bits, and a table holds its 16 values twice.
template <class Scales>
void DecodeNf4Tiles(const Panel& panel, int64_t first_col, int64_t cols, uint16_t* tiles) {
  constexpr int64_t kPair = 2 * kNf4Chunk;
  Scales scales(panel);
  const int64_t first = first_col / kPair, last = first + cols / kPair;
  const uint8_t* codes = panel.codes + first * kNf4PairBytes;
  for (int64_t pair = first; pair < last; ++pair, codes += kNf4PairBytes) {
    const float* absmax = scales.Get(2 * pair);
    const float* absmax_of_second = scales.Get(2 * pair + 1);
    for (int64_t i = 0; i < kNf4PairBytes; i += 64) {
      __builtin_prefetch(codes + kDecodePrefetch + i, 0, kToSecondCache);
    }
    VERNIER_UNROLL for (int r = 0; r < kPanelRows; ++r) {
      const __m512i words = _mm512_loadu_si512(codes + Nf4RowOffset<Nf4Place::kFirst>(r));
      const __m512i tables[2] = {Nf4Table(absmax[r], absmax[r]),
                                 Nf4Table(absmax_of_second[r], absmax_of_second[r])};
      VERNIER_UNROLL for (int step = 0; step < 4; ++step) {
        _mm512_storeu_si512(
            tiles + step * StepSize<1>() + r * kTileCols,
            _mm512_permutexvar_epi16(ShiftedWords(words, 4 * step), tables[step / 2]));
      }
    }
    tiles += 4 * StepSize<1>();
  }
  if (cols % kPair == 0) return;
  // The last chunk, alone: two rows side by side. A bit above each nibble says which half of the
  // table is its row's.
  const __m512i nibble = _mm512_set1_epi16(15);
  const __m512i second_row = _mm512_set1_epi32(16 << 16);
  const float* absmax = scales.Get(2 * last);
  for (int r = 0; r < kPanelRows; r += 2) {
    const __m512i words = _mm512_loadu_si512(codes + Nf4RowOffset<Nf4Place::kAlone>(r));
    const __m512i table = Nf4Table(absmax[r], absmax[r + 1]);
    __m512 w[4];  // inputs 16 i + l of row r in the lower half of word l, of r + 1 in the upper
    VERNIER_UNROLL for (int i = 0; i < 4; ++i) {
      // shifted & nibble | second_row
      const __m512i index =
          _mm512_ternarylogic_epi32(ShiftedWords(words, 4 * i), nibble, second_row, 0xea);
      w[i] = _mm512_castsi512_ps(_mm512_permutexvar_epi16(index, table));
    }
    for (int step = 0; step < 2; ++step) {
      uint16_t* to = tiles + step * StepSize<1>() + r * kTileCols;
      const __m512i low = _mm512_castps_si512(w[2 * step]);
      const __m512i high = _mm512_castps_si512(w[2 * step + 1]);
      _mm512_storeu_si512(to,
                          _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16)));
      _mm512_storeu_si512(to + kTileCols, UpperPairs(w[2 * step], w[2 * step + 1]));
    }
  }
}

void DecodeStraddledTiles(const Panel& panel, int64_t first_col, int64_t cols, uint16_t* tiles) {
  for (int64_t k = 0; k < cols; k += kNf4Chunk, tiles += 2 * StepSize<1>()) {
    for (int r = 0; r < kPanelRows; ++r) {
      alignas(64) float values[kNf4Chunk];
      DecodeStraddledRow(panel, (first_col + k) / kNf4Chunk, r, values);
      for (int step = 0; step < 2; ++step) {
        const float* from = values + step * kTileCols;
        _mm512_storeu_si512(tiles + step * StepSize<1>() + r * kTileCols,
                            Pairs(ToBF16(_mm512_load_ps(from), _mm512_load_ps(from + 16))));
      }
    }
  }
}

// ---- Products ----
//
// Tiles 0 to 3 are sums: 0 and 1 of the first group of x with each of the two tiles of weights, 2
// and 3 of the second. 4 and 5 are weights, 6 and 7 x of either group.

// Loads one part of x into each group's tile and adds its products with the weights in 4 and 5.
template <int kGroups>
inline void AddPart(const uint16_t* x, int64_t x_group) {
  VERNIER_TILE_LOAD(6, x);
  VERNIER_TILE_ADD_PRODUCT(0, 4, 6);
  VERNIER_TILE_ADD_PRODUCT(1, 5, 6);
  if constexpr (kGroups == 2) {
    VERNIER_TILE_LOAD(7, x + x_group);
    VERNIER_TILE_ADD_PRODUCT(2, 4, 7);
    VERNIER_TILE_ADD_PRODUCT(3, 5, 7);
  }
}

template <int kWeightParts, int kGroups>
inline void MultiplySteps(const TileKernels::Product& p) {
  const uint16_t* w = p.w;
  for (int64_t step = 0; step < p.steps; ++step, w += StepSize<kWeightParts>()) {
    VERNIER_UNROLL for (int part = 0; part < kWeightParts; ++part) {
      VERNIER_TILE_LOAD(4, w + (part * kTilesOfStep) * kTileSize);
      VERNIER_TILE_LOAD(5, w + (part * kTilesOfStep + 1) * kTileSize);
      AddPart<kGroups>(p.x[0] + step * kTileSize, p.x_group);
      if (part == 0) AddPart<kGroups>(p.x[1] + step * kTileSize, p.x_group);
    }
  }
}

constexpr int64_t kSumsSize = kTileRows * kTileRows;  // floats of one tile of sums

template <int kWeightParts>
void MultiplyTiles(const TileKernels::Product& p) {
  if (p.zero) {
    VERNIER_TILE_ZERO(0);
    VERNIER_TILE_ZERO(1);
    VERNIER_TILE_ZERO(2);
    VERNIER_TILE_ZERO(3);
  }
  if (p.load) {
    VERNIER_TILE_LOAD(0, p.sums);
    VERNIER_TILE_LOAD(1, p.sums + kSumsSize);
    if (p.groups == 2) {
      VERNIER_TILE_LOAD(2, p.sums + 2 * kSumsSize);
      VERNIER_TILE_LOAD(3, p.sums + 3 * kSumsSize);
    }
  }
  if (p.groups == 2) {
    MultiplySteps<kWeightParts, 2>(p);
  } else {
    MultiplySteps<kWeightParts, 1>(p);
  }
  if (!p.store) return;
  VERNIER_TILE_STORE(p.sums, 0);
  VERNIER_TILE_STORE(p.sums + kSumsSize, 1);
  if (p.groups == 1) return;
  VERNIER_TILE_STORE(p.sums + 2 * kSumsSize, 2);
  VERNIER_TILE_STORE(p.sums + 3 * kSumsSize, 3);
}

void FinishSums(float* sums, int outputs, const float* scales, const float* biases) {
  for (int w = 0; w < outputs; ++w, sums += kTileRows) {
    __m512 y = _mm512_loadu_ps(sums);
    if (scales != nullptr) y = _mm512_mul_ps(y, _mm512_set1_ps(scales[w]));
    if (biases != nullptr) y = _mm512_add_ps(y, _mm512_set1_ps(biases[w]));
    _mm512_storeu_ps(sums, y);
  }
}

void StoreSums(const float* sums, int outputs, int rows, bool add, float* out, int64_t stride) {
  __m512i t[kTileRows];
  VERNIER_UNROLL for (int w = 0; w < kTileRows; ++w) {
    t[w] = _mm512_loadu_si512(sums + w * kTileRows);
  }
  Transpose(t);
  alignas(64) float columns[kTileRows][kTileRows];
  VERNIER_UNROLL for (int row = 0; row < kTileRows; ++row) {
    _mm512_store_si512(columns[row], t[row]);
  }
  const __mmask16 valid = static_cast<__mmask16>((1u << outputs) - 1);
  for (int row = 0; row < rows; ++row) {
    float* to = out + row * stride;
    __m512 y = _mm512_load_ps(columns[row]);
    if (add) y = _mm512_add_ps(_mm512_maskz_loadu_ps(valid, to), y);
    _mm512_mask_storeu_ps(to, valid, y);
  }
}

constexpr TileKernels kTileKernels = {
    {TileF32::kParts, TileF16::kParts, TileBF16::kParts, TileInt8::kParts, 1, 1, 1},
    {DecodeTiles<TileF32>, DecodeTiles<TileF16>, DecodeTiles<TileBF16>, DecodeTiles<TileInt8>,
     DecodeNf4Tiles<PlainScales>, DecodeNf4Tiles<NestedScales>, DecodeStraddledTiles},
    SplitRows,
    BeginTiles,
    EndTiles,
    {MultiplyTiles<1>, MultiplyTiles<2>, MultiplyTiles<3>},
    FinishSums,
    StoreSums,
};

}  // namespace

const KernelTable& AmxKernels() {
  static constexpr KernelTable kKernels = MakeKernelTable(&kTileKernels);
  return kKernels;
}

}  // namespace vernier
