// A tensor of 16- or 32-bit floats as it lies in a file, and its values in our orientation.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/random_access_file.h"
#include "engine/checkpoint/tensor_bytes.h"
#include "kernels/tensor.h"

namespace vernier {

// UNIMPLEMENTED for a safetensors type that weights are not read from.
absl::StatusOr<ScalarType> ScalarTypeOf(absl::string_view safetensors_type);

// The rows [first_row, first_row + rows) of a matrix of `file_rows`, [outputs, inputs]; a vector is
// a matrix of one column. The file has it row by row, or column by column when `transposed`.
struct StoredTensor {
  std::shared_ptr<const RandomAccessFile> file;
  int64_t offset = 0;  // of the whole tensor, bytes
  ScalarType type = ScalarType::kF32;
  bool transposed = false;
  int64_t file_rows = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  std::optional<uint64_t> xxh3;  // of the bytes of these rows, where a manifest says it
};

// The bytes of these rows alone.
TensorExtent ExtentOf(const StoredTensor& tensor);

// Reads them once; the source keeps them. Errors as ReadTensorBytes'. REQUIRES: the tensor lies
// within the file.
absl::StatusOr<WeightSource> OpenStored(const StoredTensor& tensor, const std::string& name);

}  // namespace vernier
