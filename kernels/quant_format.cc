#include "kernels/quant_format.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

constexpr QuantFormat kFormats[kNumFormats] = {
    {FormatId::kF32, "fp32", "IEEE binary32, as stored", 32, 0, 0, 6},
    {FormatId::kF16, "fp16", "IEEE binary16, round to nearest even", 16, 0, 0, 5},
    {FormatId::kBF16, "bf16", "bfloat16, round to nearest even", 16, 0, 0, 4},
    {FormatId::kInt8, "int8", "weight-only, symmetric per output row", 8, -1, 0, 3},
    {FormatId::kNf4, "nf4", "NormalFloat 4, fp32 absmax a block of 64", 4, 64, 0, 2},
    {FormatId::kNf4Dq, "nf4-dq", "NormalFloat 4, absmax in 8-bit blocks of 256", 4, 64, 256, 1},
};

constexpr int64_t DivideUp(int64_t value, int64_t by) { return value / by + (value % by != 0); }

}  // namespace

std::span<const QuantFormat> QuantFormats() { return kFormats; }

const QuantFormat& FormatOf(FormatId id) {
  const int index = static_cast<int>(id);
  VERNIER_CHECK(index < kNumFormats);
  VERNIER_CHECK(kFormats[index].id == id);
  return kFormats[index];
}

absl::StatusOr<FormatId> ParseFormat(absl::string_view name) {
  for (const QuantFormat& format : kFormats) {
    if (name == format.name) return format.id;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown format '", name,
      "', known: ", absl::StrJoin(kFormats, ", ", [](std::string* out, const QuantFormat& f) {
        absl::StrAppend(out, f.name);
      })));
}

int64_t FormatBytes(FormatId id, int64_t rows, int64_t cols) {
  const QuantFormat& format = FormatOf(id);
  const int64_t weights = rows * cols;
  int64_t bytes = DivideUp(weights * format.bits, 8);
  const int64_t scales =
      format.group < 0 ? rows : (format.group == 0 ? 0 : DivideUp(weights, format.group));
  if (format.nested_group == 0) return bytes + scales * 4;
  // 8-bit scales, the fp32 scale of each nested block, and the offset.
  return bytes + scales + DivideUp(scales, format.nested_group) * 4 + 4;
}

}  // namespace vernier
