#include "engine/checkpoint/gguf_rows.h"

#include <utility>

namespace vernier {
namespace {

// The file's row that is our row `row`.
int64_t FileRow(int64_t row, int64_t head_dim) {
  const int64_t in_head = row % head_dim;
  const int64_t half = head_dim / 2;
  return row - in_head + 2 * (in_head % half) + in_head / half;
}

void Decode(const GgufRows& layout, const uint8_t* bytes, int64_t first_row, int64_t count,
            float* out) {
  const int64_t row_bytes = layout.type->RowBytes(layout.cols);
  const int64_t row_blocks = layout.cols / layout.type->block_values;
  if (layout.interleaved_head_dim == 0) {
    layout.type->decode(bytes + first_row * row_bytes, count * row_blocks, out);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = FileRow(first_row + i, layout.interleaved_head_dim);
    layout.type->decode(bytes + row * row_bytes, row_blocks, out + i * layout.cols);
  }
}

}  // namespace

TensorExtent ExtentOf(const GgufRows& rows) {
  return {.file = rows.file,
          .offset = rows.offset,
          .run_bytes = rows.rows * rows.type->RowBytes(rows.cols)};
}

absl::StatusOr<WeightSource> OpenGgufRows(const GgufRows& rows, const std::string& name) {
  auto bytes = ReadTensorBytes(ExtentOf(rows), rows.xxh3, name);
  if (!bytes.ok()) return bytes.status();
  GgufRows layout = rows;
  layout.file = nullptr;  // the source needs the bytes alone
  return WeightSource{
      .name = name,
      .rows = rows.rows,
      .cols = rows.cols,
      .read = [bytes = *std::move(bytes), layout](int64_t first_row, int64_t count, float* out) {
        Decode(layout, bytes.get(), first_row, count, out);
        return absl::OkStatus();
      }};
}

}  // namespace vernier
