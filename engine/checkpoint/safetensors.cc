#include "engine/checkpoint/safetensors.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/checkpoint/safetensors_sax.h"

namespace vernier {
namespace {

// The limit of the reference implementation.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr int64_t kLengthBytes = 8;

struct TypeBits {
  absl::string_view name;
  uint64_t bits;
};
constexpr TypeBits kTypes[] = {{"F32", 32},    {"BF16", 16}, {"F16", 16},    {"BOOL", 8},
                               {"U8", 8},      {"I8", 8},    {"F8_E5M2", 8}, {"F8_E4M3", 8},
                               {"F8_E8M0", 8}, {"I16", 16},  {"U16", 16},    {"I32", 32},
                               {"U32", 32},    {"F64", 64},  {"I64", 64},    {"U64", 64},
                               {"C64", 64},    {"F4", 4},    {"F6_E2M3", 6}, {"F6_E3M2", 6}};

// Bytes that the shape makes of the type; INVALID_ARGUMENT (without the file and the tensor) when
// they do not fit.
absl::StatusOr<uint64_t> BytesOf(const SafetensorsHeaderEntry& entry) {
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const TypeBits& row) { return row.name == entry.type; });
  if (type == std::end(kTypes)) {
    return absl::InvalidArgumentError(absl::StrCat("has dtype ",
                                                   absl::string_view(entry.type).substr(0, 40),
                                                   ", which safetensors does not have"));
  }
  uint64_t bits = type->bits;
  for (const uint64_t size : entry.shape) {
    if (__builtin_mul_overflow(bits, size, &bits)) {
      return absl::InvalidArgumentError(absl::StrCat("has shape [",
                                                     absl::StrJoin(entry.shape, ", "),
                                                     "], which is more than 64 bits can count"));
    }
  }
  if (bits % 8 != 0) return absl::InvalidArgumentError("does not end on a whole byte");
  return bits / 8;
}

// INVALID_ARGUMENT without the file.
absl::StatusOr<SafetensorsEntry> CheckEntry(SafetensorsHeaderEntry& entry, uint64_t data_bytes,
                                            int64_t data_start) {
  auto wrong = [&](const auto&... what) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", absl::string_view(entry.name).substr(0, 80), " ", what...));
  };
  const auto [begin, end] = entry.offsets;
  if (begin > end || end > data_bytes) {
    return wrong("has data_offsets [", begin, ", ", end, "], expected a range within the ",
                 data_bytes, " bytes of data");
  }
  const absl::StatusOr<uint64_t> bytes = BytesOf(entry);
  if (!bytes.ok()) return wrong(bytes.status().message());
  if (*bytes != end - begin) {
    return wrong("is ", entry.type, " [", absl::StrJoin(entry.shape, ", "), "], which is ", *bytes,
                 " bytes, but its data_offsets [", begin, ", ", end, "] hold ", end - begin);
  }
  SafetensorsEntry checked{.name = std::move(entry.name),
                           .type = std::move(entry.type),
                           .offset = data_start + static_cast<int64_t>(begin),
                           .bytes = static_cast<int64_t>(*bytes)};
  for (const uint64_t size : entry.shape) {
    // A tensor without values may have other dimensions of any size.
    if (size > uint64_t{INT64_MAX}) return wrong("has a dimension of ", size);
    checked.shape.push_back(static_cast<int64_t>(size));
  }
  return checked;
}

absl::Status CheckUniqueNames(const std::vector<SafetensorsEntry>& entries) {
  std::vector<absl::string_view> names;
  for (const SafetensorsEntry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", twice->substr(0, 80), " is there twice"));
}

// `entries` in order of offset.
absl::Status CheckCoverage(const std::vector<SafetensorsEntry>& entries, int64_t data_start,
                           int64_t file_bytes) {
  int64_t end = data_start;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset != end) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", absl::string_view(entry.name).substr(0, 80), " begins at byte ",
          entry.offset - data_start, " of the data, expected ", end - data_start,
          entry.offset < end ? ": it overlaps the one before" : ": there is a gap before it"));
    }
    end = entry.offset + entry.bytes;
  }
  if (end != file_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("the tensors end at byte ", end - data_start,
                                                   " of the data, which has ",
                                                   file_bytes - data_start, " bytes"));
  }
  return absl::OkStatus();
}

// The header's text. INVALID_ARGUMENT without the file.
absl::StatusOr<std::string> ReadHeaderText(const RandomAccessFile& file) {
  if (file.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file has ", file.size(), " bytes, expected at least ", kLengthBytes));
  }
  uint8_t length_bytes[kLengthBytes];
  if (absl::Status status = file.Read(0, length_bytes); !status.ok()) return status;
  uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i) length = length << 8 | length_bytes[i];
  const uint64_t rest = static_cast<uint64_t>(file.size() - kLengthBytes);
  if (length > kMaxHeaderBytes || length > rest) {
    return absl::InvalidArgumentError(absl::StrCat("the header says it has ", length,
                                                   " bytes, expected at most ",
                                                   std::min(kMaxHeaderBytes, rest)));
  }
  std::string text(length, '\0');
  if (absl::Status status =
          file.Read(kLengthBytes, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
      !status.ok()) {
    return status;
  }
  return text;
}

absl::StatusOr<std::vector<SafetensorsEntry>> ReadEntries(const RandomAccessFile& file) {
  const absl::StatusOr<std::string> text = ReadHeaderText(file);
  if (!text.ok()) return text.status();
  SafetensorsSax sax;
  if (!nlohmann::json::sax_parse(text->begin(), text->end(), &sax)) {
    return absl::InvalidArgumentError(sax.error);
  }
  const int64_t data_start = kLengthBytes + static_cast<int64_t>(text->size());
  const uint64_t data_bytes = static_cast<uint64_t>(file.size() - data_start);
  std::vector<SafetensorsEntry> entries;
  entries.reserve(sax.entries.size());
  for (SafetensorsHeaderEntry& entry : sax.entries) {
    absl::StatusOr<SafetensorsEntry> checked = CheckEntry(entry, data_bytes, data_start);
    if (!checked.ok()) return checked.status();
    entries.push_back(*std::move(checked));
  }
  if (absl::Status status = CheckUniqueNames(entries); !status.ok()) return status;
  // Tensors without bytes share an offset with the one that follows.
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  if (absl::Status status = CheckCoverage(entries, data_start, file.size()); !status.ok()) {
    return status;
  }
  return entries;
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(const RandomAccessFile& file) {
  absl::StatusOr<std::vector<SafetensorsEntry>> entries = ReadEntries(file);
  if (entries.ok()) return entries;
  return absl::Status(entries.status().code(),
                      absl::StrCat(file.path(), ": ", entries.status().message()));
}

}  // namespace vernier
