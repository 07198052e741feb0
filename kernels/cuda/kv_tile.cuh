// A head's keys or values of one block of the cache in shared memory, and how the tensor cores'
// registers are read from it.
//
// Fragments are those of mma.sync.m16n8k16 (PTX ISA): lane l = 4g + t. Codes of 8 bits become fp16
// on the way: a register of ldmatrix holds four of them, two pairs, where it holds one pair of 16
// bits. So the columns of keys are met in another order than those of q are numbered in, which
// no sum minds as long as q is read in the same; the columns of values come out in another order,
// which whoever stores them undoes.
#pragma once

#include <cfloat>
#include <type_traits>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/instructions.cuh"

namespace vernier::cuda {

inline constexpr int kMostTileThreads = 128;  // of a block, of decode and of prefill
// Scales of values below this count as it: its inverse is finite, and 127 of it are nothing.
inline constexpr float kLeastValueScale = 0x1p-100f;

// 2^x; 0 where that is below the normal numbers.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline void LoadMatrix4Transposed(uint32_t address, uint32_t* out) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}

// `Codes` is __half, __nv_bfloat16 or int8_t.
template <class Codes, int kHeadDim>
struct KvTile {
  static constexpr bool kScaled = sizeof(Codes) == 1;
  using Scalar = std::conditional_t<kScaled, __half, Codes>;  // that the tensor cores multiply
  static constexpr int kSlotBytes = kHeadDim * static_cast<int>(sizeof(Codes));
  static constexpr int kCodeBytes = kSlotsPerBlock * kSlotBytes;
  static constexpr int kBytes = kCodeBytes + (kScaled ? kSlotsPerBlock * 4 : 0);
  static constexpr int kSteps = kHeadDim / 16;

  // First of the columns that a lane has of step `step` of q.k: it and the next are the first pair,
  // those at QueryColumn + kSecondPair the second.
  static constexpr int kSecondPair = kScaled ? 2 : 8;
  static __device__ int QueryColumn(int step, int t) { return step * 16 + (kScaled ? 4 : 2) * t; }

  static __device__ float Scale(const uint8_t* tile, int slot) {
    return reinterpret_cast<const float*>(tile + kCodeBytes)[slot];
  }

  // Where a lane points ldmatrix: it gives slot `slot` of what a load reads, at the load's chunk
  // where `odd` is 0 and at the next where it is 1.
  struct Pointer {
    uint32_t base;
    uint32_t exchange;

    __device__ Pointer(const uint8_t* tile, int slot, int odd)
        : base(SharedAddress(tile) + slot * kSlotBytes),
          exchange((odd ^ Swizzle(kSlotBytes, slot)) * 16) {}
    // `first_slot` is a multiple of 8, and `chunk` of 2 where there are odd lanes.
    __device__ uint32_t At(int first_slot, int chunk) const {
      return base + first_slot * kSlotBytes + (chunk * 16 ^ exchange);
    }
  };
};

// Four codes of 8 bits as two pairs: of neighbours, or of bytes two apart.
struct WidenedCodes {
  uint32_t word;  // codes + 128
  uint32_t exponent;

  __device__ WidenedCodes(uint32_t codes, uint32_t exponent)
      : word(codes ^ 0x80808080u), exponent(exponent) {}
  __device__ uint32_t First() const { return Int8HalfPair(word, 0x4140, exponent); }
  __device__ uint32_t Second() const { return Int8HalfPair(word, 0x4342, exponent); }
  __device__ uint32_t Even() const { return Int8HalfPair(word, 0x4240, exponent); }
  __device__ uint32_t Odd() const { return Int8HalfPair(word, 0x4341, exponent); }
};

// kInt8HalfExponent out of memory: an instruction takes one constant, and where the compiler knows
// this one, it puts it there and the numbers of the bytes into a register anew for each pair.
__device__ inline uint32_t HeldInt8HalfExponent() {
  __shared__ volatile uint32_t held[kMostTileThreads];
  held[threadIdx.x] = kInt8HalfExponent;
  return held[threadIdx.x];
}

// Launcher<codes, head_dim>::Launch(arguments..) with the types of a shape.
template <template <class, int> class Launcher, class... Arguments>
inline cudaError_t ForShape(const HeadShape& shape, KvCode cache, const Arguments&... arguments) {
  const auto of_type = [&](auto codes) {
    using Codes = decltype(codes);
    switch (shape.head_dim) {
      case 64:
        return Launcher<Codes, 64>::Launch(arguments...);
      case 96:
        return Launcher<Codes, 96>::Launch(arguments...);
      case 128:
        return Launcher<Codes, 128>::Launch(arguments...);
      case 256:
        return Launcher<Codes, 256>::Launch(arguments...);
      default:
        return cudaErrorInvalidValue;
    }
  };
  if (cache == KvCode::kInt8) return of_type(int8_t());
  return cache == KvCode::kF16 ? of_type(__half()) : of_type(__nv_bfloat16());
}

}  // namespace vernier::cuda
