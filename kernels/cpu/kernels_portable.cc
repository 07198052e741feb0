// The kernels in plain C++, for every processor: vectors of four by the compilers' own extension,
// products and sums rounded one by one.
#include <math.h>
#include <string.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/unroll.h"
#include "kernels/nf4_values.h"
#include "kernels/tensor.h"

namespace vernier {
namespace {

constexpr int kLanes = 4;
constexpr int kRegisters = 16;
constexpr bool kConverts = false;  // small elements to a Vec by one instruction

using Vec = float __attribute__((vector_size(16)));
using Mask = int32_t __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));  // 4 words of 8 NF4 codes
struct Table {
  float values[16];
};

inline Vec Zero() { return Vec{}; }
inline Vec Set1(float x) { return Vec{x, x, x, x}; }
inline Vec Load(const float* p) {
  Vec v;
  memcpy(&v, p, sizeof(v));
  return v;
}
inline void Store(float* p, Vec a) { memcpy(p, &a, sizeof(a)); }
inline Vec Add(Vec a, Vec b) { return a + b; }
inline Vec Sub(Vec a, Vec b) { return a - b; }
inline Vec Mul(Vec a, Vec b) { return a * b; }
inline Vec Div(Vec a, Vec b) { return a / b; }
inline Mask Less(Vec a, Vec b) { return a < b; }
inline Vec Select(Mask m, Vec yes, Vec no) {
  return reinterpret_cast<Vec>((m & reinterpret_cast<Mask>(yes)) |
                               (~m & reinterpret_cast<Mask>(no)));
}
// The second argument when either is NaN.
inline Vec Max(Vec a, Vec b) { return Select(a > b, a, b); }
inline Vec Min(Vec a, Vec b) { return Select(a < b, a, b); }
inline Vec Fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec Round(Vec a) { return Vec{rintf(a[0]), rintf(a[1]), rintf(a[2]), rintf(a[3])}; }
// 2^n for whole n in [-126, 127]; any value for NaN.
inline Vec PowerOf2(Vec n) {
  const Vec safe = Select(n == n, n, Zero());
  const Mask biased = __builtin_convertvector(safe, Mask) + 127;
  return reinterpret_cast<Vec>(biased << 23);
}
// a 2^n for whole n, in two factors, so that overflow gives infinity and underflow is gradual.
inline Vec Scale(Vec a, Vec n) {
  const Vec half = Round(n * 0.5f);
  return a * PowerOf2(half) * PowerOf2(n - half);
}

inline Words LoadHalves(const uint8_t* p) {
  uint16_t half[4];
  memcpy(half, p, sizeof(half));
  return Words{half[0], half[1], half[2], half[3]};
}
// Exact: the exponent is moved into place and corrected by a multiplication with 2^112, which also
// makes subnormals normal; infinities and NaN get their exponent back.
inline Vec LoadF16(const uint8_t* p) {
  const Words half = LoadHalves(p);
  const Vec magnitude = reinterpret_cast<Vec>((half & 0x7fff) << 13) * 0x1p112f;
  const Words special = reinterpret_cast<Words>(magnitude >= Set1(65536.0f)) & 0x7f800000u;
  return reinterpret_cast<Vec>(reinterpret_cast<Words>(magnitude) | special |
                               ((half & 0x8000) << 16));
}
inline Vec LoadBF16(const uint8_t* p) { return reinterpret_cast<Vec>(LoadHalves(p) << 16); }
inline Vec LoadInt8(const uint8_t* p) {
  int8_t code[4];
  memcpy(code, p, sizeof(code));
  return Vec{static_cast<float>(code[0]), static_cast<float>(code[1]), static_cast<float>(code[2]),
             static_cast<float>(code[3])};
}
inline void StoreF16(uint8_t* p, Vec a) {
  const uint16_t half[4] = {F16FromF32(a[0]), F16FromF32(a[1]), F16FromF32(a[2]), F16FromF32(a[3])};
  memcpy(p, half, sizeof(half));
}
inline void StoreBF16(uint8_t* p, Vec a) {
  const uint16_t half[4] = {BF16FromF32(a[0]), BF16FromF32(a[1]), BF16FromF32(a[2]),
                            BF16FromF32(a[3])};
  memcpy(p, half, sizeof(half));
}
inline void StoreLowBytes(uint8_t* p, Vec a) {
  const Words bits = reinterpret_cast<Words>(a);
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(bits[i]);
}

inline Table ScaledNf4(float absmax) {
  Table table;
  for (int i = 0; i < 16; ++i) table.values[i] = kNf4Values[i] * absmax;
  return table;
}
inline Words LoadWords(const uint8_t* p) {
  Words words;
  memcpy(&words, p, sizeof(words));
  return words;
}
inline Vec Lookup(const Table& table, Words words, int shift) {
  const Words index = (words >> static_cast<uint32_t>(shift)) & 15u;
  return Vec{table.values[index[0]], table.values[index[1]], table.values[index[2]],
             table.values[index[3]]};
}

// Lanes are added l with l + 2, then + 1.
inline float SumLanes(Vec a) { return (a[0] + a[2]) + (a[1] + a[3]); }
inline float LargestLane(Vec a) {
  float largest = a[0];
  for (int i = 1; i < kLanes; ++i) largest = largest < a[i] ? a[i] : largest;
  return largest;
}
inline void SumLanes8(const Vec* a, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = SumLanes(a[i]);
}
inline void LargestLane8(const Vec* a, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = LargestLane(a[i]);
}

}  // namespace
}  // namespace vernier

#include "kernels/cpu/row-inl.h"

namespace vernier {

const KernelTable& PortableKernels() {
  static constexpr KernelTable kKernels = MakeKernelTable(nullptr, nullptr);
  return kKernels;
}

}  // namespace vernier
