// The header of a safetensors file: which tensors there are and where their bytes lie.
//
// Format: github.com/huggingface/safetensors: a little-endian 64-bit header length, that many bytes
// of JSON, then the tensors' bytes. The file is hostile: names are unique, types known, shapes
// agree with bytes, and tensors cover the file's data without a gap or an overlap.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/random_access_file.h"

namespace vernier {

struct SafetensorsEntry {
  std::string name;
  std::string type;  // as the file has it: "BF16"
  std::vector<int64_t> shape;
  int64_t offset = 0;  // of its first byte in the file
  int64_t bytes = 0;
};

// In order of offset. INVALID_ARGUMENT naming the file, the tensor, the value and what was
// expected.
absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(const RandomAccessFile& file);

}  // namespace vernier
