#include "engine/checkpoint/gguf_rows.h"

#include <new>

#include "absl/strings/str_cat.h"

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

absl::StatusOr<WeightSource> OpenGgufRows(const GgufRows& rows, const std::string& name) {
  const size_t size = static_cast<size_t>(rows.rows * rows.type->RowBytes(rows.cols));
  // A file may be sparse and claim more than there is memory.
  const std::shared_ptr<uint8_t[]> bytes(new (std::nothrow) uint8_t[size]);
  if (bytes == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("tensor ", name, " needs ", size, " bytes"));
  }
  if (absl::Status status = rows.file->Read(rows.offset, {bytes.get(), size}); !status.ok()) {
    return status;
  }
  GgufRows layout = rows;
  layout.file = nullptr;  // the source needs the bytes alone
  return WeightSource{.name = name,
                      .rows = rows.rows,
                      .cols = rows.cols,
                      .read = [bytes, layout](int64_t first_row, int64_t count, float* out) {
                        Decode(layout, bytes.get(), first_row, count, out);
                        return absl::OkStatus();
                      }};
}

}  // namespace vernier
