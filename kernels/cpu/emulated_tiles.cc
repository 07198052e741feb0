#include "kernels/cpu/emulated_tiles.h"

#include <immintrin.h>

#include <cstring>

#include "kernels/base/check.h"
#include "kernels/cpu/cpu_features.h"

// Vectors, so that sanitized tests do not take minutes; in these functions alone.
#define VERNIER_AVX512 __attribute__((target("avx512f")))

namespace vernier::emulated_tiles {
namespace {

constexpr int kTiles = 8, kMaxRows = 16, kMaxRowBytes = 64;
constexpr int kWordBytes = 4;  // of a sum, of a pair and of a four

struct Tile {
  alignas(kMaxRowBytes) uint8_t data[kMaxRows][kMaxRowBytes];  // 0 past rows and row_bytes
  int rows;                                                    // 0: not configured
  int row_bytes;
};
thread_local Tile tiles[kTiles];

Tile& Configured(int index) {
  VERNIER_CHECK(index >= 0 && index < kTiles);
  VERNIER_CHECK(tiles[index].rows > 0);
  return tiles[index];
}

// The operands of a product: `sum` [rows, words] += `a` [rows, words of b's rows] x `b`.
struct Operands {
  Tile& sum;
  const Tile& a;
  const Tile& b;

  Operands(int sum_index, int a_index, int b_index)
      : sum(Configured(sum_index)), a(Configured(a_index)), b(Configured(b_index)) {
    VERNIER_CHECK(&sum != &a && &sum != &b && &a != &b);
    VERNIER_CHECK(a.row_bytes % kWordBytes == 0 && b.row_bytes % kWordBytes == 0);
    VERNIER_CHECK(sum.rows == a.rows);
    VERNIER_CHECK(a.row_bytes / kWordBytes == b.rows);
    VERNIER_CHECK(sum.row_bytes == b.row_bytes);
  }
  __mmask16 Words() const {
    return static_cast<__mmask16>((1u << (sum.row_bytes / kWordBytes)) - 1);
  }
};

VERNIER_AVX512 inline __m512i WordOf(const uint8_t* row, int index) {
  int32_t word;
  std::memcpy(&word, row + index * kWordBytes, kWordBytes);
  return _mm512_set1_epi32(word);
}

// The bf16 in the lower and upper halves of words.
VERNIER_AVX512 inline __m512 Lower(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
VERNIER_AVX512 inline __m512 Upper(__m512i pairs) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}

// Two chains of fused multiply-adds from 0, over first and over second halves of pairs; their sum
// is added. Not inline: MXCSR is set around a call, not around what a compiler may move.
VERNIER_AVX512 __attribute__((noinline)) void AddPairsToRow(const Operands& of, int row) {
  const auto& [sum, a, b] = of;
  __m512 first = _mm512_setzero_ps(), second = _mm512_setzero_ps();
  for (int k = 0; k < b.rows; ++k) {
    const __m512i a_pair = WordOf(a.data[row], k), b_pairs = _mm512_load_si512(b.data[k]);
    first = _mm512_fmadd_ps(Lower(a_pair), Lower(b_pairs), first);
    second = _mm512_fmadd_ps(Upper(a_pair), Upper(b_pairs), second);
  }
  const __m512 total = _mm512_add_ps(_mm512_load_ps(sum.data[row]), _mm512_add_ps(first, second));
  _mm512_store_ps(sum.data[row], _mm512_maskz_mov_ps(of.Words(), total));
}

// Products of bytes as products of the words whose upper bytes they are, shifted down.
VERNIER_AVX512 void AddFoursToRow(const Operands& of, int row) {
  const auto& [sum, a, b] = of;
  __m512i total = _mm512_load_si512(sum.data[row]);
  for (int k = 0; k < b.rows; ++k) {
    __m512i a_four = WordOf(a.data[row], k), b_fours = _mm512_load_si512(b.data[k]);
    for (int i = 0; i < kWordBytes; ++i) {
      const __m512i product =
          _mm512_mullo_epi32(_mm512_srai_epi32(a_four, 24), _mm512_srai_epi32(b_fours, 24));
      total = _mm512_add_epi32(total, product);
      a_four = _mm512_slli_epi32(a_four, 8);
      b_fours = _mm512_slli_epi32(b_fours, 8);
    }
  }
  _mm512_store_si512(sum.data[row], _mm512_maskz_mov_epi32(of.Words(), total));
}

}  // namespace

bool Enabled() { return CpuEmulates(CpuIsa::kAmx); }

void Configure(const TileConfig& config) {
  VERNIER_CHECK(config.palette <= 1);
  if (config.palette == 0) return Release();
  VERNIER_CHECK(config.start_row == 0);  // of an interrupted load, which there is none of
  for (const uint8_t byte : config.reserved) VERNIER_CHECK(byte == 0);
  for (int i = 0; i < 16; ++i) {
    VERNIER_CHECK(config.rows[i] <= (i < kTiles ? kMaxRows : 0));
    VERNIER_CHECK(config.row_bytes[i] <= (i < kTiles ? kMaxRowBytes : 0));
    VERNIER_CHECK((config.rows[i] == 0) == (config.row_bytes[i] == 0));
  }
  for (int i = 0; i < kTiles; ++i) {
    tiles[i] = {.data = {}, .rows = config.rows[i], .row_bytes = config.row_bytes[i]};
  }
}

void Release() {
  for (Tile& tile : tiles) tile = {};
}

void Load(int tile, const void* from, int64_t stride_bytes) {
  Zero(tile);
  Tile& to = Configured(tile);
  for (int row = 0; row < to.rows; ++row) {
    std::memcpy(to.data[row], static_cast<const uint8_t*>(from) + row * stride_bytes, to.row_bytes);
  }
}

void Store(int tile, void* to, int64_t stride_bytes) {
  const Tile& from = Configured(tile);
  for (int row = 0; row < from.rows; ++row) {
    std::memcpy(static_cast<uint8_t*>(to) + row * stride_bytes, from.data[row], from.row_bytes);
  }
}

void Zero(int tile) { std::memset(Configured(tile).data, 0, sizeof(Tile::data)); }

void AddPairs(int sum, int a, int b) {
  // To nearest even, subnormals read and written as 0, no exceptions: whatever MXCSR says.
  constexpr unsigned kOwnControl = 0x9fc0;
  const Operands operands(sum, a, b);
  const unsigned before = _mm_getcsr();
  _mm_setcsr(kOwnControl);
  for (int row = 0; row < operands.sum.rows; ++row) AddPairsToRow(operands, row);
  _mm_setcsr(before);
}

void AddFours(int sum, int a, int b) {
  const Operands operands(sum, a, b);
  for (int row = 0; row < operands.sum.rows; ++row) AddFoursToRow(operands, row);
}

}  // namespace vernier::emulated_tiles
