#include "engine/checkpoint/model_files.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <future>
#include <span>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/checkpoint/sha256.h"

namespace vernier {
namespace {

// Large enough that a call costs nothing beside the copy, small enough to stay in the cache.
constexpr int64_t kHashChunkBytes = 256 << 10;

// As manifests name it.
std::string NameOf(const RandomAccessFile& file) {
  return std::filesystem::path(file.path()).filename().string();
}

absl::StatusOr<std::string> HashFile(const RandomAccessFile& file) {
  absl::StatusOr<Sha256> hash = Sha256::Create();
  if (!hash.ok()) return hash.status();
  std::vector<uint8_t> chunk(kHashChunkBytes);
  for (int64_t offset = 0; offset < file.size(); offset += kHashChunkBytes) {
    const std::span<uint8_t> part = std::span(chunk).first(
        static_cast<size_t>(std::min(kHashChunkBytes, file.size() - offset)));
    if (absl::Status status = file.Read(offset, part); !status.ok()) return status;
    if (absl::Status status = hash->Update(part); !status.ok()) return status;
  }
  return hash->Finish();
}

}  // namespace

absl::StatusOr<ModelFiles> ModelFiles::Open(const std::string& manifest_path, ManifestUse use) {
  ModelFiles files;
  files.manifest_path_ = manifest_path;
  if (use == ManifestUse::kIgnore) return files;
  absl::StatusOr<std::optional<Manifest>> manifest = ReadManifest(manifest_path);
  if (!manifest.ok()) return manifest.status();
  files.manifest_ = *std::move(manifest);
  if (files.manifest_.has_value()) {
    for (const ManifestTensor& tensor : files.manifest_->tensors) {
      files.xxh3_.emplace(tensor.name, tensor.xxh3);
    }
  }
  return files;
}

void ModelFiles::Add(Role role, std::shared_ptr<const RandomAccessFile> file) {
  std::string name = NameOf(*file);
  entries_.push_back({role, std::move(name), std::move(file)});
}

absl::Status ModelFiles::AddOptional(const std::string& folder, const std::string& name) {
  absl::StatusOr<std::shared_ptr<const RandomAccessFile>> file =
      RandomAccessFile::Open(absl::StrCat(folder, "/", name));
  if (absl::IsNotFound(file.status())) return absl::OkStatus();
  if (!file.ok()) return file.status();
  Add(Role::kText, *std::move(file));
  return absl::OkStatus();
}

int64_t ModelFiles::weight_bytes() const {
  int64_t bytes = 0;
  for (const Entry& entry : entries_) {
    if (entry.role == Role::kWeights) bytes += entry.file->size();
  }
  return bytes;
}

absl::Status ModelFiles::CheckFiles() const {
  if (!manifest_.has_value()) return absl::OkStatus();
  std::map<absl::string_view, int64_t> listed;
  for (const ManifestFile& file : manifest_->files) listed.emplace(file.path, file.size);
  for (const Entry& entry : entries_) {
    const auto it = listed.find(entry.name);
    if (it == listed.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(entry.file->path(), " is not in the manifest ", manifest_path_));
    }
    if (it->second != entry.file->size()) {
      return absl::InvalidArgumentError(absl::StrCat(entry.file->path(), " has ",
                                                     entry.file->size(),
                                                     " bytes, its manifest says ", it->second));
    }
    listed.erase(it);
  }
  if (listed.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(manifest_path_, " lists the file ",
                                                 listed.begin()->first,
                                                 ", which the model does not have"));
}

absl::Status ModelFiles::CheckTensors(const std::map<std::string, TensorExtent>& tensors) const {
  if (!manifest_.has_value()) return absl::OkStatus();
  for (const ManifestTensor& tensor : manifest_->tensors) {
    const auto it = tensors.find(tensor.name);
    if (it == tensors.end()) {
      return absl::InvalidArgumentError(absl::StrCat(manifest_path_, " lists the tensor ",
                                                     tensor.name, " of ", tensor.file,
                                                     ", which the model does not have"));
    }
    const std::string& path = it->second.file->path();
    const std::string file = NameOf(*it->second.file);
    if (file != tensor.file || it->second.bytes() != tensor.bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", tensor.name, " has ", it->second.bytes(), " bytes in ",
                       file, ", its manifest says ", tensor.bytes, " in ", tensor.file));
    }
  }
  for (const auto& [name, extent] : tensors) {
    if (xxh3_.contains(name)) continue;
    return absl::InvalidArgumentError(absl::StrCat(extent.file->path(), ": tensor ", name,
                                                   " is not in the manifest ", manifest_path_));
  }
  return absl::OkStatus();
}

std::optional<uint64_t> ModelFiles::Xxh3Of(const std::string& tensor) const {
  const auto it = xxh3_.find(tensor);
  if (it == xxh3_.end()) return std::nullopt;
  return it->second;
}

absl::StatusOr<ModelFiles::Digests> ModelFiles::Hash(Hashed what) const {
  std::vector<const Entry*> hashed;
  for (const Entry& entry : entries_) {
    if (what == Hashed::kEachFile || entry.role == Role::kWeights) hashed.push_back(&entry);
  }
  // A file is bound by one core, so several are hashed at once, on half of the cores: who loads the
  // model uses all of them meanwhile.
  std::vector<absl::StatusOr<std::string>> results(hashed.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < hashed.size(); i = next++) results[i] = HashFile(*hashed[i]->file);
  };
  const size_t threads = std::min<size_t>(hashed.size(), std::thread::hardware_concurrency() / 2);
  std::vector<std::future<void>> others;
  for (size_t i = 1; i < threads; ++i) others.push_back(std::async(std::launch::async, work));
  work();
  for (std::future<void>& other : others) other.get();

  Digests digests;
  std::vector<std::string> of_weights;
  for (size_t i = 0; i < hashed.size(); ++i) {
    if (!results[i].ok()) return results[i].status();
    if (hashed[i]->role == Role::kWeights) of_weights.push_back(*results[i]);
    digests.of_file.emplace(hashed[i]->name, *std::move(results[i]));
  }
  if (of_weights.size() == 1) {
    digests.of_weights = of_weights[0];
    return digests;
  }
  absl::StatusOr<std::string> together =
      Sha256::Of(absl::StrCat(absl::StrJoin(of_weights, "\n"), "\n"));
  if (!together.ok()) return together.status();
  digests.of_weights = *std::move(together);
  return digests;
}

absl::Status ModelFiles::CheckUnchanged() const {
  for (const Entry& entry : entries_) {
    if (absl::Status status = entry.file->CheckUnchanged(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ModelFiles::WeightsSha256() const {
  absl::StatusOr<Digests> digests =
      Hash(manifest_.has_value() ? Hashed::kEachFile : Hashed::kWeights);
  if (!digests.ok()) return digests.status();
  if (manifest_.has_value()) {
    for (const ManifestFile& file : manifest_->files) {
      const auto it = digests->of_file.find(file.path);
      if (it != digests->of_file.end() && it->second == file.sha256) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(manifest_path_, ": file ", file.path, " has the SHA-256 ",
                       it == digests->of_file.end() ? "of no file" : it->second,
                       ", the manifest says ", file.sha256));
    }
  }
  return std::move(digests->of_weights);
}

absl::StatusOr<Manifest> ModelFiles::Describe(
    const std::map<std::string, TensorExtent>& tensors) const {
  absl::StatusOr<Digests> digests = Hash(Hashed::kEachFile);
  if (!digests.ok()) return digests.status();
  Manifest manifest;
  for (const Entry& entry : entries_) {
    manifest.files.push_back({entry.name, entry.file->size(), digests->of_file[entry.name]});
  }
  for (const auto& [name, extent] : tensors) {
    const absl::StatusOr<uint64_t> xxh3 = Xxh3OfTensor(extent, name);
    if (!xxh3.ok()) return xxh3.status();
    manifest.tensors.push_back({name, NameOf(*extent.file), extent.bytes(), *xxh3});
  }
  if (absl::Status status = CheckUnchanged(); !status.ok()) return status;
  return manifest;
}

}  // namespace vernier
