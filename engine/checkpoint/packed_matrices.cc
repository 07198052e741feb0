#include "engine/checkpoint/packed_matrices.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace vernier {
namespace {

constexpr absl::string_view kWeight = ".weight";

// Tensors by name.
using ByName = std::map<absl::string_view, size_t>;

absl::Status AddPart(const PartRow& row, const FileTensor& tensor, PackedTensor* out) {
  const SafetensorsEntry& entry = tensor.entry;
  const std::vector<absl::string_view> types = absl::StrSplit(row.types, ' ', absl::SkipEmpty());
  if (!types.empty() && std::find(types.begin(), types.end(), entry.type) == types.end()) {
    return absl::InvalidArgumentError(absl::StrCat(tensor.file->path(), ": tensor ", entry.name,
                                                   " is ", entry.type, ", expected ",
                                                   absl::StrJoin(types, " or ")));
  }
  absl::string_view suffix = row.role == PackedRole::kCodes ? "" : row.suffix;
  if (absl::StartsWith(suffix, ".weight.")) suffix.remove_prefix(kWeight.size());
  out->parts.push_back(
      {.role = row.role,
       .file_name = entry.name,
       .suffix = std::string(suffix),
       .type = entry.type,
       .extent = {.file = tensor.file, .offset = entry.offset, .run_bytes = entry.bytes},
       .xxh3 = std::nullopt});
  return absl::OkStatus();
}

absl::Status Missing(const FileTensor& tensor, absl::string_view module, absl::string_view suffix) {
  return absl::InvalidArgumentError(absl::StrCat(tensor.file->path(), ": tensor ",
                                                 tensor.entry.name, " is there, but not ", module,
                                                 suffix, ", which belongs to it"));
}

// The matrix of `module`, which has the scheme's first part.
absl::StatusOr<PackedMatrix> Collect(const QuantSettings& settings, const QuantScheme& scheme,
                                     absl::string_view module, const ByName& by_name,
                                     std::span<const FileTensor> tensors,
                                     std::vector<bool>* is_part) {
  PackedMatrix matrix{.weight_name = absl::StrCat(module, kWeight), .tensor = {}};
  PartsFound found;
  const FileTensor* first = nullptr;
  for (const PartRow& row : scheme.parts) {
    const auto it = by_name.find(absl::StrCat(module, row.suffix));
    if (it == by_name.end()) {
      if (row.required) return Missing(*first, module, row.suffix);
      continue;
    }
    const FileTensor& tensor = tensors[it->second];
    if (first == nullptr) first = &tensor;
    if (absl::Status status = AddPart(row, tensor, &matrix.tensor); !status.ok()) return status;
    found.Add(row.role, &tensor);
    (*is_part)[it->second] = true;
  }
  if (absl::Status status = scheme.locate(settings, found, &matrix.tensor); !status.ok()) {
    return status;
  }
  matrix.tensor.rows = matrix.tensor.file_rows;
  return matrix;
}

// A part whose matrix is not there would be refused as a name that no architecture has.
absl::Status CheckLoneParts(const QuantSettings& settings, std::span<const FileTensor> tensors,
                            const std::vector<bool>& is_part) {
  for (const QuantScheme& scheme : QuantSchemes()) {
    if (scheme.method != settings.method) continue;
    for (const PartRow& row : scheme.parts) {
      if (row.suffix == kWeight) continue;
      for (size_t i = 0; i < tensors.size(); ++i) {
        absl::string_view module = tensors[i].entry.name;
        if (is_part[i] || !absl::ConsumeSuffix(&module, row.suffix)) continue;
        return Missing(tensors[i], module, scheme.parts[0].suffix);
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PackedMatrices> FindPacked(const QuantSettings& settings,
                                          std::span<const FileTensor> tensors) {
  PackedMatrices found{.matrices = {}, .is_part = std::vector<bool>(tensors.size())};
  if (settings.method == QuantMethod::kNone) return found;
  ByName by_name;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto [it, added] = by_name.emplace(tensors[i].entry.name, i);
    if (added) continue;
    return absl::InvalidArgumentError(absl::StrCat(tensors[i].file->path(), ": tensor ", it->first,
                                                   " is in ", tensors[it->second].file->path(),
                                                   " too"));
  }
  for (const QuantScheme& scheme : QuantSchemes()) {
    if (scheme.method != settings.method) continue;
    for (size_t i = 0; i < tensors.size(); ++i) {
      absl::string_view module = tensors[i].entry.name;
      if (found.is_part[i] || !absl::ConsumeSuffix(&module, scheme.parts[0].suffix)) continue;
      absl::StatusOr<PackedMatrix> matrix =
          Collect(settings, scheme, module, by_name, tensors, &found.is_part);
      if (!matrix.ok()) return matrix.status();
      found.matrices.push_back(*std::move(matrix));
    }
  }
  if (absl::Status status = CheckLoneParts(settings, tensors, found.is_part); !status.ok()) {
    return status;
  }
  return found;
}

}  // namespace vernier
