// Scalar types, their conversions, and how the values of one weight reach a backend.
//
// Conversions are exact where they can be and round to nearest even where they cannot (IEEE 754
// binary16, bfloat16).
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace vernier {

enum class ScalarType : uint8_t { kF32, kF16, kBF16 };

constexpr int64_t ScalarBytes(ScalarType type) { return type == ScalarType::kF32 ? 4 : 2; }

// "fp32", "fp16" or "bf16".
const char* ScalarName(ScalarType type);

inline float F32FromBF16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// NaN stays NaN (quiet); overflow becomes infinity.
uint16_t BF16FromF32(float value);
float F32FromF16(uint16_t bits);
uint16_t F16FromF32(float value);

// The values of one two-dimensional weight [rows, cols], row-major, as fp32.
//
// `read` decodes `count` rows from `first_row` into `out` [count * cols]; it may be called from
// several threads at once and gives the same values each time. It fails when the file behind it
// does.
struct WeightSource {
  std::string name;  // canonical, for messages: "layers.3.mlp.down"
  int64_t rows = 0;  // outputs
  int64_t cols = 0;  // inputs
  std::function<absl::Status(int64_t first_row, int64_t count, float* out)> read;
};

}  // namespace vernier
