// The kernels of AVX-512 with those of BF16: products of rows of x in bf16 with bf16 weights.
// Compiled with its own flags: includes nothing but intrinsics and the table.
#include "kernels/cpu/avx512-inl.h"

namespace vernier {
namespace {

// A vector holds kChunk inputs of two of a panel's rows, one beside the other.
constexpr int kRowPairs = kPanelRows / 2;

inline __m512bh LoadRowPair(const uint8_t* codes) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(codes));
}
// kChunk inputs of a row of x, twice.
inline __m512bh LoadTwice(const uint16_t* x) {
  const __m256i once = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return reinterpret_cast<__m512bh>(_mm512_broadcast_i64x4(once));
}

// What is left of a panel's sums for one row of x when lanes l and l + 4, then l and l + 2 of each
// eight are added: quarter q has two lanes of row q, then two of row 4 + q.
inline __m512 AddLanes(const __m512* acc) {
  const __m512 low = MeetQuarters<Add>({acc[0]}, {acc[1]}).v;
  const __m512 high = MeetQuarters<Add>({acc[2]}, {acc[3]}).v;
  return _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xee));
}

// The panel's sums for two rows of x, one after the other.
inline __m512 AddPairsOf(__m512 first, __m512 second) {
  const __m512 sums =
      _mm512_add_ps(_mm512_shuffle_ps(first, second, 0x88), _mm512_shuffle_ps(first, second, 0xdd));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_ps(order, sums);
}

// Bytes ahead that are asked for. One row of x, which memory bounds: 3 to 5 % of SmolLM2's decode
// on Zen 4; into the first cache, or from 8 KB ahead, hints made it up to a fifth slower. Five rows
// or more read too slowly for the processor to foresee enough: up to twice as fast (3 and 4 rows up
// to a quarter slower).
constexpr int64_t AheadOf(int x_rows) { return x_rows == 1 ? 4096 : x_rows >= 5 ? 16384 : 0; }

// For six rows of x 24 sums, four vectors of weights and one of x: one product a cycle, where a
// product's latency is at most 24.
template <int kXRows>
void DotRounded(const Panel& panel, const uint16_t* x, int64_t x_stride, float* sums) {
  __m512 acc[kXRows][kRowPairs];
  VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
    VERNIER_UNROLL for (int r = 0; r < kRowPairs; ++r) acc[m][r] = _mm512_setzero_ps();
  }
  const uint8_t* codes = panel.codes;
  for (int64_t k = 0; k < panel.padded_cols; k += kChunk, codes += kRowPairs * 64) {
    __m512bh w[kRowPairs];
    VERNIER_UNROLL for (int r = 0; r < kRowPairs; ++r) {
      AskFor<AheadOf(kXRows)>(codes + r * 64);
      w[r] = LoadRowPair(codes + r * 64);
    }
    VERNIER_UNROLL for (int m = 0; m < kXRows; ++m) {
      const __m512bh xv = LoadTwice(x + m * x_stride + k);
      VERNIER_UNROLL for (int r = 0; r < kRowPairs; ++r) {
        acc[m][r] = _mm512_dpbf16_ps(acc[m][r], w[r], xv);
      }
    }
  }
  VERNIER_UNROLL for (int m = 0; m < kXRows; m += 2) {
    const __m512 first = AddLanes(acc[m]);
    if (m + 1 < kXRows) {
      _mm512_storeu_ps(sums + m * kPanelRows,
                       AddPairsOf(first, AddLanes(acc[m + 1 < kXRows ? m + 1 : m])));
    } else {
      _mm256_storeu_ps(sums + m * kPanelRows, _mm512_castps512_ps256(AddPairsOf(first, first)));
    }
  }
}

void RoundRow(const float* x, int64_t n, uint16_t* out) {
  for (int64_t k = 0; k < n; k += 2 * kLanes) {
    const __m512bh both =
        _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + k + kLanes), _mm512_loadu_ps(x + k));
    _mm512_storeu_si512(out + k, reinterpret_cast<__m512i>(both));
  }
}

static_assert(kMaxDotRows == 6);
constexpr RoundedKernels kRoundedKernels = {
    {DotRounded<1>, DotRounded<2>, DotRounded<3>, DotRounded<4>, DotRounded<5>, DotRounded<6>},
    RoundRow,
};

KernelTable WithRounded(KernelTable table) {
  table.rounded = &kRoundedKernels;
  return table;
}

}  // namespace

const KernelTable& Avx512Bf16Kernels() {
  static const KernelTable kKernels = WithRounded(Avx512Kernels());
  return kKernels;
}

}  // namespace vernier
