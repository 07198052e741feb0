// How a weight is stored: one row of a table a format.
//
// To add a format: a row here, an encoder in quantize.cc, a kernel and a row in each backend, a
// line in the conformance test. Nothing else in the project compares format ids.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vernier {

// The index of a format's row.
enum class FormatId : uint8_t { kF32, kF16, kBF16, kInt8, kNf4, kNf4Dq };
inline constexpr int kNumFormats = 6;

struct QuantFormat {
  FormatId id;
  const char* name;    // as configs and replies spell it
  const char* method;  // one phrase for reports
  int bits;            // of one code
  // Consecutive weights that share a scale: 0 no scale, -1 one output row, else a block of the
  // row-major flattened weight.
  int group;
  int nested_group;  // scales that share a second-level scale; 0 where scales are fp32
  // Order of precision: Compare's default reference is the variant of highest rank.
  int precision_rank;
};

std::span<const QuantFormat> QuantFormats();
const QuantFormat& FormatOf(FormatId id);

// INVALID_ARGUMENT naming the known formats when `name` is none of them.
absl::StatusOr<FormatId> ParseFormat(absl::string_view name);

// Bytes of codes and scales of a [rows, cols] weight, without a backend's padding.
int64_t FormatBytes(FormatId id, int64_t rows, int64_t cols);

}  // namespace vernier
