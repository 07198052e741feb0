// Rows of a tensor as they lie in a GGUF file, and their values in our order.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/dequantize.h"
#include "engine/checkpoint/random_access_file.h"
#include "engine/checkpoint/tensor_bytes.h"
#include "kernels/tensor.h"

namespace vernier {

// `rows` rows of a matrix [outputs, inputs] from `offset`; a vector is a matrix of one column.
struct GgufRows {
  std::shared_ptr<const RandomAccessFile> file;
  const GgmlType* type = nullptr;
  int64_t offset = 0;  // of the first of these rows, bytes
  int64_t rows = 0;
  int64_t cols = 0;  // a multiple of the type's block
  // Where it is not 0, each run of this many rows is one head whose rotary pairs the file
  // interleaves: its row 2 * j + p is our row p * head_dim / 2 + j.
  int64_t interleaved_head_dim = 0;  // even; divides `rows`
  std::optional<uint64_t> xxh3;      // of the bytes of these rows, where a manifest says it
};

// The bytes of these rows.
TensorExtent ExtentOf(const GgufRows& rows);

// Reads them once; the source keeps them. Errors as ReadTensorBytes'. REQUIRES: the rows lie within
// the file.
absl::StatusOr<WeightSource> OpenGgufRows(const GgufRows& rows, const std::string& name);

}  // namespace vernier
