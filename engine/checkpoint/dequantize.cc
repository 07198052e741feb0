#include "engine/checkpoint/dequantize.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/convert.h"
#include "kernels/tensor.h"

namespace vernier {
namespace {

static_assert(std::endian::native == std::endian::little, "GGML's values are little-endian");

constexpr int kBlock = 32;        // values of a block of the types that share one scale
constexpr int kSuperBlock = 256;  // of the K types, whose scales are quantized too

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
  Convert().f32_from_f16(in, blocks, out);
}

void DecodeBF16(const uint8_t* in, int64_t blocks, float* out) {
  Convert().f32_from_bf16(in, blocks, out);
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

// The fifth bits of 32 codes, bit i of value i.
uint8_t FifthBit(uint32_t bits, int i) { return static_cast<uint8_t>((bits >> i & 1) << 4); }

// {fp16 scale, fifth bits, low uint4[32]}: (code - 16) * scale; halves as in q4_0.
void DecodeQ5_0(const uint8_t* in, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; ++b, in += 6 + kBlock / 2, out += kBlock) {
    const float scale = F32FromF16(Load<uint16_t>(in));
    const uint32_t fifth = Load<uint32_t>(in + 2);
    for (int i = 0; i < kBlock / 2; ++i) {
      const int low = (in[6 + i] & 15) | FifthBit(fifth, i);
      const int high = (in[6 + i] >> 4) | FifthBit(fifth, i + kBlock / 2);
      out[i] = static_cast<float>(low - 16) * scale;
      out[i + kBlock / 2] = static_cast<float>(high - 16) * scale;
    }
  }
}

// {fp16 scale, fp16 minimum, fifth bits, low uint4[32]}: code * scale + minimum.
void DecodeQ5_1(const uint8_t* in, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; ++b, in += 8 + kBlock / 2, out += kBlock) {
    const float scale = F32FromF16(Load<uint16_t>(in));
    const float minimum = F32FromF16(Load<uint16_t>(in + 2));
    const uint32_t fifth = Load<uint32_t>(in + 4);
    for (int i = 0; i < kBlock / 2; ++i) {
      const int low = (in[8 + i] & 15) | FifthBit(fifth, i);
      const int high = (in[8 + i] >> 4) | FifthBit(fifth, i + kBlock / 2);
      out[i] = static_cast<float>(low) * scale + minimum;
      out[i + kBlock / 2] = static_cast<float>(high) * scale + minimum;
    }
  }
}

// {fp16 scale, uint4 codes[32]}: codebook[code] * scale; halves as in q4_0.
void DecodeIq4Nl(const uint8_t* in, int64_t blocks, float* out) {
  constexpr int8_t kCodebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};
  for (int64_t b = 0; b < blocks; ++b, in += 2 + kBlock / 2, out += kBlock) {
    const float scale = F32FromF16(Load<uint16_t>(in));
    for (int i = 0; i < kBlock / 2; ++i) {
      out[i] = scale * static_cast<float>(kCodebook[in[2 + i] & 15]);
      out[i + kBlock / 2] = scale * static_cast<float>(kCodebook[in[2 + i] >> 4]);
    }
  }
}

// {uint4 scale and uint4 minimum[16], uint2 codes[256], fp16 d, fp16 dmin}, groups of 16:
// code * (d * scale) - dmin * minimum. In each half of the block byte l holds values l, l + 32,
// l + 64 and l + 96, lowest bits first.
void DecodeQ2K(const uint8_t* in, int64_t blocks, float* out) {
  constexpr int kCodes = 16, kScale = kCodes + 64, kBytes = kScale + 4;
  for (int64_t b = 0; b < blocks; ++b, in += kBytes) {
    const float d = F32FromF16(Load<uint16_t>(in + kScale));
    const float dmin = F32FromF16(Load<uint16_t>(in + kScale + 2));
    for (int group = 0; group < 16; ++group, out += 16) {
      const float scale = d * static_cast<float>(in[group] & 15);
      const float minimum = dmin * static_cast<float>(in[group] >> 4);
      const uint8_t* codes = in + kCodes + group / 8 * 32 + group % 2 * 16;
      const int shift = group % 8 / 2 * 2;
      for (int i = 0; i < 16; ++i) {
        out[i] = scale * static_cast<float>(codes[i] >> shift & 3) - minimum;
      }
    }
  }
}

// {third bits[256], uint2 codes[256] as in q2_k, uint6 scales[16], fp16 d}, groups of 16:
// (code - 4) * (d * (scale - 32)). Byte l of the third bits has that of value 32 * j + l at bit j.
void DecodeQ3K(const uint8_t* in, int64_t blocks, float* out) {
  constexpr int kCodes = 32, kScales = kCodes + 64, kScale = kScales + 12, kBytes = kScale + 2;
  for (int64_t b = 0; b < blocks; ++b, in += kBytes) {
    const float d = F32FromF16(Load<uint16_t>(in + kScale));
    const uint8_t* scales = in + kScales;  // low halves[16] in 8 bytes, then high pairs in 4
    for (int group = 0; group < 16; ++group, out += 16) {
      const int low = scales[group % 8] >> group / 8 * 4 & 15;
      const int high = scales[8 + group % 4] >> group / 4 * 2 & 3;
      const float scale = d * static_cast<float>((low | high << 4) - 32);
      const uint8_t* third = in + group % 2 * 16;
      const uint8_t* codes = in + kCodes + group / 8 * 32 + group % 2 * 16;
      const int shift = group % 8 / 2 * 2;
      for (int i = 0; i < 16; ++i) {
        const int code = (codes[i] >> shift & 3) | (third[i] >> group / 2 & 1) << 2;
        out[i] = scale * static_cast<float>(code - 4);
      }
    }
  }
}

struct ScaleAndMinimum {
  float scale = 0;
  float minimum = 0;
};

// Of group 0 to 7 of q4_k and q5_k, from {fp16 d, fp16 dmin, uint6 scales and minima in 12 bytes}:
// the first four groups have six bits of bytes 0 to 3 (scales) and 4 to 7 (minima), the others four
// bits of bytes 8 to 11 and the two that those left.
ScaleAndMinimum GroupScale(const uint8_t* in, int group) {
  const uint8_t* packed = in + 4;
  int scale = packed[group % 4] & 63;
  int minimum = packed[4 + group % 4] & 63;
  if (group >= 4) {
    const int low = packed[4 + group];
    scale = (low & 15) | packed[group - 4] >> 6 << 4;
    minimum = low >> 4 | packed[group] >> 6 << 4;
  }
  return {F32FromF16(Load<uint16_t>(in)) * static_cast<float>(scale),
          F32FromF16(Load<uint16_t>(in + 2)) * static_cast<float>(minimum)};
}

// {d, dmin, scales and minima, uint4 codes[256]}, groups of 32: code * (d * scale) - dmin *
// minimum. 32 bytes hold one group in their low halves and the next in their high halves.
void DecodeQ4K(const uint8_t* in, int64_t blocks, float* out) {
  constexpr int kCodes = 4 + 12, kBytes = kCodes + 128;
  for (int64_t b = 0; b < blocks; ++b, in += kBytes) {
    for (int group = 0; group < 8; ++group, out += 32) {
      const ScaleAndMinimum of = GroupScale(in, group);
      const uint8_t* codes = in + kCodes + group / 2 * 32;
      const int shift = group % 2 * 4;
      for (int i = 0; i < 32; ++i) {
        out[i] = of.scale * static_cast<float>(codes[i] >> shift & 15) - of.minimum;
      }
    }
  }
}

// As q4_k, with fifth bits[256] before the codes: byte l has that of value 32 * j + l at bit j.
void DecodeQ5K(const uint8_t* in, int64_t blocks, float* out) {
  constexpr int kFifth = 4 + 12, kCodes = kFifth + 32, kBytes = kCodes + 128;
  for (int64_t b = 0; b < blocks; ++b, in += kBytes) {
    for (int group = 0; group < 8; ++group, out += 32) {
      const ScaleAndMinimum of = GroupScale(in, group);
      const uint8_t* fifth = in + kFifth;
      const uint8_t* codes = in + kCodes + group / 2 * 32;
      const int shift = group % 2 * 4;
      for (int i = 0; i < 32; ++i) {
        const int code = (codes[i] >> shift & 15) | (fifth[i] >> group & 1) << 4;
        out[i] = of.scale * static_cast<float>(code) - of.minimum;
      }
    }
  }
}

// {low uint4[256], high uint2[256] as in q2_k, int8 scales[16], fp16 d}, groups of 16:
// (code - 32) * (d * scale). In each half of the block 64 bytes hold its first 64 values in their
// low halves and its last 64 in their high halves.
void DecodeQ6K(const uint8_t* in, int64_t blocks, float* out) {
  constexpr int kHigh = 128, kScales = kHigh + 64, kScale = kScales + 16, kBytes = kScale + 2;
  for (int64_t b = 0; b < blocks; ++b, in += kBytes) {
    const float d = F32FromF16(Load<uint16_t>(in + kScale));
    for (int group = 0; group < 16; ++group, out += 16) {
      const float scale = d * static_cast<float>(std::bit_cast<int8_t>(in[kScales + group]));
      const int in_half = group % 8;
      const uint8_t* low = in + group / 8 * 64 + in_half % 4 * 16;
      const uint8_t* high = in + kHigh + group / 8 * 32 + in_half % 2 * 16;
      const int low_shift = in_half / 4 * 4, high_shift = in_half / 2 * 2;
      for (int i = 0; i < 16; ++i) {
        const int code = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
        out[i] = scale * static_cast<float>(code - 32);
      }
    }
  }
}

constexpr GgmlType kTypes[] = {
    {0, "f32", 1, 4, DecodeF32},
    {1, "f16", 1, 2, DecodeF16},
    {2, "q4_0", kBlock, 2 + kBlock / 2, DecodeQ4_0},
    {3, "q4_1", kBlock, 4 + kBlock / 2, DecodeQ4_1},
    {6, "q5_0", kBlock, 6 + kBlock / 2, DecodeQ5_0},
    {7, "q5_1", kBlock, 8 + kBlock / 2, DecodeQ5_1},
    {8, "q8_0", kBlock, 2 + kBlock, DecodeQ8_0},
    {10, "q2_k", kSuperBlock, 84, DecodeQ2K},
    {11, "q3_k", kSuperBlock, 110, DecodeQ3K},
    {12, "q4_k", kSuperBlock, 144, DecodeQ4K},
    {13, "q5_k", kSuperBlock, 176, DecodeQ5K},
    {14, "q6_k", kSuperBlock, 210, DecodeQ6K},
    {20, "iq4_nl", kBlock, 2 + kBlock / 2, DecodeIq4Nl},
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
