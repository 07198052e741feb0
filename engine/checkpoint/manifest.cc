#include "engine/checkpoint/manifest.h"

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/checkpoint/json_fields.h"
#include "engine/checkpoint/random_access_file.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// An entry has some 150 bytes and a large dense model a few thousand of them; a tree of JSON takes
// up to 20 times its text.
constexpr int64_t kMaxManifestBytes = 4 << 20;
constexpr size_t kMaxNameBytes = 255;
constexpr size_t kMaxGoldenTokens = 4096;
constexpr int64_t kVersion = 1;

bool IsPlainName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name != "." && name != ".." &&
         name.find_first_of(absl::string_view("/\\\0", 3)) == absl::string_view::npos;
}

bool IsLowerHex(absl::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// A key that this reader does not know is a mistake or a flipped bit, never an extension: that
// would be another version.
absl::Status CheckKeys(const Json& object, const std::string& where,
                       std::initializer_list<absl::string_view> known) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        where, " has an unknown key ", absl::string_view(key).substr(0, kMaxNameBytes)));
  }
  return absl::OkStatus();
}

// The objects of the list `key`, each given to `read` with its place for messages.
template <typename Read>
absl::Status ForEachEntry(const JsonFields& fields, absl::string_view key, Read read) {
  const Json* list = fields.Find(key);
  if (list == nullptr || !list->is_array()) return fields.Wrong(key, "a list");
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string where = absl::StrCat(fields.file(), ": ", key, "[", i, "]");
    if (!(*list)[i].is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(where, " is not an object"));
    }
    if (absl::Status status = read((*list)[i], where); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ReadFile(const Json& entry, const std::string& where, Manifest* manifest) {
  if (absl::Status status = CheckKeys(entry, where, {"path", "size", "sha256"}); !status.ok()) {
    return status;
  }
  const JsonFields fields(entry, where);
  absl::StatusOr<std::string> path = fields.StringOr("path", "");
  if (!path.ok()) return path.status();
  if (!IsPlainName(*path)) return fields.Wrong("path", "the plain name of a file");
  const absl::StatusOr<int64_t> size = fields.Integer("size", 0, INT64_MAX);
  if (!size.ok()) return size.status();
  absl::StatusOr<std::string> sha256 = fields.StringOr("sha256", "");
  if (!sha256.ok()) return sha256.status();
  if (!IsLowerHex(*sha256, 64)) return fields.Wrong("sha256", "64 lower-case hex digits");
  manifest->files.push_back({*std::move(path), *size, *std::move(sha256)});
  return absl::OkStatus();
}

absl::Status ReadTensor(const Json& entry, const std::string& where,
                        const std::set<absl::string_view>& files, Manifest* manifest) {
  if (absl::Status status = CheckKeys(entry, where, {"name", "file", "bytes", "xxh3"});
      !status.ok()) {
    return status;
  }
  const JsonFields fields(entry, where);
  absl::StatusOr<std::string> name = fields.StringOr("name", "");
  if (!name.ok()) return name.status();
  if (name->empty() || name->size() > kMaxNameBytes) {
    return fields.Wrong("name", absl::StrCat("1 to ", kMaxNameBytes, " bytes"));
  }
  absl::StatusOr<std::string> file = fields.StringOr("file", "");
  if (!file.ok()) return file.status();
  if (!files.contains(*file)) return fields.Wrong("file", "the path of one of the files");
  const absl::StatusOr<int64_t> bytes = fields.Integer("bytes", 0, INT64_MAX);
  if (!bytes.ok()) return bytes.status();
  const absl::StatusOr<std::string> xxh3 = fields.StringOr("xxh3", "");
  if (!xxh3.ok()) return xxh3.status();
  if (!IsLowerHex(*xxh3, 16)) return fields.Wrong("xxh3", "16 lower-case hex digits");
  ManifestTensor tensor{*std::move(name), *std::move(file), *bytes};
  VERNIER_CHECK(absl::SimpleHexAtoi(*xxh3, &tensor.xxh3));
  manifest->tensors.push_back(std::move(tensor));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> ReadTokens(const JsonFields& fields, absl::string_view key) {
  const Json* list = fields.Find(key);
  const std::string expected = absl::StrCat("a list of 1 to ", kMaxGoldenTokens, " token ids");
  if (list == nullptr || !list->is_array() || list->empty() || list->size() > kMaxGoldenTokens) {
    return fields.Wrong(key, expected);
  }
  std::vector<int32_t> ids;
  for (const Json& id : *list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > uint64_t{INT32_MAX}) {
      return fields.Wrong(key, expected);
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

absl::StatusOr<GoldenTokens> ReadGolden(const Json& entry, const std::string& where) {
  if (!entry.is_object()) return absl::InvalidArgumentError(where + " is not an object");
  if (absl::Status status = CheckKeys(entry, where, {"prompt", "tokens", "least_margin"});
      !status.ok()) {
    return status;
  }
  const JsonFields fields(entry, where);
  absl::StatusOr<std::vector<int32_t>> prompt = ReadTokens(fields, "prompt");
  if (!prompt.ok()) return prompt.status();
  absl::StatusOr<std::vector<int32_t>> tokens = ReadTokens(fields, "tokens");
  if (!tokens.ok()) return tokens.status();
  const absl::StatusOr<double> margin = fields.Number("least_margin", 0, 1e6);
  if (!margin.ok()) return margin.status();
  return GoldenTokens{*std::move(prompt), *std::move(tokens), *margin};
}

absl::Status ReadGoldenFormats(const Json& entries, const std::string& where, Manifest* manifest) {
  if (!entries.is_object()) return absl::InvalidArgumentError(where + " is not an object");
  for (const auto& [name, entry] : entries.items()) {
    const absl::StatusOr<FormatId> format = ParseFormat(name);
    if (!format.ok() || FormatOf(*format).bits >= 16) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, " has a key ", name, ", which is no quantized format"));
    }
    absl::StatusOr<GoldenTokens> golden = ReadGolden(entry, absl::StrCat(where, ".", name));
    if (!golden.ok()) return golden.status();
    manifest->golden_formats[*format] = *std::move(golden);
  }
  return absl::OkStatus();
}

OrderedJson RenderGolden(const GoldenTokens& golden) {
  return {
      {"prompt", golden.prompt}, {"tokens", golden.tokens}, {"least_margin", golden.least_margin}};
}

// INVALID_ARGUMENT naming the first name that is there twice.
template <typename Entry>
absl::Status CheckUnique(const std::vector<Entry>& entries, std::string Entry::*name,
                         const std::string& file, absl::string_view what) {
  std::set<absl::string_view> seen;
  for (const Entry& entry : entries) {
    if (seen.insert(entry.*name).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": ", what, " ", entry.*name, " is there twice"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string ManifestPathOfFolder(const std::string& folder) { return folder + "/manifest.json"; }
std::string ManifestPathOfFile(const std::string& file) { return file + ".manifest.json"; }

std::string Xxh3Text(uint64_t xxh3) { return absl::StrFormat("%016x", xxh3); }

absl::StatusOr<Manifest> ParseManifest(absl::string_view text, const std::string& file) {
  const absl::StatusOr<Json> json = ParseJsonObject(text, file);
  if (!json.ok()) return json.status();
  if (absl::Status status = CheckKeys(
          *json, file, {"vernier_manifest", "files", "tensors", "golden", "golden_formats"});
      !status.ok()) {
    return status;
  }
  const JsonFields fields(*json, file);
  const absl::StatusOr<int64_t> version = fields.Integer("vernier_manifest", kVersion, kVersion);
  if (!version.ok()) return version.status();
  Manifest manifest;
  if (absl::Status status = ForEachEntry(fields, "files",
                                         [&](const Json& entry, const std::string& where) {
                                           return ReadFile(entry, where, &manifest);
                                         });
      !status.ok()) {
    return status;
  }
  std::set<absl::string_view> names;
  for (const ManifestFile& entry : manifest.files) names.insert(entry.path);
  if (absl::Status status = ForEachEntry(fields, "tensors",
                                         [&](const Json& entry, const std::string& where) {
                                           return ReadTensor(entry, where, names, &manifest);
                                         });
      !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckUnique(manifest.files, &ManifestFile::path, file, "file");
      !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckUnique(manifest.tensors, &ManifestTensor::name, file, "tensor");
      !status.ok()) {
    return status;
  }
  if (const Json* golden = fields.Find("golden"); golden != nullptr) {
    absl::StatusOr<GoldenTokens> tokens = ReadGolden(*golden, file + ": golden");
    if (!tokens.ok()) return tokens.status();
    manifest.golden = *std::move(tokens);
  }
  if (const Json* formats = fields.Find("golden_formats"); formats != nullptr) {
    if (absl::Status status = ReadGoldenFormats(*formats, file + ": golden_formats", &manifest);
        !status.ok()) {
      return status;
    }
  }
  return manifest;
}

absl::StatusOr<std::optional<Manifest>> ReadManifest(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxManifestBytes);
  if (absl::IsNotFound(text.status())) return std::optional<Manifest>();
  if (!text.ok()) return text.status();
  absl::StatusOr<Manifest> manifest = ParseManifest(*text, path);
  if (!manifest.ok()) return manifest.status();
  return std::optional<Manifest>(*std::move(manifest));
}

std::string RenderManifest(const Manifest& manifest) {
  OrderedJson json = {{"vernier_manifest", kVersion}};
  OrderedJson& files = json["files"] = OrderedJson::array();
  for (const ManifestFile& file : manifest.files) {
    files.push_back({{"path", file.path}, {"size", file.size}, {"sha256", file.sha256}});
  }
  OrderedJson& tensors = json["tensors"] = OrderedJson::array();
  for (const ManifestTensor& tensor : manifest.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"file", tensor.file},
                       {"bytes", tensor.bytes},
                       {"xxh3", Xxh3Text(tensor.xxh3)}});
  }
  if (manifest.golden.has_value()) json["golden"] = RenderGolden(*manifest.golden);
  for (const auto& [format, golden] : manifest.golden_formats) {
    json["golden_formats"][FormatOf(format).name] = RenderGolden(golden);
  }
  return json.dump(1, ' ', /*ensure_ascii=*/true, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace vernier
