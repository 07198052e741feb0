// How the KV cache keeps keys and values: one table row a type.
//
// To add a type: a row here, its codes in kv_type.cc, a load and a store in each backend that has
// it, a line in the conformance test.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier {

// The index of a type's row.
enum class KvType : uint8_t { kF32, kF16, kBF16, kInt8 };
inline constexpr int kNumKvTypes = 4;

struct KvTypeTraits {
  KvType type;
  const char* name;  // as configs and replies spell it
  int value_bytes;
  int scale_bytes;     // of a token's head, for its keys and for its values each; 0: no scale
  int precision_rank;  // order of precision, as QuantFormat's
};

inline constexpr KvTypeTraits kKvTypes[kNumKvTypes] = {
    {KvType::kF32, "fp32", 4, 0, 4},
    {KvType::kF16, "fp16", 2, 0, 3},
    {KvType::kBF16, "bf16", 2, 0, 2},
    {KvType::kInt8, "int8", 1, 4, 1},
};

constexpr const KvTypeTraits& TraitsOf(KvType type) { return kKvTypes[static_cast<int>(type)]; }
constexpr const char* KvTypeName(KvType type) { return TraitsOf(type).name; }

// INVALID_ARGUMENT naming the known types when `name` is none of them.
absl::StatusOr<KvType> ParseKvType(absl::string_view name);

// What a head's values are multiplied by before they are rounded, and their codes after.
struct KvScale {
  float scale = 1;
  float inverse = 1;
};

// Symmetric, from the largest magnitude of a head: int8 has codes of -127 to 127. A head whose
// values are all 0, or below 127 / 2^128, has the scale 0. One that is not finite (`largest` may be
// infinite or NaN) has the scale NaN, so that whatever reads it is NaN. Types without scales have
// 1.
KvScale KvScaleOf(KvType type, float largest);

// One token's head as the cache keeps it; every backend stores these bits. `values` gets
// head.size() * value_bytes bytes, `*scale` is left alone by types without scales. Codes are
// rounded to nearest even, and mean nothing where the scale is NaN.
void EncodeKvHead(KvType type, std::span<const float> head, uint8_t* values, float* scale);
// Value i of such a head, which the scale is yet to be multiplied with.
float DecodeKv(KvType type, const uint8_t* values, int64_t i);

}  // namespace vernier
