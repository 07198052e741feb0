// ConvertTable for AVX2 and F16C.
#include <immintrin.h>

#include "kernels/convert-inl.h"

namespace vernier {
namespace {

constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

void F16ToF32(const uint8_t* in, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 2 * i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(half));
  }
  for (; i < n; ++i) out[i] = _cvtsh_ss(Load16(in + 2 * i));
}

void F32ToF16(const float* in, int64_t n, uint8_t* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(in + i), kNearest);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i), half);
  }
  for (; i < n; ++i) Store16(_cvtss_sh(in[i], kNearest), out + 2 * i);
}

constexpr ConvertTable kTable = {"avx2", F16ToF32,  BF16ToF32, F32ToF16, F32ToBF16,
                                 AbsMax, AllWithin, Int8Codes, Nf4Codes};

}  // namespace

const ConvertTable& ConvertAvx2() { return kTable; }

}  // namespace vernier
