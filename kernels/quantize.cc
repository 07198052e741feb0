#include "kernels/quantize.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/convert.h"

namespace vernier {
namespace {

// Row-major fp32 values read at a time: 1 MiB, or one row where that is longer.
constexpr int64_t kChunkValues = 256 * 1024;

constexpr uint8_t kNf4Zero = 7;

constexpr int64_t DivideUp(int64_t value, int64_t by) { return value / by + (value % by != 0); }

float AbsMax(std::span<const float> values) {
  return Convert().abs_max(values.data(), static_cast<int64_t>(values.size()));
}

// ---- Encoders: `values` start at flat index `first`, a multiple of the codec's alignment ----

void EncodeF32(std::span<const float> values, int64_t first, QuantizedMatrix* out) {
  std::memcpy(out->codes.data() + first * 4, values.data(), values.size_bytes());
}

void EncodeF16(std::span<const float> values, int64_t first, QuantizedMatrix* out) {
  Convert().f16_from_f32(values.data(), static_cast<int64_t>(values.size()),
                         out->codes.data() + first * 2);
}

void EncodeBF16(std::span<const float> values, int64_t first, QuantizedMatrix* out) {
  Convert().bf16_from_f32(values.data(), static_cast<int64_t>(values.size()),
                          out->codes.data() + first * 2);
}

void EncodeInt8(std::span<const float> values, int64_t first, QuantizedMatrix* out) {
  for (size_t start = 0; start < values.size(); start += out->cols) {
    const std::span<const float> row = values.subspan(start, out->cols);
    const int64_t row_index = (first + static_cast<int64_t>(start)) / out->cols;
    const float absmax = AbsMax(row);
    float scale = absmax / 127;
    // Near the largest float the quotient may have been rounded up too far for code 127.
    if (std::isinf(scale * 127)) scale = std::nextafter(scale, 0.0f);
    out->scales[row_index] = scale;
    uint8_t* codes = out->codes.data() + row_index * out->cols;
    if (absmax == 0) {
      std::fill_n(codes, row.size(), uint8_t{0});
      continue;
    }
    Convert().int8_codes(row.data(), out->cols, absmax, codes);
  }
}

void EncodeNf4(std::span<const float> values, int64_t first, QuantizedMatrix* out) {
  for (size_t start = 0; start < values.size(); start += kNf4Block) {
    const std::span<const float> block =
        values.subspan(start, std::min<size_t>(kNf4Block, values.size() - start));
    const int64_t index = first + static_cast<int64_t>(start);
    const float absmax = AbsMax(block);
    out->scales[index / kNf4Block] = absmax;
    // Of an all-zero block the inverse is infinite and every product NaN, which lies above no
    // threshold: code 0, as on CUDA, worth -1 times the absmax of zero.
    const float inverse = 1.0f / absmax;
    uint8_t code[kNf4Block + 1];
    Convert().nf4_codes(block.data(), static_cast<int64_t>(block.size()), inverse, kNf4Thresholds,
                        code);
    if (block.size() % 2 != 0) code[block.size()] = kNf4Zero;
    uint8_t* packed = out->codes.data() + index / 2;
    for (size_t i = 0; i < block.size(); i += 2) {
      packed[i / 2] = static_cast<uint8_t>(code[i] << 4 | code[i + 1]);
    }
  }
}

// ---- Last steps, once every value is encoded ----

// The index of the nearest value of DynamicMap(), the lower of two equally near.
uint8_t NearestDynamic(float x) {
  const std::span<const float, 256> map = DynamicMap();
  const auto above = std::lower_bound(map.begin(), map.end(), x);
  if (above == map.begin()) return 0;
  if (above == map.end()) return 255;
  const float midpoint = (*above + *(above - 1)) * 0.5f;
  return static_cast<uint8_t>(above - map.begin() - (x > midpoint ? 0 : 1));
}

void NestScales(QuantizedMatrix* out) {
  double sum = 0;
  for (const float scale : out->scales) sum += scale;
  out->nested_offset = static_cast<float>(sum / static_cast<double>(out->scales.size()));
  const int64_t blocks = static_cast<int64_t>(out->scales.size());
  out->nested_codes.resize(blocks);
  out->nested_scales.resize(DivideUp(blocks, kNestedBlock));
  for (float& scale : out->scales) scale -= out->nested_offset;
  for (int64_t start = 0; start < blocks; start += kNestedBlock) {
    const int64_t count = std::min<int64_t>(kNestedBlock, blocks - start);
    const std::span<const float> block(out->scales.data() + start, count);
    const float absmax = AbsMax(block);
    const float inverse = absmax > 0 ? 1.0f / absmax : 0.0f;
    out->nested_scales[start / kNestedBlock] = absmax;
    for (int64_t i = 0; i < count; ++i) {
      out->nested_codes[start + i] = NearestDynamic(block[i] * inverse);
    }
  }
  std::vector<float>().swap(out->scales);
}

// ---- Decoders: `count` values from flat index `first` ----

void DecodeF32(const QuantizedMatrix& matrix, int64_t first, int64_t count, float* out) {
  std::memcpy(out, matrix.codes.data() + first * 4, count * 4);
}

void DecodeF16(const QuantizedMatrix& matrix, int64_t first, int64_t count, float* out) {
  Convert().f32_from_f16(matrix.codes.data() + first * 2, count, out);
}

void DecodeBF16(const QuantizedMatrix& matrix, int64_t first, int64_t count, float* out) {
  Convert().f32_from_bf16(matrix.codes.data() + first * 2, count, out);
}

void DecodeInt8(const QuantizedMatrix& matrix, int64_t first, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const auto code = static_cast<int8_t>(matrix.codes[first + i]);
    out[i] = static_cast<float>(code) * matrix.scales[(first + i) / matrix.cols];
  }
}

float Nf4AbsMax(const QuantizedMatrix& matrix, int64_t block) {
  return matrix.nested_codes.empty() ? matrix.scales[block]
                                     : DynamicMap()[matrix.nested_codes[block]] *
                                               matrix.nested_scales[block / kNestedBlock] +
                                           matrix.nested_offset;
}

void DecodeNf4(const QuantizedMatrix& matrix, int64_t first, int64_t count, float* out) {
  for (int64_t i = first; i < first + count;) {
    const float absmax = Nf4AbsMax(matrix, i / kNf4Block);
    const int64_t end = std::min(first + count, (i / kNf4Block + 1) * kNf4Block);
    for (; i < end; ++i) {
      const uint8_t pair = matrix.codes[i / 2];
      out[i - first] = kNf4Values[i % 2 == 0 ? pair >> 4 : pair & 15] * absmax;
    }
  }
}

// How one format's numbers are made, beside its row in QuantFormats().
struct Codec {
  FormatId id;
  int alignment;  // values that an encoder must see together, counted from the matrix's first
  float limit;    // the largest magnitude that stays finite
  void (*encode)(std::span<const float> values, int64_t first, QuantizedMatrix* out);
  void (*finish)(QuantizedMatrix* out);  // null: nothing is left to do
  void (*decode)(const QuantizedMatrix& matrix, int64_t first, int64_t count, float* out);
};

constexpr float kF16Limit = std::bit_cast<float>(0x477fefffu);   // below 65520
constexpr float kBF16Limit = std::bit_cast<float>(0x7f7f7fffu);  // below 2^128 - 2^119

constexpr Codec kCodecs[kNumFormats] = {
    {FormatId::kF32, 1, FLT_MAX, EncodeF32, nullptr, DecodeF32},
    {FormatId::kF16, 1, kF16Limit, EncodeF16, nullptr, DecodeF16},
    {FormatId::kBF16, 1, kBF16Limit, EncodeBF16, nullptr, DecodeBF16},
    {FormatId::kInt8, 1, FLT_MAX, EncodeInt8, nullptr, DecodeInt8},
    {FormatId::kNf4, kNf4Block, FLT_MAX, EncodeNf4, nullptr, DecodeNf4},
    {FormatId::kNf4Dq, kNf4Block, FLT_MAX, EncodeNf4, NestScales, DecodeNf4},
};

const Codec& CodecOf(FormatId id) {
  const Codec& codec = kCodecs[static_cast<int>(FormatOf(id).id)];
  VERNIER_CHECK(codec.id == id);
  return codec;
}

absl::Status CheckFinite(const WeightSource& source, const Codec& codec, int64_t first,
                         std::span<const float> values) {
  const auto count = static_cast<int64_t>(values.size());
  if (Convert().all_within(values.data(), count, codec.limit)) return absl::OkStatus();
  size_t i = 0;
  while (std::fabs(values[i]) <= codec.limit) ++i;
  const int64_t index = first + static_cast<int64_t>(i);
  const char* reason = std::isfinite(values[i]) ? "too large for " : "not finite, for ";
  return absl::InvalidArgumentError(
      absl::StrCat(source.name, ": value ", values[i], " at row ", index / source.cols, ", column ",
                   index % source.cols, " is ", reason, FormatOf(codec.id).name));
}

absl::Status CheckShape(const WeightSource& source) {
  // 2^46 weights keep every size below in range with room to spare.
  constexpr int64_t kMaxWeights = int64_t{1} << 46;
  if (source.rows > 0 && source.cols > 0 && source.rows <= kMaxWeights / source.cols) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(source.name, ": shape [", source.rows, ", ",
                                                 source.cols, "] is not a weight's"));
}

QuantizedMatrix EmptyMatrix(FormatId format, int64_t rows, int64_t cols) {
  const QuantFormat& row = FormatOf(format);
  const int64_t weights = rows * cols;
  QuantizedMatrix out{.format = format, .rows = rows, .cols = cols};
  out.codes.resize(DivideUp(weights * row.bits, 8));
  if (row.group != 0) out.scales.resize(row.group < 0 ? rows : DivideUp(weights, row.group));
  return out;
}

}  // namespace

std::span<const float, 256> DynamicMap() {
  // For each of 7 exponents the midpoints of 2^i + 1 even steps from 0.1 to 1, scaled by 10^(i-6),
  // with both signs; 0 and 1. Each step is one fused multiply-add, counted from the nearer end,
  // which reproduces the table that bitsandbytes publishes to the bit.
  static const std::array<float, 256> map = [] {
    constexpr float kScales[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
    std::array<float, 256> values{};
    size_t used = 0;
    for (int exponent = 0; exponent < 7; ++exponent) {
      const int steps = 1 << exponent;
      const float step = (1.0f - 0.1f) / static_cast<float>(steps);
      const auto boundary = [&](int i) {
        return i < (steps + 1) / 2 ? std::fma(step, static_cast<float>(i), 0.1f)
                                   : std::fma(-step, static_cast<float>(steps - i), 1.0f);
      };
      for (int i = 0; i < steps; ++i) {
        const float value = kScales[exponent] * ((boundary(i) + boundary(i + 1)) / 2);
        values[used++] = value;
        values[used++] = -value;
      }
    }
    values[used++] = 0.0f;
    values[used++] = 1.0f;
    VERNIER_CHECK(used == values.size());
    std::sort(values.begin(), values.end());
    return values;
  }();
  return map;
}

absl::StatusOr<QuantizedMatrix> QuantizeRows(const WeightSource& source, FormatId format,
                                             int64_t first_row, std::span<const float> values) {
  if (absl::Status status = CheckShape(source); !status.ok()) return status;
  const int64_t count = static_cast<int64_t>(values.size()) / source.cols;
  VERNIER_CHECK(count > 0 && count * source.cols == static_cast<int64_t>(values.size()));
  const Codec& codec = CodecOf(format);
  if (absl::Status status = CheckFinite(source, codec, first_row * source.cols, values);
      !status.ok()) {
    return status;
  }
  QuantizedMatrix out = EmptyMatrix(format, count, source.cols);
  codec.encode(values, 0, &out);
  if (codec.finish != nullptr) codec.finish(&out);
  return out;
}

float LargestMagnitude(FormatId format) { return CodecOf(format).limit; }

absl::StatusOr<QuantizedMatrix> Quantize(const WeightSource& source, FormatId format) {
  if (absl::Status status = CheckShape(source); !status.ok()) return status;
  const Codec& codec = CodecOf(format);
  QuantizedMatrix out = EmptyMatrix(format, source.rows, source.cols);

  // Values of a block that the chunk's last row leaves unfinished wait at the buffer's front.
  const int64_t chunk_rows = std::clamp<int64_t>(kChunkValues / source.cols, 1, source.rows);
  std::vector<float> buffer(codec.alignment - 1 + chunk_rows * source.cols);
  int64_t encoded = 0;
  int64_t waiting = 0;
  for (int64_t first_row = 0; first_row < source.rows; first_row += chunk_rows) {
    const int64_t count = std::min(chunk_rows, source.rows - first_row);
    float* fresh = buffer.data() + waiting;
    if (absl::Status status = source.read(first_row, count, fresh); !status.ok()) return status;
    const std::span<const float> read(fresh, count * source.cols);
    absl::Status finite = CheckFinite(source, codec, first_row * source.cols, read);
    if (!finite.ok()) return finite;

    const int64_t available = waiting + count * source.cols;
    const bool last = first_row + count == source.rows;
    const int64_t usable = last ? available : available - available % codec.alignment;
    codec.encode(std::span<const float>(buffer.data(), usable), encoded, &out);
    encoded += usable;
    waiting = available - usable;
    std::memmove(buffer.data(), buffer.data() + usable, waiting * sizeof(float));
  }
  if (codec.finish != nullptr) codec.finish(&out);
  return out;
}

std::vector<float> NestedScales(std::vector<float> absmax) {
  QuantizedMatrix matrix;
  matrix.scales = std::move(absmax);
  if (matrix.scales.empty()) return {};
  NestScales(&matrix);
  std::vector<float> scales(matrix.nested_codes.size());
  for (size_t block = 0; block < scales.size(); ++block) {
    scales[block] = Nf4AbsMax(matrix, static_cast<int64_t>(block));
  }
  return scales;
}

void Dequantize(const QuantizedMatrix& matrix, int64_t first_row, int64_t count, float* out) {
  VERNIER_CHECK(first_row >= 0 && count >= 0 && first_row + count <= matrix.rows);
  CodecOf(matrix.format).decode(matrix, first_row * matrix.cols, count * matrix.cols, out);
}

WeightSource SourceOf(std::span<const float> values, int64_t rows, int64_t cols) {
  VERNIER_CHECK(rows >= 0 && cols >= 0 && static_cast<int64_t>(values.size()) == rows * cols);
  return {.name = "matrix",
          .rows = rows,
          .cols = cols,
          .read = [values, cols](int64_t first_row, int64_t count, float* out) {
            std::copy_n(values.data() + first_row * cols, count * cols, out);
            return absl::OkStatus();
          }};
}

}  // namespace vernier
