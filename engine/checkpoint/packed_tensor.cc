#include "engine/checkpoint/packed_tensor.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/quantize.h"

namespace vernier {
namespace {

// Rows and columns decoded together: the words of 16 outputs are a cache line of an input-major
// file, and 64 such lines stay in the first cache while each row is written forwards.
constexpr int64_t kTileRows = 16;
constexpr int64_t kTileCols = 64;

struct Bytes {
  std::shared_ptr<const uint8_t[]> data;  // null: no such part
  const PackedPart* part = nullptr;       // of the caller's tensor
};
using Parts = std::array<Bytes, kNumPackedRoles>;

inline uint32_t CodeAt(const IntegerGrid& grid, const uint8_t* bytes, int64_t output,
                       int64_t column) {
  const int64_t container = (output >> grid.outputs_log2) * grid.output_stride +
                            (column >> grid.columns_log2) * grid.column_stride;
  if (!grid.words) return bytes[container] ^ grid.flip;
  const int64_t nth = grid.outputs_log2 != 0 ? output & ((1 << grid.outputs_log2) - 1)
                                             : column & ((1 << grid.columns_log2) - 1);
  const uint32_t word = ElementAt<uint32_t>(bytes, container) + grid.plus;
  return (word >> (grid.lanes[nth] * grid.bits)) & ((1u << grid.bits) - 1);
}

// ---- Integers ----

// What decoding needs, kept by the source.
struct Integers {
  GroupedIntegers layout;
  int64_t cols = 0;
  std::shared_ptr<const uint8_t[]> codes, scales, zeros;
  std::shared_ptr<const uint8_t[]> group_of;  // int32 [cols]; null: groups are consecutive
};

// Rows [first_row, first_row + count) of the file's matrix, at most kTileRows.
void DecodeTile(const Integers& in, int64_t first_row, int64_t count, float* out) {
  const GroupedIntegers& layout = in.layout;
  const int64_t groups = layout.groups;
  std::vector<float> scale(static_cast<size_t>(count * groups));
  std::vector<int32_t> zero(scale.size(), layout.zero);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t row = first_row + i;
      scale[i * groups + g] = layout.scale_factor * FloatAt(layout.scale_type, in.scales.get(),
                                                            row * layout.scale_output_stride +
                                                                g * layout.scale_group_stride);
      if (layout.zeros.has_value()) {
        zero[i * groups + g] = static_cast<int32_t>(CodeAt(*layout.zeros, in.zeros.get(), row, g));
      }
    }
  }
  for (int64_t col = 0; col < in.cols; col += kTileCols) {
    const int64_t end = std::min(col + kTileCols, in.cols);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t k = col; k < end;) {
        const int64_t group =
            in.group_of != nullptr ? ElementAt<int32_t>(in.group_of.get(), k) : k / layout.group;
        const int64_t same_end =
            in.group_of != nullptr ? k + 1 : std::min(end, (group + 1) * layout.group);
        const int32_t zero_point = zero[i * groups + group];
        const float factor = scale[i * groups + group];
        for (; k < same_end; ++k) {
          const auto code =
              static_cast<int32_t>(CodeAt(layout.codes, in.codes.get(), first_row + i, k));
          out[i * in.cols + k] = static_cast<float>(code - zero_point) * factor;
        }
      }
    }
  }
}

absl::Status WrongPart(const Bytes& bytes, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(bytes.part->extent.file->path(), ": tensor ", bytes.part->file_name, what));
}

absl::Status CheckFinite(const Bytes& bytes, ScalarType type) {
  const int64_t count = bytes.part->extent.bytes() / ScalarBytes(type);
  for (int64_t i = 0; i < count; ++i) {
    const float value = FloatAt(type, bytes.data.get(), i);
    if (std::isfinite(value)) continue;
    return WrongPart(bytes, absl::StrCat("[", i, "] is ", value, ", expected a finite number"));
  }
  return absl::OkStatus();
}

absl::Status CheckGroups(const GroupedIntegers& layout, int64_t cols, const Bytes& stored) {
  if (stored.data == nullptr) return absl::OkStatus();
  for (int64_t k = 0; k < cols; ++k) {
    const int32_t group = ElementAt<int32_t>(stored.data.get(), k);
    if (group >= 0 && group < layout.groups) continue;
    return WrongPart(stored,
                     absl::StrCat("[", k, "] is ", group, ", expected 0 to ", layout.groups - 1));
  }
  return absl::OkStatus();
}

absl::Status CheckShapePart(const PackedTensor& tensor, const Bytes& stored) {
  if (stored.data == nullptr) return absl::OkStatus();
  const bool wide = stored.part->type == "I64";
  const auto value = [&](int i) {
    return wide ? ElementAt<int64_t>(stored.data.get(), i)
                : ElementAt<int32_t>(stored.data.get(), i);
  };
  if (value(0) == tensor.file_rows && value(1) == tensor.cols) return absl::OkStatus();
  return WrongPart(stored, absl::StrCat(" says [", value(0), ", ", value(1), "], the codes are [",
                                        tensor.file_rows, ", ", tensor.cols, "]"));
}

using Reader = std::function<absl::Status(int64_t first_row, int64_t count, float* out)>;

absl::StatusOr<Reader> OpenLayout(const PackedTensor& tensor, const GroupedIntegers& layout,
                                  const Parts& parts) {
  auto part = [&](PackedRole role) -> const Bytes& { return parts[static_cast<size_t>(role)]; };
  if (absl::Status status = CheckShapePart(tensor, part(PackedRole::kShape)); !status.ok()) {
    return status;
  }
  if (const Bytes& order = part(PackedRole::kRowOrder); order.data != nullptr && order.data[0]) {
    return absl::UnimplementedError(absl::StrCat(order.part->extent.file->path(), ": tensor ",
                                                 order.part->file_name, " is ", int{order.data[0]},
                                                 ", which is not supported (0, row by row, is)"));
  }
  if (absl::Status status = CheckFinite(part(PackedRole::kScales), layout.scale_type);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckGroups(layout, tensor.cols, part(PackedRole::kGroups));
      !status.ok()) {
    return status;
  }
  auto integers = std::make_shared<const Integers>(
      Integers{layout, tensor.cols, part(PackedRole::kCodes).data, part(PackedRole::kScales).data,
               part(PackedRole::kZeros).data, part(PackedRole::kGroups).data});
  return [integers = std::move(integers)](int64_t first_row, int64_t count, float* out) {
    for (int64_t i = 0; i < count; i += kTileRows) {
      DecodeTile(*integers, first_row + i, std::min(kTileRows, count - i),
                 out + i * integers->cols);
    }
    return absl::OkStatus();
  };
}

// ---- NF4 ----

struct Nf4 {
  Nf4Blocks layout;
  int64_t cols = 0;
  std::shared_ptr<const uint8_t[]> codes, absmax, nested_absmax, nested_codebook;
};

// May be slightly negative when nested: the offset is the mean, and codes are rounded.
float AbsMaxOf(const Nf4& in, int64_t block) {
  if (!in.layout.nested) return ElementAt<float>(in.absmax.get(), block);
  return ElementAt<float>(in.nested_codebook.get(), in.absmax[block]) *
             ElementAt<float>(in.nested_absmax.get(), block / in.layout.nested_block) +
         in.layout.nested_offset;
}

void DecodeNf4(const Nf4& in, int64_t first_row, int64_t count, float* out) {
  const int64_t first = first_row * in.cols;
  const int64_t last = first + count * in.cols;
  for (int64_t i = first; i < last;) {
    const int64_t block = i / in.layout.block;
    const float absmax = AbsMaxOf(in, block);
    const int64_t end = std::min(last, (block + 1) * in.layout.block);
    for (; i < end; ++i) {
      const uint8_t pair = in.codes[i / 2];
      out[i - first] = kNf4Values[i % 2 == 0 ? pair >> 4 : pair & 15] * absmax;
    }
  }
}

absl::Status CheckNotNegative(const Bytes& bytes) {
  const int64_t count = bytes.part->extent.bytes() / 4;
  for (int64_t i = 0; i < count; ++i) {
    const float value = ElementAt<float>(bytes.data.get(), i);
    if (value >= 0 && std::isfinite(value)) continue;
    return WrongPart(bytes,
                     absl::StrCat("[", i, "] is ", value, ", expected a finite number from 0"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Reader> OpenLayout(const PackedTensor& tensor, const Nf4Blocks& layout,
                                  const Parts& parts) {
  auto part = [&](PackedRole role) -> const Bytes& { return parts[static_cast<size_t>(role)]; };
  const Bytes& codebook = part(PackedRole::kCodebook);
  for (int i = 0; i < 16; ++i) {
    const float value = ElementAt<float>(codebook.data.get(), i);
    if (value == kNf4Values[i]) continue;
    return WrongPart(codebook,
                     absl::StrCat("[", i, "] is ", value, ", expected NF4's ", kNf4Values[i]));
  }
  const PackedRole stored = layout.nested ? PackedRole::kNestedScales : PackedRole::kScales;
  if (absl::Status status = CheckNotNegative(part(stored)); !status.ok()) return status;
  if (layout.nested) {
    if (absl::Status status = CheckFinite(part(PackedRole::kNestedCodebook), ScalarType::kF32);
        !status.ok()) {
      return status;
    }
  }
  Nf4 nf4{layout,
          tensor.cols,
          part(PackedRole::kCodes).data,
          part(PackedRole::kScales).data,
          part(PackedRole::kNestedScales).data,
          part(PackedRole::kNestedCodebook).data};
  return [nf4 = std::move(nf4)](int64_t first_row, int64_t count, float* out) {
    DecodeNf4(nf4, first_row, count, out);
    return absl::OkStatus();
  };
}

}  // namespace

int64_t PackedTensor::bytes() const {
  int64_t sum = 0;
  for (const PackedPart& part : parts) sum += part.extent.bytes();
  return sum;
}

const PackedPart& PackedTensor::codes() const {
  return *std::find_if(parts.begin(), parts.end(),
                       [](const PackedPart& part) { return part.role == PackedRole::kCodes; });
}

absl::StatusOr<WeightSource> OpenPacked(const PackedTensor& tensor, const std::string& name) {
  Parts parts;
  for (const PackedPart& part : tensor.parts) {
    auto bytes = ReadTensorBytes(part.extent, part.xxh3, name + part.suffix);
    if (!bytes.ok()) return bytes.status();
    parts[static_cast<size_t>(part.role)] = {*std::move(bytes), &part};
  }
  absl::StatusOr<Reader> reader = std::visit(
      [&](const auto& layout) { return OpenLayout(tensor, layout, parts); }, tensor.layout);
  if (!reader.ok()) return reader.status();
  return WeightSource{.name = name,
                      .rows = tensor.rows,
                      .cols = tensor.cols,
                      .read = [read = *std::move(reader), first = tensor.first_row](
                                  int64_t first_row, int64_t count, float* out) {
                        return read(first + first_row, count, out);
                      }};
}

}  // namespace vernier
