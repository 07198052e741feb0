// The header of a GGUF file, version 2 or 3: its metadata, which tensors there are, where they lie.
//
// Format: docs/gguf.md of ggml. Little-endian: "GGUF", version, counts of tensors and keys; the
// keys with typed values; the tensors' names, dimensions, types and offsets; the data, aligned.
// The file is hostile: every count and length is compared with the bytes that are left before
// anything is allocated, and metadata never takes more than a few times its bytes in memory. What
// follows the last tensor is not read, as by ggml: writers pad it, and no value depends on it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/dequantize.h"
#include "engine/checkpoint/random_access_file.h"

namespace vernier {

// Integers of every width are int64_t, but uint64_t above its range; floats of both widths are
// double. Arrays of booleans are arrays of integers, arrays of arrays are refused.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;  // as the file has it: "blk.0.attn_q.weight"
  const GgmlType* type = nullptr;
  std::vector<int64_t> shape;  // 1 to 4, slowest first: [outputs, inputs], the file's reversed
  int64_t offset = 0;          // of its first byte in the file
  int64_t bytes = 0;
};

struct GgufHeader {
  int64_t version = 0;
  int64_t alignment = 0;  // of tensors, bytes
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;  // in the file's order
};

// INVALID_ARGUMENT naming the file, the key or tensor, the value and the limit; UNIMPLEMENTED for a
// version or a tensor type that is not supported.
absl::StatusOr<GgufHeader> ReadGgufHeader(const RandomAccessFile& file);

}  // namespace vernier
