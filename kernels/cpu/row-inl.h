// Norms, activations and attention of one row, written once over the vectors of an instruction set,
// and the table of all kernels.
//
// Included after dot-inl.h, by one file an instruction set; internal linkage throughout.
#pragma once

#include "kernels/cpu/dot-inl.h"
#include "kernels/cpu/kernel_table.h"

namespace vernier {
namespace {

// ---- Norms: lane sums over whole vectors, then the rest one by one ----

inline float SumOf(const float* x, int64_t n) {
  Vec sum = Zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = Add(sum, Load(x + i));
  float total = SumLanes(sum);
  for (; i < n; ++i) total += x[i];
  return total;
}

inline float SumOfSquares(const float* x, float minus, int64_t n) {
  const Vec center = Set1(minus);
  Vec sum = Zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec d = Sub(Load(x + i), center);
    sum = Fma(d, d, sum);
  }
  float total = SumLanes(sum);
  for (; i < n; ++i) total += (x[i] - minus) * (x[i] - minus);
  return total;
}

inline void ScaleShift(const float* x, float minus, float scale, const float* weight,
                       const float* bias, int64_t n, float* out) {
  const Vec center = Set1(minus), factor = Set1(scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Vec y = Mul(Mul(Sub(Load(x + i), center), factor), Load(weight + i));
    if (bias != nullptr) y = Add(y, Load(bias + i));
    Store(out + i, y);
  }
  for (; i < n; ++i) {
    const float y = (x[i] - minus) * scale * weight[i];
    out[i] = bias != nullptr ? y + bias[i] : y;
  }
}

void RmsNorm(const float* x, const float* weight, const float* bias, float epsilon, int64_t n,
             float* out) {
  const float mean_square = SumOfSquares(x, 0, n) / static_cast<float>(n);
  ScaleShift(x, 0, 1 / __builtin_sqrtf(mean_square + epsilon), weight, bias, n, out);
}

void LayerNorm(const float* x, const float* weight, const float* bias, float epsilon, int64_t n,
               float* out) {
  const float mean = SumOf(x, n) / static_cast<float>(n);
  const float variance = SumOfSquares(x, mean, n) / static_cast<float>(n);
  ScaleShift(x, mean, 1 / __builtin_sqrtf(variance + epsilon), weight, bias, n, out);
}

// ---- Exponentials ----

// exp(x) within 2 ulp: x = n ln 2 + r, the Taylor polynomial of degree 7 on |r| <= ln(2) / 2, then
// times 2^n. Added to 1.5 * 2^23 a number is rounded to a whole one. NaN stays NaN: Min and Max
// return their second argument when they meet one.
inline Vec Exp(Vec x) {
  const Vec clamped = Max(Set1(-110.0f), Min(Set1(100.0f), x));
  const Vec whole = Set1(0x1.8p23f);
  const Vec n = Sub(Fma(clamped, Set1(1.44269504f), whole), whole);
  Vec r = Fma(n, Set1(-0.693145752f), clamped);  // ln 2 in two parts; n * the first is exact
  r = Fma(n, Set1(-1.42860677e-6f), r);
  Vec p = Set1(1.0f / 5040);
  p = Fma(p, r, Set1(1.0f / 720));
  p = Fma(p, r, Set1(1.0f / 120));
  p = Fma(p, r, Set1(1.0f / 24));
  p = Fma(p, r, Set1(1.0f / 6));
  p = Fma(p, r, Set1(0.5f));
  p = Fma(p, r, Set1(1.0f));
  p = Fma(p, r, Set1(1.0f));
  return Scale(p, n);
}

// x / (1 + exp(-x)); within 5 ulp.
inline Vec Silu(Vec x) { return Div(x, Add(Set1(1.0f), Exp(Sub(Zero(), x)))); }

// x / 2 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3); relative error
// (8 + 8 |u|) 2^-24: the roundings of u are an exponential's argument.
inline Vec GeluTanh(Vec x) {
  const Vec cube = Mul(Mul(x, x), x);
  const Vec u = Mul(Set1(-1.59576912f), Fma(Set1(0.044715f), cube, x));
  return Div(x, Add(Set1(1.0f), Exp(u)));
}

// x Phi(x) by erfc(z) = exp(-z^2) P(t), t = 1 / (1 + z/2), z = |x| / sqrt(2): a Chebyshev fit of
// degree 9 in t on z in [0, 10]. Relative error (20 + 2 x^2) 2^-24.
inline Vec GeluErf(Vec x) {
  const Vec z = Mul(Max(x, Sub(Zero(), x)), Set1(0.707106781f));
  const Vec t = Div(Set1(1.0f), Fma(z, Set1(0.5f), Set1(1.0f)));
  const Vec u = Fma(t, Set1(2.4f), Set1(-1.4f));
  Vec p = Set1(-1.7927734e-5f);
  p = Fma(p, u, Set1(-2.1949631e-5f));
  p = Fma(p, u, Set1(2.4582518e-4f));
  p = Fma(p, u, Set1(7.6753095e-5f));
  p = Fma(p, u, Set1(-2.9235824e-3f));
  p = Fma(p, u, Set1(-1.1008204e-3f));
  p = Fma(p, u, Set1(4.5990393e-2f));
  p = Fma(p, u, Set1(0.19544284f));
  p = Fma(p, u, Set1(0.42863479f));
  p = Fma(p, u, Set1(0.33367366f));
  const Vec tail = Mul(Mul(p, Exp(Sub(Zero(), Mul(z, z)))), Set1(0.5f));  // Phi(-|x|)
  return Mul(x, Select(Less(x, Zero()), tail, Sub(Set1(1.0f), tail)));
}

template <Vec (*kActivation)(Vec)>
void Activate(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    Vec y = kActivation(Load(gate + i));
    if (up != nullptr) y = Mul(y, Load(up + i));
    Store(gate + i, y);
  }
}

// ---- The cache's values ----

float LargestMagnitude(const float* x, int64_t n) {
  // 0 times a value is 0 unless that is not finite.
  Vec largest = Zero(), nothing = Zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec v = Load(x + i);
    largest = Max(largest, Max(v, Sub(Zero(), v)));
    nothing = Fma(v, Zero(), nothing);
  }
  float most = LargestLane(largest), rest = SumLanes(nothing);
  for (; i < n; ++i) {
    const float magnitude = __builtin_fabsf(x[i]);
    if (most < magnitude) most = magnitude;
    rest += x[i] * 0;
  }
  return most + rest;
}

template <class Element>
void LoadScalars(const void* in, int64_t n, float* out) {
  const uint8_t* from = static_cast<const uint8_t*>(in);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(out + i, Element::Get(from + i * Element::kBytes));
  if (i == n) return;
  alignas(64) uint8_t last[kLanes * 4] = {};
  alignas(64) float values[kLanes];
  __builtin_memcpy(last, from + i * Element::kBytes, (n - i) * Element::kBytes);
  Store(values, Element::Get(last));
  for (int64_t j = i; j < n; ++j) out[j] = values[j - i];
}

template <int kBytes, void (*kPut)(uint8_t*, Vec)>
void StoreScalars(const float* in, int64_t n, float inverse, void* out) {
  const Vec factor = Set1(inverse);
  uint8_t* to = static_cast<uint8_t*>(out);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) kPut(to + i * kBytes, Mul(Load(in + i), factor));
  if (i == n) return;
  alignas(64) float values[kLanes] = {};
  alignas(64) uint8_t last[kLanes * 4];
  for (int64_t j = i; j < n; ++j) values[j - i] = in[j];
  kPut(last, Mul(Load(values), factor));
  __builtin_memcpy(to + i * kBytes, last, (n - i) * kBytes);
}

inline void StoreF32(uint8_t* p, Vec v) { Store(reinterpret_cast<float*>(p), v); }
// Added to 1.5 * 2^23 a number is rounded to a whole one, whose last byte is the sum's.
inline void StoreInt8(uint8_t* p, Vec v) { StoreLowBytes(p, Add(v, Set1(0x1.8p23f))); }

// ---- Attention over one block of keys ----

// Queries at once, and vectors of keys or values at once: their sums fill three quarters of the
// registers.
constexpr int kQueries = kRegisters >= 32 ? 6 : 3;
constexpr int kKeyVectors = 2;  // with two sums each, of the even and the odd inputs
constexpr int kValueVectors = 4;

template <int kCount, class Element>
void ScoreKeys(const KeyScores& args) {
  const auto* codes = static_cast<const uint8_t*>(args.keys);
  const Vec factor = Set1(args.scale);
  for (int key = 0; key < kKeyBlock; key += kKeyVectors * kLanes) {
    Vec sums[2][kCount * kKeyVectors];
    VERNIER_UNROLL for (int i = 0; i < kCount * kKeyVectors; ++i) sums[0][i] = sums[1][i] = Zero();
    const auto add = [&](int64_t k, Vec* sum) {
      const uint8_t* keys = codes + (k * kKeyBlock + key) * Element::kBytes;
      Vec rows[kKeyVectors];
      VERNIER_UNROLL for (int v = 0; v < kKeyVectors; ++v) {
        rows[v] = Element::Get(keys + v * kLanes * Element::kBytes);
      }
      VERNIER_UNROLL for (int i = 0; i < kCount; ++i) {
        const Vec q = Set1(args.q[i * args.q_stride + k]);
        VERNIER_UNROLL for (int v = 0; v < kKeyVectors; ++v) {
          sum[i * kKeyVectors + v] = Fma(rows[v], q, sum[i * kKeyVectors + v]);
        }
      }
    };
    int64_t k = 0;
    for (; k + 2 <= args.n; k += 2) {
      add(k, sums[0]);
      add(k + 1, sums[1]);
    }
    if (k < args.n) add(k, sums[0]);
    VERNIER_UNROLL for (int i = 0; i < kCount; ++i) {
      VERNIER_UNROLL for (int v = 0; v < kKeyVectors; ++v) {
        const int at = i * kKeyVectors + v;
        const Vec score = Mul(Add(sums[0][at], sums[1][at]), factor);
        Store(args.scores + i * kKeyBlock + key + v * kLanes,
              Mul(score, Load(args.scales + key + v * kLanes)));
      }
    }
  }
}

// exp(x) for x that are not above 0, and 0 below -80: nothing beside the 1 of the largest score,
// and on the way to 0 lie subnormals, which an instruction makes a hundred times as slowly.
inline Vec ExpOfScore(Vec x) {
  const Vec least = Set1(-80.0f);
  return Select(Less(x, least), Zero(), Exp(Max(least, x)));
}

// One step for `count` queries, at most eight. A NaN among the scores may or may not become the
// maximum; the total is NaN either way.
inline void SoftenSome(const SoftmaxStep& args, int begin, int count) {
  constexpr int kMost = kLanes > 8 ? kLanes : 8;
  Vec each[8];  // of its query: the largest scores, then the sum
  alignas(64) float lanes[kMost], keep[kMost] = {};
  VERNIER_UNROLL for (int i = 0; i < 8; ++i) each[i] = Zero();
  float* const scores = args.scores + begin * kKeyBlock;
  for (int i = 0; i < count; ++i) {
    each[i] = Load(scores + i * kKeyBlock);
    for (int j = kLanes; j < kKeyBlock; j += kLanes) {
      each[i] = Max(each[i], Load(scores + i * kKeyBlock + j));
    }
  }
  LargestLane8(each, lanes);
  for (int i = 0; i < count; ++i) {
    float& max = args.max[begin + i];
    const float before = max;
    max = before < lanes[i] ? lanes[i] : before;
    keep[i] = before - max;  // -infinity for the first block: nothing was there
  }
  for (int i = 0; i < 8; i += kLanes) Store(keep + i, ExpOfScore(Load(keep + i)));
  for (int i = 0; i < count; ++i) {
    const Vec top = Set1(args.max[begin + i]);
    each[i] = Zero();
    for (int j = 0; j < kKeyBlock; j += kLanes) {
      float* const score = scores + i * kKeyBlock + j;
      const Vec p = ExpOfScore(Sub(Load(score), top));
      Store(score, Mul(p, Load(args.scales + j)));
      each[i] = Add(each[i], p);
    }
  }
  SumLanes8(each, lanes);
  for (int i = 0; i < count; ++i) {
    args.keep[begin + i] = keep[i];
    args.total[begin + i] = args.total[begin + i] * keep[i] + lanes[i];
  }
}

void Soften(const SoftmaxStep& args) {
  if (args.first > 0 || args.last < kKeyBlock) {
    for (int i = 0; i < args.count; ++i) {
      float* const scores = args.scores + i * kKeyBlock;
      for (int j = 0; j < args.first; ++j) scores[j] = -__builtin_inff();
      for (int j = args.last; j < kKeyBlock; ++j) scores[j] = -__builtin_inff();
    }
  }
  for (int i = 0; i < args.count; i += 8) {
    SoftenSome(args, i, args.count - i < 8 ? args.count - i : 8);
  }
}

template <int kCount, int kVectors, class Element>
inline void AddValueVectors(const WeightedValues& args, int64_t i) {
  Vec sums[kCount * kVectors];
  VERNIER_UNROLL for (int q = 0; q < kCount; ++q) {
    const Vec keep = Set1(args.keep[q]);
    VERNIER_UNROLL for (int v = 0; v < kVectors; ++v) {
      sums[q * kVectors + v] = Mul(Load(args.sums + q * args.n + i + v * kLanes), keep);
    }
  }
  for (int j = args.first; j < args.last; ++j) {
    const uint8_t* values =
        static_cast<const uint8_t*>(args.values) + (j * args.n + i) * Element::kBytes;
    Vec row[kVectors];
    VERNIER_UNROLL for (int v = 0; v < kVectors; ++v) {
      row[v] = Element::Get(values + v * kLanes * Element::kBytes);
    }
    VERNIER_UNROLL for (int q = 0; q < kCount; ++q) {
      const Vec p = Set1(args.p[q * kKeyBlock + j]);
      VERNIER_UNROLL for (int v = 0; v < kVectors; ++v) {
        sums[q * kVectors + v] = Fma(p, row[v], sums[q * kVectors + v]);
      }
    }
  }
  VERNIER_UNROLL for (int q = 0; q < kCount; ++q) {
    VERNIER_UNROLL for (int v = 0; v < kVectors; ++v) {
      Store(args.sums + q * args.n + i + v * kLanes, sums[q * kVectors + v]);
    }
  }
}

template <int kCount, class Element>
void AddValues(const WeightedValues& args) {
  int64_t i = 0;
  for (; i + kValueVectors * kLanes <= args.n; i += kValueVectors * kLanes) {
    AddValueVectors<kCount, kValueVectors, Element>(args, i);
  }
  for (; i < args.n; i += kLanes) AddValueVectors<kCount, 1, Element>(args, i);
}

// The kernel of args.count queries.
template <class Args, template <int> class Kernel>
void ForQueries(const Args& args) {
  switch (args.count) {
    case 1:
      return Kernel<1>::Run(args);
    case 2:
      return Kernel<2>::Run(args);
    case 3:
      return Kernel<3>::Run(args);
    case 4:
      return Kernel<4>::Run(args);
    case 5:
      return Kernel<5>::Run(args);
    default:
      return Kernel<6>::Run(args);
  }
}
static_assert(kQueries <= 6);

template <class Element>
struct BlockKernels {
  template <int kCount>
  struct Keys {
    static void Run(const KeyScores& args) {
      ScoreKeys<kCount <= kQueries ? kCount : 1, Element>(args);
    }
  };
  template <int kCount>
  struct Values {
    static void Run(const WeightedValues& args) {
      AddValues<kCount <= kQueries ? kCount : 1, Element>(args);
    }
  };
  static constexpr auto kScoreKeys = ForQueries<KeyScores, Keys>;
  static constexpr auto kAddValues = ForQueries<WeightedValues, Values>;
};

// Rows in the order of PanelLayout, ActivationKind and KvType. A layout is multiplied in one
// way: by digits where they have it, else by tiles, else by dots, which also multiply decoded
// panels.
constexpr KernelTable MakeKernelTable(const TileKernels* tiles, const DigitKernels* digits) {
  return {
      {ElementKernels<ElementF32>(),
       ElementKernels<ElementF16>(),
       ElementKernels<ElementBF16>(),
       ElementKernels<ElementInt8>(),
       Nf4Kernels<PlainScales>(),
       Nf4Kernels<NestedScales>(),
       {{}, DecodeNf4Straddled}},
      ElementKernels<ElementInCache>(),
      tiles,
      digits,
      nullptr,
      RmsNorm,
      LayerNorm,
      {Activate<Silu>, Activate<GeluTanh>, Activate<GeluErf>},
      {LoadScalars<ElementF32>, LoadScalars<ElementF16>, LoadScalars<ElementBF16>,
       LoadScalars<ElementInt8>},
      {StoreScalars<4, StoreF32>, StoreScalars<2, StoreF16>, StoreScalars<2, StoreBF16>,
       StoreScalars<1, StoreInt8>},
      LargestMagnitude,
      kQueries,
      {BlockKernels<ElementF32>::kScoreKeys, BlockKernels<ElementF16>::kScoreKeys,
       BlockKernels<ElementBF16>::kScoreKeys, BlockKernels<ElementInt8>::kScoreKeys},
      Soften,
      {BlockKernels<ElementF32>::kAddValues, BlockKernels<ElementF16>::kAddValues,
       BlockKernels<ElementBF16>::kAddValues, BlockKernels<ElementInt8>::kAddValues},
  };
}

}  // namespace
}  // namespace vernier
