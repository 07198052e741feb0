// Packs a quantized weight into the layout that the CUDA kernels read, on the host, and back.
//
// A pure permutation of bytes: unpacking gives the canonical codes and scales bit for bit. The
// device does the same at load (pack_device.h); this is its definition. Thread-safe: pure
// functions.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/packed_layout.h"
#include "kernels/quantize.h"

namespace vernier::cuda {

// One weight as the kernels read it, in host memory.
struct HostPackedWeight {
  PackedEncoding encoding = PackedEncoding::kNf4;
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<uint8_t> records;   // [PackedBytes(encoding, rows, cols)]
  std::vector<float> row_scales;  // int8: [RecordGroups(rows) * 32], zero past `rows`; else empty
};

// Linear codes of 4 bits with a scale for each `group` columns of a row, as GPTQ's symmetric
// checkpoints have them once their words are in row order (engine/checkpoint reads GPTQ's and AWQ's
// words so): value = (code - 8) * scale.
struct Int4Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t group = 0;           // a multiple of 64 that divides cols
  std::vector<uint8_t> codes;  // [rows * cols / 2], the even column in the high nibble
  std::vector<float> scales;   // [rows, cols / group]
};

// INVALID_ARGUMENT when the format is neither nf4 nor int8, or when the columns of an nf4 weight
// are no multiple of 64 (its blocks would straddle rows). Rows and columns that pad a record are
// zero.
absl::StatusOr<HostPackedWeight> Pack(const QuantizedMatrix& matrix);

// INVALID_ARGUMENT naming a group that is no multiple of 64 or does not divide the columns, or
// codes or scales of another number. The record repeats the scale of a group for each 64 columns of
// it.
absl::StatusOr<HostPackedWeight> PackInt4(const Int4Matrix& matrix);

// The canonical codes and scales again. REQUIRES: not of kInt4.
QuantizedMatrix Unpack(const HostPackedWeight& packed);
// REQUIRES: of kInt4, packed with this group.
Int4Matrix UnpackInt4(const HostPackedWeight& packed, int64_t group);

}  // namespace vernier::cuda
