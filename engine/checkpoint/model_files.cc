#include "engine/checkpoint/model_files.h"

#include <algorithm>
#include <filesystem>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/sha256.h"

namespace vernier {
namespace {

// Large enough that a call costs nothing beside the copy, small enough to stay in the cache.
constexpr int64_t kHashChunkBytes = 256 << 10;

// As manifests name it.
std::string NameOf(const RandomAccessFile& file) {
  return std::filesystem::path(file.path()).filename().string();
}

// Adds the file's bytes to each of `hashes`.
absl::Status HashFile(const RandomAccessFile& file, std::span<uint8_t> chunk,
                      std::span<Sha256* const> hashes) {
  const int64_t step = static_cast<int64_t>(chunk.size());
  for (int64_t offset = 0; offset < file.size(); offset += step) {
    const std::span<uint8_t> part =
        chunk.first(static_cast<size_t>(std::min(step, file.size() - offset)));
    if (absl::Status status = file.Read(offset, part); !status.ok()) return status;
    for (Sha256* hash : hashes) {
      if (absl::Status status = hash->Update(part); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
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
  const bool each = what == Hashed::kEachFile;
  const bool one = std::count_if(entries_.begin(), entries_.end(), [](const Entry& entry) {
                     return entry.role == Role::kWeights;
                   }) == 1;
  absl::StatusOr<Sha256> together = Sha256::Create();
  if (!together.ok()) return together.status();
  std::vector<uint8_t> chunk(kHashChunkBytes);
  Digests digests;
  for (const Entry& entry : entries_) {
    const bool weights = entry.role == Role::kWeights;
    if (!each && !weights) continue;
    absl::StatusOr<Sha256> alone = Sha256::Create();
    if (!alone.ok()) return alone.status();
    std::vector<Sha256*> hashes;
    // The hash of one file alone is that of all together: its bytes are not hashed twice.
    if (weights && !(each && one)) hashes.push_back(&*together);
    if (each) hashes.push_back(&*alone);
    if (absl::Status status = HashFile(*entry.file, chunk, hashes); !status.ok()) return status;
    if (!each) continue;
    absl::StatusOr<std::string> digest = alone->Finish();
    if (!digest.ok()) return digest.status();
    if (weights && one) digests.of_weights = *digest;
    digests.of_file.emplace(entry.name, *std::move(digest));
  }
  if (each && one) return digests;
  absl::StatusOr<std::string> digest = together->Finish();
  if (!digest.ok()) return digest.status();
  digests.of_weights = *std::move(digest);
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
      Hash(manifest_.has_value() ? Hashed::kEachFile : Hashed::kWeightsTogether);
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
