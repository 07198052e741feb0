// ConvertTable for AVX-512 (F, BW, DQ, VL).
#include <immintrin.h>

#include "kernels/convert-inl.h"

namespace vernier {
namespace {

constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

void F16ToF32(const uint8_t* in, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + 2 * i));
    _mm512_storeu_ps(out + i, _mm512_cvtph_ps(half));
  }
  for (; i < n; ++i) out[i] = _cvtsh_ss(Load16(in + 2 * i));
}

void F32ToF16(const float* in, int64_t n, uint8_t* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i half = _mm512_cvtps_ph(_mm512_loadu_ps(in + i), kNearest);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * i), half);
  }
  for (; i < n; ++i) Store16(_cvtss_sh(in[i], kNearest), out + 2 * i);
}

constexpr ConvertTable kTable = {"avx512", F16ToF32,  BF16ToF32, F32ToF16, F32ToBF16,
                                 AbsMax,   AllWithin, Int8Codes, Nf4Codes};

}  // namespace

const ConvertTable& ConvertAvx512() { return kTable; }

}  // namespace vernier
