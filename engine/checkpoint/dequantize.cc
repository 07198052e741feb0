#include "engine/checkpoint/dequantize.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/tensor.h"

namespace vernier {
namespace {

static_assert(std::endian::native == std::endian::little, "GGML's values are little-endian");

constexpr int kBlock = 32;  // values of a block of every type here that has blocks

template <typename T>
T Load(const uint8_t* in) {
  T value;
  std::memcpy(&value, in, sizeof(value));
  return value;
}

void DecodeF32(const uint8_t* in, int64_t blocks, float* out) {
  std::memcpy(out, in, static_cast<size_t>(blocks) * sizeof(float));
}

void DecodeF16(const uint8_t* in, int64_t blocks, float* out) {
  for (int64_t i = 0; i < blocks; ++i) out[i] = F32FromF16(Load<uint16_t>(in + 2 * i));
}

void DecodeBF16(const uint8_t* in, int64_t blocks, float* out) {
  for (int64_t i = 0; i < blocks; ++i) out[i] = F32FromBF16(Load<uint16_t>(in + 2 * i));
}

// {fp16 scale, int8 codes[32]}: code * scale.
void DecodeQ8_0(const uint8_t* in, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; ++b, in += 2 + kBlock, out += kBlock) {
    const float scale = F32FromF16(Load<uint16_t>(in));
    for (int i = 0; i < kBlock; ++i) {
      out[i] = static_cast<float>(std::bit_cast<int8_t>(in[2 + i])) * scale;
    }
  }
}

// {fp16 scale, uint4 codes[32]}: (code - 8) * scale. Byte i holds value i in its low half and value
// i + 16 in its high half.
void DecodeQ4_0(const uint8_t* in, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; ++b, in += 2 + kBlock / 2, out += kBlock) {
    const float scale = F32FromF16(Load<uint16_t>(in));
    for (int i = 0; i < kBlock / 2; ++i) {
      const uint8_t codes = in[2 + i];
      out[i] = static_cast<float>((codes & 15) - 8) * scale;
      out[i + kBlock / 2] = static_cast<float>((codes >> 4) - 8) * scale;
    }
  }
}

// {fp16 scale, fp16 minimum, uint4 codes[32]}: code * scale + minimum; halves as in q4_0.
void DecodeQ4_1(const uint8_t* in, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; ++b, in += 4 + kBlock / 2, out += kBlock) {
    const float scale = F32FromF16(Load<uint16_t>(in));
    const float minimum = F32FromF16(Load<uint16_t>(in + 2));
    for (int i = 0; i < kBlock / 2; ++i) {
      const uint8_t codes = in[4 + i];
      out[i] = static_cast<float>(codes & 15) * scale + minimum;
      out[i + kBlock / 2] = static_cast<float>(codes >> 4) * scale + minimum;
    }
  }
}

constexpr GgmlType kTypes[] = {
    {0, "f32", 1, 4, DecodeF32},
    {1, "f16", 1, 2, DecodeF16},
    {2, "q4_0", kBlock, 2 + kBlock / 2, DecodeQ4_0},
    {3, "q4_1", kBlock, 4 + kBlock / 2, DecodeQ4_1},
    {8, "q8_0", kBlock, 2 + kBlock, DecodeQ8_0},
    {30, "bf16", 1, 2, DecodeBF16},
};

// By id; null where ggml has withdrawn the type.
constexpr const char* kNames[] = {
    "f32",     "f16",   "q4_0",   "q4_1",  nullptr, nullptr,  "q5_0",  "q5_1",    "q8_0",
    "q8_1",    "q2_k",  "q3_k",   "q4_k",  "q5_k",  "q6_k",   "q8_k",  "iq2_xxs", "iq2_xs",
    "iq3_xxs", "iq1_s", "iq4_nl", "iq3_s", "iq2_s", "iq4_xs", "i8",    "i16",     "i32",
    "i64",     "f64",   "iq1_m",  "bf16",  nullptr, nullptr,  nullptr, "tq1_0",   "tq2_0",
    nullptr,   nullptr, nullptr,  "mxfp4", "nvfp4", "q1_0"};

}  // namespace

std::string GgmlTypeName(uint32_t id) {
  if (id < std::size(kNames) && kNames[id] != nullptr) return kNames[id];
  return absl::StrCat("type ", id);
}

absl::StatusOr<const GgmlType*> FindGgmlType(uint32_t id) {
  std::string known;
  for (const GgmlType& type : kTypes) {
    if (type.id == id) return &type;
    absl::StrAppend(&known, known.empty() ? "" : ", ", type.name);
  }
  return absl::UnimplementedError(
      absl::StrCat("its type is ", GgmlTypeName(id), "; supported: ", known));
}

}  // namespace vernier
