#include "engine/checkpoint/hf_shards.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

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

// The tensors of each file that the index names.
absl::StatusOr<std::map<std::string, std::vector<std::string>>> ReadIndex(
    const std::string& index_path) {
  const absl::StatusOr<std::string> text = ReadWholeFile(index_path, kMaxIndexBytes);
  if (!text.ok()) return text.status();
  const absl::StatusOr<nlohmann::json> json = ParseJsonObject(*text, index_path);
  if (!json.ok()) return json.status();
  const JsonFields fields(*json, index_path);
  const nlohmann::json* map = fields.Find("weight_map");
  if (map == nullptr || !map->is_object()) {
    return fields.Wrong("weight_map", "an object from tensors to files");
  }
  std::map<std::string, std::vector<std::string>> shards;
  const JsonFields tensors(*map, absl::StrCat(index_path, ": weight_map"));
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !IsShardName(shard.get_ref<const std::string&>())) {
      return tensors.Wrong(tensor, "the name of a .safetensors file in the folder");
    }
    shards[shard.get<std::string>()].push_back(tensor);
    if (shards.size() > kMaxShards) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, " names over ", kMaxShards, " files"));
    }
  }
  return shards;
}

}  // namespace

absl::StatusOr<std::vector<HfShard>> OpenHfShards(const std::string& folder) {
  absl::StatusOr<std::shared_ptr<const RandomAccessFile>> whole =
      RandomAccessFile::Open(folder + "/model.safetensors");
  if (whole.ok()) return std::vector<HfShard>{{*std::move(whole), {}}};
  if (!absl::IsNotFound(whole.status())) return whole.status();

  absl::StatusOr<std::map<std::string, std::vector<std::string>>> index =
      ReadIndex(folder + "/model.safetensors.index.json");
  if (absl::IsNotFound(index.status())) {
    return absl::NotFoundError(
        absl::StrCat(folder, " has neither model.safetensors nor model.safetensors.index.json"));
  }
  if (!index.ok()) return index.status();
  std::vector<HfShard> shards;
  for (auto& [name, tensors] : *index) {
    absl::StatusOr<std::shared_ptr<const RandomAccessFile>> file =
        RandomAccessFile::Open(absl::StrCat(folder, "/", name));
    if (!file.ok()) return file.status();
    shards.push_back({*std::move(file), std::move(tensors)});
  }
  return shards;
}

absl::Status CheckShard(const HfShard& shard, const std::vector<SafetensorsEntry>& entries) {
  std::set<absl::string_view> there;
  for (const SafetensorsEntry& entry : entries) there.insert(entry.name);
  for (const std::string& tensor : shard.tensors) {
    if (there.contains(tensor)) continue;
    return absl::InvalidArgumentError(absl::StrCat(shard.file->path(), " has no tensor ", tensor,
                                                   ", model.safetensors.index.json says it has"));
  }
  return absl::OkStatus();
}

}  // namespace vernier
