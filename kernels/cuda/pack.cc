#include "kernels/cuda/pack.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace vernier::cuda {
namespace {

// Calls `visit(record, first_row, first_col)` for every record in storage order.
template <class Visit>
void ForEachRecord(int64_t rows, int64_t cols, Visit visit) {
  for (int64_t group = 0, record = 0; group < RecordGroups(rows); ++group) {
    for (int64_t block = 0; block < RecordBlocks(cols); ++block, ++record) {
      visit(record, group * kRecordRows, block * kRecordCols);
    }
  }
}

// `codes` [rows * cols / 2] and `scales` [rows * cols / group] as files hold them.
void PackFourBits(const uint8_t* codes, const float* scales, int64_t group, uint8_t zero_pair,
                  HostPackedWeight* out) {
  ForEachRecord(out->rows, out->cols, [&](int64_t record, int64_t row, int64_t col) {
    uint8_t* bytes = out->records.data() + record * kFourBitRecordBytes;
    for (int i = 0; i < kFourBitCodeBytes; ++i) {
      const RecordPosition at = FourBitPairAt(i);
      const bool inside = row + at.row < out->rows;
      bytes[i] = inside ? codes[((row + at.row) * out->cols + col + at.col) / 2] : zero_pair;
    }
    for (int i = 0; i < kRecordRows; ++i) {
      const int64_t scale_row = row + FourBitScaleRowAt(i);
      const float scale =
          scale_row < out->rows ? scales[(scale_row * out->cols + col) / group] : 0.0f;
      std::memcpy(bytes + kFourBitCodeBytes + i * 4, &scale, 4);
    }
  });
}

void UnpackFourBits(const HostPackedWeight& packed, int64_t group, uint8_t* codes, float* scales) {
  ForEachRecord(packed.rows, packed.cols, [&](int64_t record, int64_t row, int64_t col) {
    const uint8_t* bytes = packed.records.data() + record * kFourBitRecordBytes;
    for (int i = 0; i < kFourBitCodeBytes; ++i) {
      const RecordPosition at = FourBitPairAt(i);
      if (row + at.row >= packed.rows) continue;
      codes[((row + at.row) * packed.cols + col + at.col) / 2] = bytes[i];
    }
    for (int i = 0; i < kRecordRows; ++i) {
      const int64_t scale_row = row + FourBitScaleRowAt(i);
      if (scale_row >= packed.rows) continue;
      std::memcpy(&scales[(scale_row * packed.cols + col) / group],
                  bytes + kFourBitCodeBytes + i * 4, 4);
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
      PackFourBits(matrix.codes.data(), matrix.scales.data(), kNf4Block, kNf4ZeroPair, &out);
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

absl::StatusOr<HostPackedWeight> PackInt4(const Int4Matrix& matrix) {
  if (matrix.rows < 1 || matrix.cols < 1 || matrix.group < 1 || matrix.group % kRecordCols != 0 ||
      matrix.cols % matrix.group != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("an int4 weight for CUDA has groups of a multiple of 64 columns that divides "
                     "them, this one of [",
                     matrix.rows, ", ", matrix.cols, "] has groups of ", matrix.group));
  }
  const int64_t values = matrix.rows * matrix.cols;
  if (static_cast<int64_t>(matrix.codes.size()) != values / 2 ||
      static_cast<int64_t>(matrix.scales.size()) != values / matrix.group) {
    return absl::InvalidArgumentError(
        absl::StrCat("an int4 weight of [", matrix.rows, ", ", matrix.cols, "] has ", values / 2,
                     " bytes of codes and ", values / matrix.group, " scales, this one ",
                     matrix.codes.size(), " and ", matrix.scales.size()));
  }
  HostPackedWeight out{PackedEncoding::kInt4, matrix.rows, matrix.cols, {}, {}};
  out.records.resize(PackedBytes(out.encoding, out.rows, out.cols));
  PackFourBits(matrix.codes.data(), matrix.scales.data(), matrix.group, kInt4ZeroPair, &out);
  return out;
}

Int4Matrix UnpackInt4(const HostPackedWeight& packed, int64_t group) {
  const int64_t values = packed.rows * packed.cols;
  Int4Matrix out{packed.rows, packed.cols, group, {}, {}};
  out.codes.resize(values / 2);
  out.scales.resize(values / group);
  UnpackFourBits(packed, group, out.codes.data(), out.scales.data());
  return out;
}

QuantizedMatrix Unpack(const HostPackedWeight& packed) {
  QuantizedMatrix out;
  out.rows = packed.rows;
  out.cols = packed.cols;
  if (packed.encoding == PackedEncoding::kNf4) {
    out.format = FormatId::kNf4;
    out.codes.resize(packed.rows * packed.cols / 2);
    out.scales.resize(packed.rows * packed.cols / kNf4Block);
    UnpackFourBits(packed, kNf4Block, out.codes.data(), out.scales.data());
  } else {
    out.format = FormatId::kInt8;
    UnpackInt8(packed, &out);
  }
  return out;
}

}  // namespace vernier::cuda
