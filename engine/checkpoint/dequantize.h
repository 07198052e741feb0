// The tensor types of GGML as a table: how many bytes a block of values takes, and its decoder.
//
// Ids, block layouts and arithmetic are those of ggml (ggml.h's ggml_type, ggml-quants.c's
// dequantize_row_*). To add a type: a decoder and a row in dequantize.cc, a vector in
// tests/data/gguf.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace vernier {

struct GgmlType {
  uint32_t id = 0;
  const char* name = "";  // lower case: "bf16", "q4_1"
  int block_values = 1;   // consecutive values of a row that are stored together
  int block_bytes = 0;
  // Decodes `blocks` blocks at `in` [blocks * block_bytes] into `out` [blocks * block_values];
  // `in` needs no alignment.
  void (*decode)(const uint8_t* in, int64_t blocks, float* out) = nullptr;

  bool quantized() const { return block_values > 1; }
  // Bytes of a row of `values` values. REQUIRES: a multiple of block_values.
  int64_t RowBytes(int64_t values) const { return values / block_values * block_bytes; }
};

// UNIMPLEMENTED with the type's name, or its id when ggml has no such type, and what is supported.
absl::StatusOr<const GgmlType*> FindGgmlType(uint32_t id);

// "q6_k" for the id of any of ggml's types, also those that cannot be decoded; "type 99" otherwise.
std::string GgmlTypeName(uint32_t id);

}  // namespace vernier
