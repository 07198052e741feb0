// A matrix that a file keeps as codes and scales, and its values in our orientation.
//
// Two layouts cover the methods that are read (quant_schemes.h): integers whose groups of inputs
// share a scale and a zero point, and bitsandbytes' NF4. Values are computed in fp32 from what is
// stored: nothing is rounded before the format that they are wanted in.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/tensor_bytes.h"
#include "kernels/tensor.h"

namespace vernier {

enum class PackedRole : uint8_t {
  kCodes,
  kScales,          // NF4: absmax of the blocks, or their codes when nested
  kZeros,           // packed as codes are
  kGroups,          // int32 [inputs]: the group of each
  kCodebook,        // NF4: fp32 [16]
  kNestedScales,    // NF4: fp32 [blocks of blocks]
  kNestedCodebook,  // NF4: fp32 [256]
  kShape,           // int32 or int64 [2]: outputs, inputs
  kRowOrder,        // uint8: 0
  kState,           // read when the file is opened
};
inline constexpr int kNumPackedRoles = 10;

// One of the file's tensors that make the matrix.
struct PackedPart {
  PackedRole role = PackedRole::kCodes;
  std::string file_name;  // "model.layers.0.mlp.up_proj.qzeros"
  std::string suffix;     // behind the canonical name in a manifest: ".qzeros"; none for the codes
  std::string type;       // as safetensors calls it
  TensorExtent extent;
  std::optional<uint64_t> xxh3;  // where a manifest says it
};

// Unsigned integers of a matrix [outputs, columns], several in a container: a byte, or a
// little-endian word of 32 bits. A column is an input of the codes, a group of the zero points.
struct IntegerGrid {
  int bits = 8;
  bool words = false;
  int outputs_log2 = 0;       // of a container's codes along the outputs; one of the two is 0
  int columns_log2 = 0;       // along the columns
  int64_t output_stride = 0;  // containers
  int64_t column_stride = 0;
  std::array<uint8_t, 8> lanes{0, 1, 2, 3, 4, 5, 6, 7};  // place of a container's i-th code
  uint32_t plus = 0;  // added to a container before it is taken apart
  uint32_t flip = 0;  // xor of a code: 0x80 makes -128 .. 127 ascend from 0
};

// value = (code - zero) * scale
struct GroupedIntegers {
  IntegerGrid codes;
  std::optional<IntegerGrid> zeros;  // otherwise `zero` is that of every group
  int zero = 0;
  ScalarType scale_type = ScalarType::kF32;
  int64_t scale_output_stride = 0;  // scales
  int64_t scale_group_stride = 0;
  float scale_factor = 1;  // of each scale
  int64_t groups = 1;
  int64_t group = 0;  // consecutive inputs of one, unless PackedRole::kGroups says which they are
};

// value = codebook[code] * absmax of its block of the row-major matrix; the even element is in the
// high half of a byte. Nested: absmax = nested codebook[its code] * nested absmax + offset.
struct Nf4Blocks {
  int64_t block = 64;  // values
  bool nested = false;
  int64_t nested_block = 256;  // blocks
  float nested_offset = 0;
};

struct PackedTensor {
  std::string type;  // "gptq-int4"
  std::vector<PackedPart> parts;
  std::variant<GroupedIntegers, Nf4Blocks> layout;
  // The rows [first_row, first_row + rows) of `file_rows`, [outputs, inputs]. Parts are read whole.
  int64_t file_rows = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t cols = 0;

  int64_t bytes() const;  // of all parts
  const PackedPart& codes() const;
};

// Reads the parts once; the source keeps them, and decodes rows on demand. Errors as
// ReadTensorBytes'; INVALID_ARGUMENT naming the file, the tensor, the value and what was expected
// for scales that are not finite, an absmax below 0, a codebook that is not NF4's and a group that
// is not there; UNIMPLEMENTED for a row order other than 0. REQUIRES: the sizes of parts agree with
// the layout.
absl::StatusOr<WeightSource> OpenPacked(const PackedTensor& tensor, const std::string& name);

}  // namespace vernier
