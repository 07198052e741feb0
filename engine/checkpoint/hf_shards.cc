#include "engine/checkpoint/hf_shards.h"

#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/json_fields.h"

namespace vernier {
namespace {

constexpr int64_t kMaxIndexBytes = 32 << 20;
constexpr size_t kMaxShards = 1000;  // each is an open file

// A plain name within the folder.
bool IsShardName(absl::string_view name) {
  return name.size() <= 255 && name.find('/') == absl::string_view::npos &&
         name.find('\0') == absl::string_view::npos && !absl::StartsWith(name, ".") &&
         absl::EndsWith(name, ".safetensors");
}

absl::StatusOr<std::set<std::string>> ShardNames(const std::string& index_path) {
  const absl::StatusOr<std::string> text = ReadWholeFile(index_path, kMaxIndexBytes);
  if (!text.ok()) return text.status();
  const absl::StatusOr<nlohmann::json> json = ParseJsonObject(*text, index_path);
  if (!json.ok()) return json.status();
  const JsonFields fields(*json, index_path);
  const nlohmann::json* map = fields.Find("weight_map");
  if (map == nullptr || !map->is_object()) {
    return fields.Wrong("weight_map", "an object from tensors to files");
  }
  std::set<std::string> names;
  const JsonFields tensors(*map, absl::StrCat(index_path, ": weight_map"));
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !IsShardName(shard.get_ref<const std::string&>())) {
      return tensors.Wrong(tensor, "the name of a .safetensors file in the folder");
    }
    names.insert(shard.get<std::string>());
    if (names.size() > kMaxShards) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, " names over ", kMaxShards, " files"));
    }
  }
  return names;
}

}  // namespace

absl::StatusOr<std::vector<std::shared_ptr<const RandomAccessFile>>> OpenHfShards(
    const std::string& folder) {
  absl::StatusOr<std::shared_ptr<const RandomAccessFile>> whole =
      RandomAccessFile::Open(folder + "/model.safetensors");
  if (whole.ok()) return std::vector{*std::move(whole)};
  if (!absl::IsNotFound(whole.status())) return whole.status();

  const absl::StatusOr<std::set<std::string>> names =
      ShardNames(folder + "/model.safetensors.index.json");
  if (absl::IsNotFound(names.status())) {
    return absl::NotFoundError(
        absl::StrCat(folder, " has neither model.safetensors nor model.safetensors.index.json"));
  }
  if (!names.ok()) return names.status();
  std::vector<std::shared_ptr<const RandomAccessFile>> files;
  for (const std::string& name : *names) {
    absl::StatusOr<std::shared_ptr<const RandomAccessFile>> file =
        RandomAccessFile::Open(absl::StrCat(folder, "/", name));
    if (!file.ok()) return file.status();
    files.push_back(*std::move(file));
  }
  return files;
}

}  // namespace vernier
