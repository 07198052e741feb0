// Encodes weights into every format and decodes them back: the one definition of each format's
// numbers.
//
// NF4 is bit-identical with bitsandbytes (csrc/kernels.cu, MIT): blocks of 64 over the row-major
// flattened weight, a short last block allowed, fp32 absmax a block, the value times 1/absmax
// compared with 15 thresholds, the even element in the high nibble. nf4-dq quantizes absmax minus
// its mean in blocks of 256 with the signed dynamic map (Dettmers et al. 2022, 8-bit optimizers).
// int8 is symmetric per output row: round to nearest even of w * 127 / absmax. Thread-safe: pure
// functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/nf4_values.h"
#include "kernels/quant_format.h"
#include "kernels/tensor.h"

namespace vernier {

inline constexpr int kNf4Block = 64;
inline constexpr int kNestedBlock = 256;

// A weight in the canonical byte layout of its format: what files hold and what backends pack from.
struct QuantizedMatrix {
  FormatId format = FormatId::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<uint8_t>
      codes;  // fp32/fp16/bf16 values little-endian, int8 codes, or two NF4 codes a byte
  std::vector<float> scales;  // int8: [rows] absmax / 127; nf4: [ceil(rows * cols / 64)] absmax
  std::vector<uint8_t> nested_codes;  // nf4-dq: [ceil(rows * cols / 64)] index into DynamicMap()
  std::vector<float> nested_scales;   // nf4-dq: [ceil(blocks / 256)]
  float nested_offset = 0;            // nf4-dq: mean of absmax
};

// The 256 ascending values of bitsandbytes' create_dynamic_map(signed=True, 7, 8).
std::span<const float, 256> DynamicMap();

// The largest magnitude that stays finite in a format.
float LargestMagnitude(FormatId format);

// Encodes `source` row block by row block; fails with the source's error, or INVALID_ARGUMENT
// naming the tensor and the position of a value that is not finite.
absl::StatusOr<QuantizedMatrix> Quantize(const WeightSource& source, FormatId format);

// The same of rows that have been read, as a matrix of their own: `values` [n, source.cols] are
// `source`'s from `first_row`, which messages count from. REQUIRES: n > 0.
absl::StatusOr<QuantizedMatrix> QuantizeRows(const WeightSource& source, FormatId format,
                                             int64_t first_row, std::span<const float> values);

// What nf4-dq's double quantization makes of a matrix's absmax: the scales that its codes decode
// with.
std::vector<float> NestedScales(std::vector<float> absmax);

// The fp32 values of `count` rows from `first_row` into `out` [count * cols].
void Dequantize(const QuantizedMatrix& matrix, int64_t first_row, int64_t count, float* out);

// A source that reads a matrix in memory; `values` [rows, cols] must outlive it.
WeightSource SourceOf(std::span<const float> values, int64_t rows, int64_t cols);

}  // namespace vernier
