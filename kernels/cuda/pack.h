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
  std::vector<float> row_scales;  // int8: [RecordGroups(rows) * 32], zero past `rows`; nf4: empty
};

// INVALID_ARGUMENT when the format is neither nf4 nor int8, or when the columns of an nf4 weight
// are no multiple of 64 (its blocks would straddle rows). Rows and columns that pad a record are
// zero.
absl::StatusOr<HostPackedWeight> Pack(const QuantizedMatrix& matrix);

// The canonical codes and scales again.
QuantizedMatrix Unpack(const HostPackedWeight& packed);

}  // namespace vernier::cuda
