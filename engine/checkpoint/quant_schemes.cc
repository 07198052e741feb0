#include "engine/checkpoint/quant_schemes.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_join.h"
#include "engine/checkpoint/json_fields.h"
#include "engine/checkpoint/stored_tensor.h"

namespace vernier {
namespace {

using enum PackedRole;

constexpr int64_t kMaxStateBytes = 4096;
constexpr absl::string_view kWeight = ".weight";

// ---- bitsandbytes: 4 bits ----

absl::StatusOr<nlohmann::json> ReadState(const FileTensor& tensor) {
  const std::string where = absl::StrCat(tensor.file->path(), ": tensor ", tensor.entry.name);
  if (tensor.entry.bytes > kMaxStateBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " has ", tensor.entry.bytes, " bytes, limit ", kMaxStateBytes));
  }
  std::string text(static_cast<size_t>(tensor.entry.bytes), '\0');
  if (absl::Status status = tensor.file->Read(
          tensor.entry.offset, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
      !status.ok()) {
    return status;
  }
  return ParseJsonObject(text, where);
}

absl::Status ReadStateShape(const JsonFields& state, PackedTensor* out) {
  constexpr int64_t kMaxDimension = int64_t{1} << 40;
  const nlohmann::json* shape = state.Find("shape");
  auto dimension = [&](size_t i) -> int64_t {
    const nlohmann::json& value = (*shape)[i];
    const bool good = value.is_number_unsigned() && value.get<uint64_t>() <= kMaxDimension;
    return good ? value.get<int64_t>() : 0;
  };
  const bool two = shape != nullptr && shape->is_array() && shape->size() == 2;
  out->file_rows = two ? dimension(0) : 0;
  out->cols = two ? dimension(1) : 0;
  if (out->file_rows > 0 && out->cols > 0) return absl::OkStatus();
  return state.Wrong("shape", absl::StrCat("two numbers from 1 to ", kMaxDimension));
}

// Codes of the row-major matrix in one run, whatever the type that they are stored as.
absl::Status LocateNf4(const QuantSettings&, const PartsFound& found, PackedTensor* out) {
  const absl::StatusOr<nlohmann::json> json = ReadState(*found.Find(kState));
  if (!json.ok()) return json.status();
  const JsonFields state(
      *json, absl::StrCat(found.Find(kState)->file->path(), ": tensor ", found.Of(kState).name));
  const absl::StatusOr<std::string> type = state.StringOr("quant_type", "nf4");
  if (!type.ok()) return type.status();
  if (*type != "nf4") return state.Wrong("quant_type", "nf4");
  if (absl::Status status = ReadStateShape(state, out); !status.ok()) return status;
  Nf4Blocks layout;
  const absl::StatusOr<int64_t> block = state.Integer("blocksize", 16, 1 << 16);
  if (!block.ok()) return block.status();
  layout.block = *block;

  const SafetensorsEntry& codes = found.Of(kCodes);
  int64_t values = 0;
  if (__builtin_mul_overflow(out->file_rows, out->cols, &values) ||
      values / 2 + values % 2 != codes.bytes) {
    return found.Wrong(kCodes, "has ", codes.bytes, " bytes, expected two codes a byte of the [",
                       out->file_rows, ", ", out->cols, "] that its quant_state says");
  }
  const int64_t blocks = (values - 1) / layout.block + 1;
  layout.nested = found.Of(kScales).type == "U8";
  out->type = layout.nested ? "bnb-nf4-dq" : "bnb-nf4";
  if (absl::Status status = found.CheckShape(kScales, {blocks}); !status.ok()) return status;
  if (absl::Status status = found.CheckShape(kCodebook, {16}); !status.ok()) return status;
  for (const PackedRole role : {kNestedScales, kNestedCodebook}) {
    if ((found.Find(role) != nullptr) == layout.nested) continue;
    return found.Wrong(kScales, "is ", found.Of(kScales).type, ", ",
                       layout.nested ? "but there is no nested_absmax or no nested_quant_map"
                                     : "expected U8 beside a nested_absmax");
  }
  if (layout.nested) {
    const absl::StatusOr<int64_t> nested = state.Integer("nested_blocksize", 1, 1 << 24);
    if (!nested.ok()) return nested.status();
    const absl::StatusOr<double> offset = state.Number("nested_offset", -FLT_MAX, FLT_MAX);
    if (!offset.ok()) return offset.status();
    layout.nested_block = *nested;
    layout.nested_offset = static_cast<float>(*offset);
    const int64_t nested_blocks = (blocks - 1) / *nested + 1;
    if (absl::Status status = found.CheckShape(kNestedScales, {nested_blocks}); !status.ok()) {
      return status;
    }
    if (absl::Status status = found.CheckShape(kNestedCodebook, {256}); !status.ok()) return status;
  }
  out->layout = layout;
  return absl::OkStatus();
}

absl::Status RefuseFp4(const QuantSettings&, const PartsFound& found, PackedTensor*) {
  const FileTensor& state = *found.Find(kState);
  return absl::UnimplementedError(absl::StrCat(state.file->path(), ": tensor ", state.entry.name,
                                               " is of FP4, which is not supported (NF4 is)"));
}

// ---- Integers ----

// One code a byte, -128 .. 127, row by row.
IntegerGrid SignedBytes(int64_t columns) {
  return {.bits = 8, .output_stride = columns, .column_stride = 1, .flip = 0x80};
}

int CodesLog2(int bits) { return std::countr_zero(static_cast<unsigned>(32 / bits)); }

// The words of an array [columns / codes of a word, outputs].
IntegerGrid WordsDownColumns(int bits, int64_t outputs) {
  return {.bits = bits,
          .words = true,
          .columns_log2 = CodesLog2(bits),
          .output_stride = 1,
          .column_stride = outputs};
}

// The words of an array [columns, outputs / codes of a word].
IntegerGrid WordsAcrossOutputs(int bits, int64_t outputs) {
  return {.bits = bits,
          .words = true,
          .outputs_log2 = CodesLog2(bits),
          .output_stride = 1,
          .column_stride = outputs * bits / 32};
}

// The type of scales, and the groups of the inputs: of the size that the settings say.
absl::Status LocateGroups(const QuantSettings& settings, const PartsFound& found,
                          const PackedTensor& tensor, GroupedIntegers* layout) {
  const absl::StatusOr<ScalarType> type = ScalarTypeOf(found.Of(kScales).type);
  if (!type.ok()) return type.status();
  layout->scale_type = *type;
  layout->group = settings.group == 0 ? tensor.cols : settings.group;
  if (tensor.cols % layout->group != 0) {
    return found.Wrong(kCodes, "has ", tensor.cols,
                       " inputs, expected a multiple of the group_size ", layout->group);
  }
  layout->groups = tensor.cols / layout->group;
  if (settings.reordered && found.Find(kGroups) == nullptr && layout->groups > 1) {
    return found.Wrong(kCodes, "has groups of any inputs, but no tensor says which they are");
  }
  return found.CheckShape(kGroups, {tensor.cols});
}

// Linear8bitLt: a row's largest magnitude is stored, code 127 stands for it.
absl::Status LocateBnbInt8(const QuantSettings&, const PartsFound& found, PackedTensor* out) {
  if (absl::Status status = found.CheckMatrix(kCodes); !status.ok()) return status;
  out->type = "bnb-int8";
  out->file_rows = found.Of(kCodes).shape[0];
  out->cols = found.Of(kCodes).shape[1];
  if (absl::Status status = found.CheckShape(kScales, {out->file_rows}); !status.ok()) {
    return status;
  }
  if (found.Find(kRowOrder) != nullptr && found.Of(kRowOrder).bytes != 1) {
    return found.Wrong(kRowOrder, "has ", found.Of(kRowOrder).bytes, " bytes, expected 1");
  }
  out->layout = GroupedIntegers{.codes = SignedBytes(out->cols),
                                .zeros = std::nullopt,
                                .zero = 128,
                                .scale_output_stride = 1,
                                .scale_factor = 1.0f / 127,
                                .group = out->cols};
  return absl::OkStatus();
}

// qweight [inputs / codes of a word, outputs], qzeros [groups, outputs / codes of a word], scales
// [groups, outputs], g_idx [inputs].
absl::Status LocateGptq(const QuantSettings& settings, const PartsFound& found, PackedTensor* out) {
  if (absl::Status status = found.CheckMatrix(kCodes); !status.ok()) return status;
  const int64_t word_codes = 32 / settings.bits;
  const int64_t outputs = found.Of(kCodes).shape[1];
  out->type = absl::StrCat("gptq-int", settings.bits);
  out->file_rows = outputs;
  out->cols = found.Of(kCodes).shape[0] * word_codes;
  GroupedIntegers layout{.codes = WordsDownColumns(settings.bits, outputs),
                         .zeros = WordsAcrossOutputs(settings.bits, outputs),
                         .scale_output_stride = 1,
                         .scale_group_stride = outputs};
  // The first format stores each zero point less one. GPTQModel takes that from a word, with the
  // borrow that a zero point of 0 leaves to the one above it, and adds it to a word.
  if (settings.less_one) layout.zeros->plus = settings.bits == 4 ? 0x11111111 : 0x01010101;
  if (absl::Status status = LocateGroups(settings, found, *out, &layout); !status.ok()) {
    return status;
  }
  if (outputs % word_codes != 0) {
    return found.Wrong(kCodes, "has ", outputs, " outputs, expected a multiple of ", word_codes);
  }
  if (absl::Status status = found.CheckShape(kZeros, {layout.groups, outputs / word_codes});
      !status.ok()) {
    return status;
  }
  out->layout = layout;
  return found.CheckShape(kScales, {layout.groups, outputs});
}

// qweight [inputs, outputs / 8], qzeros [groups, outputs / 8], scales [groups, outputs]: a word has
// the outputs 0, 2, 4, 6, 1, 3, 5, 7 from its low end.
absl::Status LocateAwq(const QuantSettings& settings, const PartsFound& found, PackedTensor* out) {
  if (absl::Status status = found.CheckMatrix(kCodes); !status.ok()) return status;
  const int64_t words = found.Of(kCodes).shape[1];
  const int64_t outputs = words * 8;
  out->type = "awq-int4";
  out->file_rows = outputs;
  out->cols = found.Of(kCodes).shape[0];
  IntegerGrid grid = WordsAcrossOutputs(4, outputs);
  grid.lanes = {0, 4, 1, 5, 2, 6, 3, 7};
  GroupedIntegers layout{
      .codes = grid, .zeros = grid, .scale_output_stride = 1, .scale_group_stride = outputs};
  if (absl::Status status = LocateGroups(settings, found, *out, &layout); !status.ok()) {
    return status;
  }
  if (absl::Status status = found.CheckShape(kZeros, {layout.groups, words}); !status.ok()) {
    return status;
  }
  out->layout = layout;
  return found.CheckShape(kScales, {layout.groups, outputs});
}

// weight_scale [outputs, groups], for both layouts of compressed-tensors; `zeros` is the grid of
// weight_zero_point, but for the groups of an output.
absl::Status LocateCompressed(const QuantSettings& settings, const PartsFound& found,
                              const IntegerGrid& codes, const IntegerGrid& zeros,
                              PackedTensor* out) {
  out->type = absl::StrCat("ct-int", settings.bits);
  GroupedIntegers layout{.codes = codes, .zeros = std::nullopt};
  if (absl::Status status = LocateGroups(settings, found, *out, &layout); !status.ok()) {
    return status;
  }
  layout.scale_output_stride = layout.groups;
  layout.scale_group_stride = 1;
  // Signed codes are stored from 0 up, those of words by pack_to_int32.
  layout.zero = 1 << (settings.bits - 1);
  if (settings.zero_points && found.Find(kZeros) == nullptr) {
    return found.Wrong(kCodes, "is not symmetric, but has no weight_zero_point beside it");
  }
  if (found.Find(kZeros) != nullptr) {
    layout.zeros = zeros;
    layout.zeros->output_stride = layout.groups;
  }
  out->layout = layout;
  return found.CheckShape(kScales, {out->file_rows, layout.groups});
}

// weight [outputs, inputs], weight_zero_point [outputs, groups].
absl::Status LocateCompressedBytes(const QuantSettings& settings, const PartsFound& found,
                                   PackedTensor* out) {
  if (absl::Status status = found.CheckMatrix(kCodes); !status.ok()) return status;
  if (settings.bits != 8) {
    return found.Wrong(kCodes, "is I8, expected codes of ", settings.bits,
                       " bits in weight_packed");
  }
  out->file_rows = found.Of(kCodes).shape[0];
  out->cols = found.Of(kCodes).shape[1];
  if (absl::Status status = LocateCompressed(settings, found, SignedBytes(out->cols),
                                             SignedBytes(/*columns=*/1), out);
      !status.ok()) {
    return status;
  }
  const int64_t groups = std::get<GroupedIntegers>(out->layout).groups;
  return found.CheckShape(kZeros, {out->file_rows, groups});
}

// weight_packed [outputs, inputs / codes of a word], weight_zero_point [outputs / codes, groups].
absl::Status LocateCompressedWords(const QuantSettings& settings, const PartsFound& found,
                                   PackedTensor* out) {
  if (absl::Status status = found.CheckMatrix(kCodes); !status.ok()) return status;
  const int64_t word_codes = 32 / settings.bits;
  const int64_t words = found.Of(kCodes).shape[1];
  out->file_rows = found.Of(kCodes).shape[0];
  out->cols = words * word_codes;
  IntegerGrid codes{.bits = settings.bits,
                    .words = true,
                    .columns_log2 = CodesLog2(settings.bits),
                    .output_stride = words,
                    .column_stride = 1};
  IntegerGrid zeros{.bits = settings.bits,
                    .words = true,
                    .outputs_log2 = CodesLog2(settings.bits),
                    .column_stride = 1};
  if (absl::Status status = LocateCompressed(settings, found, codes, zeros, out); !status.ok()) {
    return status;
  }
  const int64_t groups = std::get<GroupedIntegers>(out->layout).groups;
  const int64_t zero_words = (out->file_rows - 1) / word_codes + 1;
  if (absl::Status status = found.CheckShape(kShape, {2}); !status.ok()) return status;
  return found.CheckShape(kZeros, {zero_words, groups});
}

// ---- The table ----

constexpr absl::string_view kFloats = "F16 BF16 F32";

constexpr PartRow kNf4Parts[] = {{kState, ".weight.quant_state.bitsandbytes__nf4", "U8"},
                                 {kCodes, kWeight, ""},
                                 {kScales, ".weight.absmax", "F32 U8"},
                                 {kCodebook, ".weight.quant_map", "F32"},
                                 {kNestedScales, ".weight.nested_absmax", "F32", false},
                                 {kNestedCodebook, ".weight.nested_quant_map", "F32", false}};
constexpr PartRow kFp4Parts[] = {{kState, ".weight.quant_state.bitsandbytes__fp4", ""}};
constexpr PartRow kBnbInt8Parts[] = {
    {kScales, ".SCB", "F32"}, {kCodes, kWeight, "I8"}, {kRowOrder, ".weight_format", "U8", false}};
constexpr PartRow kGptqParts[] = {{kCodes, ".qweight", "I32"},
                                  {kZeros, ".qzeros", "I32"},
                                  {kScales, ".scales", kFloats},
                                  {kGroups, ".g_idx", "I32", false}};
constexpr PartRow kAwqParts[] = {
    {kCodes, ".qweight", "I32"}, {kZeros, ".qzeros", "I32"}, {kScales, ".scales", kFloats}};
constexpr PartRow kCompressedWordsParts[] = {{kCodes, ".weight_packed", "I32"},
                                             {kScales, ".weight_scale", kFloats},
                                             {kShape, ".weight_shape", "I64 I32"},
                                             {kZeros, ".weight_zero_point", "I32", false},
                                             {kGroups, ".weight_g_idx", "I32", false}};
constexpr PartRow kCompressedBytesParts[] = {{kScales, ".weight_scale", kFloats},
                                             {kCodes, kWeight, "I8"},
                                             {kZeros, ".weight_zero_point", "I8", false},
                                             {kGroups, ".weight_g_idx", "I32", false}};

constexpr QuantScheme kSchemes[] = {
    {QuantMethod::kBitsAndBytes, kNf4Parts, LocateNf4},
    {QuantMethod::kBitsAndBytes, kFp4Parts, RefuseFp4},
    {QuantMethod::kBitsAndBytes, kBnbInt8Parts, LocateBnbInt8},
    {QuantMethod::kGptq, kGptqParts, LocateGptq},
    {QuantMethod::kAwq, kAwqParts, LocateAwq},
    {QuantMethod::kCompressedTensors, kCompressedWordsParts, LocateCompressedWords},
    {QuantMethod::kCompressedTensors, kCompressedBytesParts, LocateCompressedBytes},
};

}  // namespace

absl::Status PartsFound::CheckShape(PackedRole role, const std::vector<int64_t>& expected) const {
  if (Find(role) == nullptr || Of(role).shape == expected) return absl::OkStatus();
  return Wrong(role, "has shape [", absl::StrJoin(Of(role).shape, ", "), "], expected [",
               absl::StrJoin(expected, ", "), "]");
}

absl::Status PartsFound::CheckMatrix(PackedRole role) const {
  const std::vector<int64_t>& shape = Of(role).shape;
  if (shape.size() == 2 && shape[0] > 0 && shape[1] > 0) return absl::OkStatus();
  return Wrong(role, "has shape [", absl::StrJoin(shape, ", "), "], expected two dimensions");
}

std::span<const QuantScheme> QuantSchemes() { return kSchemes; }

}  // namespace vernier
