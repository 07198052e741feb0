#include "kernels/kv_type.h"

#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/tensor.h"

namespace vernier {
namespace {

constexpr float kMostCode = 127;

// The largest magnitude; NaN when a value is.
float LargestOf(std::span<const float> head) {
  float largest = 0;
  for (const float value : head) {
    if (!(std::fabs(value) <= largest)) largest = std::fabs(value);
    if (std::isnan(largest)) break;
  }
  return largest;
}

void Encode(KvType type, float value, float inverse, uint8_t* to) {
  uint32_t bits = 0;
  switch (type) {
    case KvType::kF32:
      bits = std::bit_cast<uint32_t>(value);
      break;
    case KvType::kF16:
      bits = F16FromF32(value);
      break;
    case KvType::kBF16:
      bits = BF16FromF32(value);
      break;
    case KvType::kInt8:
      // Added to 1.5 * 2^23 a number is rounded to a whole one, whose last byte is the sum's: no
      // value is undefined, as a conversion of what is not finite would be.
      bits = std::bit_cast<uint32_t>(value * inverse + 0x1.8p23f);
      break;
  }
  std::memcpy(to, &bits, TraitsOf(type).value_bytes);
}

}  // namespace

absl::StatusOr<KvType> ParseKvType(absl::string_view name) {
  for (const KvTypeTraits& traits : kKvTypes) {
    if (name == traits.name) return traits.type;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown KV type '", name,
      "', known: ", absl::StrJoin(kKvTypes, ", ", [](std::string* out, const KvTypeTraits& t) {
        absl::StrAppend(out, t.name);
      })));
}

KvScale KvScaleOf(KvType type, float largest) {
  if (TraitsOf(type).scale_bytes == 0) return {};
  if (!(largest <= FLT_MAX)) return {std::numeric_limits<float>::quiet_NaN(), 0};
  const float inverse = kMostCode / largest;
  if (!(inverse <= FLT_MAX)) return {0, 0};
  return {largest / kMostCode, inverse};
}

void EncodeKvHead(KvType type, std::span<const float> head, uint8_t* values, float* scale) {
  const KvTypeTraits& traits = TraitsOf(type);
  const KvScale scales = KvScaleOf(type, LargestOf(head));
  for (size_t i = 0; i < head.size(); ++i) {
    Encode(type, head[i], scales.inverse, values + i * traits.value_bytes);
  }
  if (traits.scale_bytes > 0) *scale = scales.scale;
}

float DecodeKv(KvType type, const uint8_t* values, int64_t i) {
  const int bytes = TraitsOf(type).value_bytes;
  uint32_t bits = 0;
  std::memcpy(&bits, values + i * bytes, bytes);
  switch (type) {
    case KvType::kF32:
      return std::bit_cast<float>(bits);
    case KvType::kF16:
      return F32FromF16(static_cast<uint16_t>(bits));
    case KvType::kBF16:
      return F32FromBF16(static_cast<uint16_t>(bits));
    case KvType::kInt8:
      return static_cast<float>(static_cast<int8_t>(bits));
  }
  return 0;
}

}  // namespace vernier
