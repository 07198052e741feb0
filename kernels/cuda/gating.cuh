// The functions of gated layers, for the kernels that apply them.
#pragma once

#include "kernels/cuda/activation.h"
#include "kernels/cuda/device_math.cuh"

namespace vernier::cuda {

__device__ inline float Act(Gating kind, float x) {
  switch (kind) {
    case Gating::kSilu:
      // To some units in the last place. In full precision it is what long rows wait for, not
      // memory: 8,192 rows of 14,336 as int8 took 381 us (H200).
      return __fdividef(x, 1 + __expf(-x));
    case Gating::kGeluTanh: {
      constexpr float kSqrt2OverPi = 0.7978845608028654f;
      // 1 + tanh(z) = 2 / (1 + exp(-2 z)), without the cancellation of large negative z.
      const float z = kSqrt2OverPi * (x + 0.044715f * x * x * x);
      return x / (1 + expf(-2 * z));
    }
    case Gating::kGeluErf:
      return 0.5f * x * erfcf(-x * 0.7071067811865476f);
  }
  return x;
}

// Eight 16-bit values at once.
inline constexpr int kEight = 8;
template <class Scalar>
__device__ inline void WidenEight(const uint4& bits, float (&v)[kEight]) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = WidenPair<Scalar>(words[i]);
    v[2 * i] = pair.x;
    v[2 * i + 1] = pair.y;
  }
}
template <class Scalar>
__device__ inline uint4 NarrowEight(const float (&v)[kEight]) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = NarrowPair<Scalar>({v[2 * i], v[2 * i + 1]});
  return {words[0], words[1], words[2], words[3]};
}
// h = act(gates) * ups, by SiLU or whatever `kind` says: a choice for each value costs as much as
// the value.
template <class Scalar, bool kSilu>
__device__ inline void GateEight(Gating kind, const uint4& gates, const uint4& ups,
                                 float (&h)[kEight]) {
  float up[kEight];
  WidenEight<Scalar>(gates, h);
  WidenEight<Scalar>(ups, up);
#pragma unroll
  for (int i = 0; i < kEight; ++i) h[i] = Act(kSilu ? Gating::kSilu : kind, h[i]) * up[i];
}

}  // namespace vernier::cuda
