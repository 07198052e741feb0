// What the backend's kernels take: weights, matrices and the arrays of a step as plain values, for
// the host and for the device.
//
// All pointers are device memory unless a name says otherwise.
#pragma once

#include <cstdint>

#include "kernels/cuda/packed_layout.h"

namespace vernier::cuda {

enum class Scalar : uint8_t { kF32, kF16, kBF16 };

VERNIER_HOST_DEVICE constexpr int ScalarSize(Scalar type) { return type == Scalar::kF32 ? 4 : 2; }

// Rows of values, `stride` apart.
struct Matrix {
  void* data = nullptr;
  Scalar type = Scalar::kF32;
  int64_t stride = 0;
};

// How a weight lies in memory.
enum class Encoding : uint8_t {
  kF32,          // row-major
  kF16,          // row-major
  kBF16,         // row-major
  kInt8Rows,     // row-major codes, a scale a row
  kNf4Blocks,    // bitsandbytes' bytes and an absmax a block of 64, of the flattened weight
  kInt8Records,  // packed_layout.h
  kNf4Records,
};

struct DeviceWeight {
  Encoding encoding = Encoding::kF32;
  int64_t rows = 0;  // outputs
  int64_t cols = 0;  // inputs
  const uint8_t* codes = nullptr;
  const float* scales = nullptr;  // kInt8*: [rows], padded with the records; kNf4Blocks: [blocks]
};

struct DeviceNorm {
  bool centered = false;          // layer norm; else RMS
  const float* weight = nullptr;  // null: no norm
  const float* bias = nullptr;
  float epsilon = 0;
};

// Rows that each hold the one new token of a sequence; a context of 0 is padding.
struct alignas(16) DecodeRow {
  int32_t row = 0;
  int32_t first_block = 0;  // into StepArrays::blocks
  int32_t context = 0;      // keys that the row may see, its own included
  int32_t first_group = 0;  // of keys in sight (decode_plan.h)
  int32_t line = 0;         // groups of the rows before
};

// What a block of threads attends to: `groups` of the line of decode_plan.h.
struct alignas(16) DecodeShare {
  int32_t row = 0;    // index of the first DecodeRow
  int32_t tile = 0;   // of heads
  int32_t group = 0;  // from the row's first_group on
  int32_t groups = 0;
};

// Consecutive rows of one sequence that are attended together.
struct PrefillTile {
  int32_t first_row = 0;
  int32_t num_rows = 0;
  int32_t first_block = 0;
  int32_t first_position = 0;
};

// The arrays of a batch on the device.
struct StepArrays {
  const int32_t* ids = nullptr;         // [rows]
  const int32_t* positions = nullptr;   // [rows]
  const int32_t* slots = nullptr;       // [rows]
  const int32_t* logit_rows = nullptr;  // [logit rows]
  const PrefillTile* tiles = nullptr;   // [tiles]
  const int32_t* blocks = nullptr;
};

// Of the door's AttentionShape.
struct HeadShape {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  float scale = 0;
  int window = 0;
};

}  // namespace vernier::cuda
