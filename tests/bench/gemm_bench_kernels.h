// The device kernels of gemm_bench: random data, the error against a reference in double, a pure
// read.
//
// Pointers are device memory. Launches go to the default stream unless one is named; their errors
// show at the next cudaGetLastError. One thread.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace vernier::bench {

// A weight as files hold it.
struct CanonicalWeight {
  const void* values = nullptr;  // [outputs, inputs] 16-bit, of y's type; null: quantized
  bool four_bits = false;        // else int8 with a scale a row
  bool linear = false;           // codes of 4 bits: code - 8, else NF4
  int group = 0;                 // codes of 4 bits: columns of a scale
  const uint8_t* codes =
      nullptr;                    // 4 bits: [outputs * inputs / 2], even element in the high nibble
  const float* scales = nullptr;  // 4 bits: [outputs * inputs / group]; int8: [outputs]
  int outputs = 0;
  int inputs = 0;
};

// Fill `count` values from `seed`: bytes (all 256, or int8 codes from -127), floats of [low, high),
// 16-bit values of [-1, 1).
void FillBytes(uint8_t* out, int64_t count, uint64_t seed, bool whole_range);
void FillFloats(float* out, int64_t count, uint64_t seed, float low, float high);
void FillScalars(void* out, int64_t count, uint64_t seed, bool bf16);

// What a weight was multiplied with.
struct GivenX {
  const void* values = nullptr;   // [rows, inputs] 16-bit, or int8 codes in the kernels' order
  const float* scales = nullptr;  // int8: [rows]
};

// Adds |y - reference|^2 and |reference|^2 to squares[0] and squares[1]; y is [rows, outputs]
// 16-bit, and so is x where it is not int8. Of more than 256 rows about as many, spread over all. A
// NaN in y counts as 1e300, and so does a value of int8 x, whose sums are exact, that is not the
// reference's but for the rounding of y.
void AddSquares(const CanonicalWeight& weight, const GivenX& x, const void* y, int rows, bool bf16,
                double* squares);

// Reads `bytes` once, on `stream`; `out` is one word that is hardly ever written.
void ReadAll(const void* data, int64_t bytes, uint32_t* out, cudaStream_t stream);

}  // namespace vernier::bench
