#include "kernels/cuda/pack.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace vernier::cuda {
namespace {

constexpr uint8_t kNf4ZeroPair = 0x77;  // two codes of the value 0

// Calls `visit(record, first_row, first_col)` for every record in storage order.
template <class Visit>
void ForEachRecord(int64_t rows, int64_t cols, Visit visit) {
  for (int64_t group = 0, record = 0; group < RecordGroups(rows); ++group) {
    for (int64_t block = 0; block < RecordBlocks(cols); ++block, ++record) {
      visit(record, group * kRecordRows, block * kRecordCols);
    }
  }
}

void PackNf4(const QuantizedMatrix& matrix, HostPackedWeight* out) {
  ForEachRecord(matrix.rows, matrix.cols, [&](int64_t record, int64_t row, int64_t col) {
    uint8_t* bytes = out->records.data() + record * kNf4RecordBytes;
    for (int i = 0; i < kNf4CodeBytes; ++i) {
      const RecordPosition at = Nf4PairAt(i);
      const bool inside = row + at.row < matrix.rows;
      bytes[i] =
          inside ? matrix.codes[((row + at.row) * matrix.cols + col + at.col) / 2] : kNf4ZeroPair;
    }
    for (int i = 0; i < kRecordRows; ++i) {
      const int64_t scale_row = row + Nf4ScaleRowAt(i);
      const float absmax = scale_row < matrix.rows
                               ? matrix.scales[(scale_row * matrix.cols + col) / kNf4Block]
                               : 0.0f;
      std::memcpy(bytes + kNf4CodeBytes + i * 4, &absmax, 4);
    }
  });
}

void UnpackNf4(const HostPackedWeight& packed, QuantizedMatrix* out) {
  out->codes.resize(packed.rows * packed.cols / 2);
  out->scales.resize(packed.rows * packed.cols / kNf4Block);
  ForEachRecord(packed.rows, packed.cols, [&](int64_t record, int64_t row, int64_t col) {
    const uint8_t* bytes = packed.records.data() + record * kNf4RecordBytes;
    for (int i = 0; i < kNf4CodeBytes; ++i) {
      const RecordPosition at = Nf4PairAt(i);
      if (row + at.row >= packed.rows) continue;
      out->codes[((row + at.row) * packed.cols + col + at.col) / 2] = bytes[i];
    }
    for (int i = 0; i < kRecordRows; ++i) {
      const int64_t scale_row = row + Nf4ScaleRowAt(i);
      if (scale_row >= packed.rows) continue;
      float* absmax = &out->scales[(scale_row * packed.cols + col) / kNf4Block];
      std::memcpy(absmax, bytes + kNf4CodeBytes + i * 4, 4);
    }
  });
}

void PackInt8(const QuantizedMatrix& matrix, HostPackedWeight* out) {
  out->row_scales.assign(RecordGroups(matrix.rows) * kRecordRows, 0.0f);
  std::copy(matrix.scales.begin(), matrix.scales.end(), out->row_scales.begin());
  ForEachRecord(matrix.rows, matrix.cols, [&](int64_t record, int64_t row, int64_t col) {
    uint8_t* bytes = out->records.data() + record * kInt8RecordBytes;
    for (int i = 0; i < kInt8RecordBytes; ++i) {
      const RecordPosition at = Int8At(i);
      const bool inside = row + at.row < matrix.rows && col + at.col < matrix.cols;
      const uint8_t code =
          inside ? matrix.codes[(row + at.row) * matrix.cols + col + at.col] : uint8_t{0};
      bytes[i] = static_cast<uint8_t>(code + kInt8Bias);
    }
  });
}

void UnpackInt8(const HostPackedWeight& packed, QuantizedMatrix* out) {
  out->codes.resize(packed.rows * packed.cols);
  out->scales.assign(packed.row_scales.begin(), packed.row_scales.begin() + packed.rows);
  ForEachRecord(packed.rows, packed.cols, [&](int64_t record, int64_t row, int64_t col) {
    const uint8_t* bytes = packed.records.data() + record * kInt8RecordBytes;
    for (int i = 0; i < kInt8RecordBytes; ++i) {
      const RecordPosition at = Int8At(i);
      if (row + at.row >= packed.rows || col + at.col >= packed.cols) continue;
      out->codes[(row + at.row) * packed.cols + col + at.col] =
          static_cast<uint8_t>(bytes[i] - kInt8Bias);
    }
  });
}

}  // namespace

absl::StatusOr<HostPackedWeight> Pack(const QuantizedMatrix& matrix) {
  HostPackedWeight out;
  out.rows = matrix.rows;
  out.cols = matrix.cols;
  switch (matrix.format) {
    case FormatId::kNf4:
      if (matrix.cols % kNf4Block != 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "an nf4 weight for CUDA has columns in multiples of 64, this one has ", matrix.cols));
      }
      out.encoding = PackedEncoding::kNf4;
      out.records.resize(PackedBytes(out.encoding, out.rows, out.cols));
      PackNf4(matrix, &out);
      return out;
    case FormatId::kInt8:
      out.encoding = PackedEncoding::kInt8;
      out.records.resize(PackedBytes(out.encoding, out.rows, out.cols));
      PackInt8(matrix, &out);
      return out;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("no packed layout for ", FormatOf(matrix.format).name, ": nf4 or int8"));
  }
}

QuantizedMatrix Unpack(const HostPackedWeight& packed) {
  QuantizedMatrix out;
  out.rows = packed.rows;
  out.cols = packed.cols;
  if (packed.encoding == PackedEncoding::kNf4) {
    out.format = FormatId::kNf4;
    UnpackNf4(packed, &out);
  } else {
    out.format = FormatId::kInt8;
    UnpackInt8(packed, &out);
  }
  return out;
}

}  // namespace vernier::cuda
