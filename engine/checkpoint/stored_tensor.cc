#include "engine/checkpoint/stored_tensor.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/convert.h"

namespace vernier {
namespace {

// `bytes` holds [cols, rows]: the inner loop runs along the file.
void DecodeTransposed(const StoredTensor& tensor, const uint8_t* bytes, int64_t first_row,
                      int64_t count, float* out) {
  for (int64_t col = 0; col < tensor.cols; ++col) {
    for (int64_t i = 0; i < count; ++i) {
      out[i * tensor.cols + col] = FloatAt(tensor.type, bytes, col * tensor.rows + first_row + i);
    }
  }
}

void Decode(const StoredTensor& tensor, const uint8_t* bytes, int64_t first_row, int64_t count,
            float* out) {
  const uint8_t* const from = bytes + first_row * tensor.cols * ScalarBytes(tensor.type);
  const int64_t values = count * tensor.cols;
  switch (tensor.type) {
    case ScalarType::kF32:
      std::memcpy(out, from, static_cast<size_t>(values) * 4);
      return;
    case ScalarType::kF16:
      Convert().f32_from_f16(from, values, out);
      return;
    case ScalarType::kBF16:
      Convert().f32_from_bf16(from, values, out);
      return;
  }
}

}  // namespace

absl::StatusOr<ScalarType> ScalarTypeOf(absl::string_view safetensors_type) {
  if (safetensors_type == "F32") return ScalarType::kF32;
  if (safetensors_type == "F16") return ScalarType::kF16;
  if (safetensors_type == "BF16") return ScalarType::kBF16;
  return absl::UnimplementedError(absl::StrCat(
      "dtype ", safetensors_type, " is not supported for weights (F32, F16 and BF16 are)"));
}

TensorExtent ExtentOf(const StoredTensor& tensor) {
  const int64_t value_bytes = ScalarBytes(tensor.type);
  TensorExtent extent{.file = tensor.file, .offset = tensor.offset};
  if (!tensor.transposed || tensor.rows == tensor.file_rows) {
    extent.offset += tensor.first_row * tensor.cols * value_bytes;
    extent.run_bytes = tensor.rows * tensor.cols * value_bytes;
    return extent;
  }
  // Rows of a transposed tensor are a slice of each of its columns.
  extent.offset += tensor.first_row * value_bytes;
  extent.run_bytes = tensor.rows * value_bytes;
  extent.runs = tensor.cols;
  extent.stride = tensor.file_rows * value_bytes;
  return extent;
}

absl::StatusOr<WeightSource> OpenStored(const StoredTensor& tensor, const std::string& name) {
  auto bytes = ReadTensorBytes(ExtentOf(tensor), tensor.xxh3, name);
  if (!bytes.ok()) return bytes.status();
  StoredTensor layout = tensor;
  layout.file = nullptr;  // the source needs the bytes alone
  return WeightSource{
      .name = name,
      .rows = tensor.rows,
      .cols = tensor.cols,
      .read = [bytes = *std::move(bytes), layout](int64_t first_row, int64_t count, float* out) {
        const auto decode = layout.transposed ? DecodeTransposed : Decode;
        decode(layout, bytes.get(), first_row, count, out);
        return absl::OkStatus();
      }};
}

}  // namespace vernier
