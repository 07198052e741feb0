// The files that a checkpoint is read from, held open, and the manifest that says what they must
// be.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/manifest.h"
#include "engine/checkpoint/random_access_file.h"
#include "engine/checkpoint/tensor_bytes.h"

namespace vernier {

// Immutable once the checkpoint is open: then any thread may call it.
class ModelFiles {
 public:
  enum class Role : uint8_t { kText, kWeights };

  // Reads `manifest_path` where it is there and `use` says so. Errors as ParseManifest's.
  static absl::StatusOr<ModelFiles> Open(const std::string& manifest_path, ManifestUse use);

  // Weight files in the order in which they are hashed.
  void Add(Role role, std::shared_ptr<const RandomAccessFile> file);
  // Opens `folder`/`name` as text where it is there. The errors of RandomAccessFile::Open.
  absl::Status AddOptional(const std::string& folder, const std::string& name);

  // Null without a manifest.
  const Manifest* manifest() const { return manifest_.has_value() ? &*manifest_ : nullptr; }
  int64_t weight_bytes() const;  // of the weight files, headers too

  // With a manifest: INVALID_ARGUMENT naming a file of another size, one that the manifest lacks,
  // or one that it has and the model does not.
  absl::Status CheckFiles() const;
  // Likewise for tensors, by canonical name, and their bytes.
  absl::Status CheckTensors(const std::map<std::string, TensorExtent>& tensors) const;
  // What the tensor's bytes must hash to: none without a manifest. REQUIRES: CheckTensors was OK.
  std::optional<uint64_t> Xxh3Of(const std::string& tensor) const;

  // SHA-256 of the weight file, 64 hex digits; of several, of their digests in order, a line each.
  // Reads them. INVALID_ARGUMENT naming a file, of text too, that is not what the manifest says.
  absl::StatusOr<std::string> WeightsSha256() const;
  // INVALID_ARGUMENT naming a file that was changed, cut or replaced since it was opened.
  absl::Status CheckUnchanged() const;
  // Reads and hashes every file and tensor.
  absl::StatusOr<Manifest> Describe(const std::map<std::string, TensorExtent>& tensors) const;

 private:
  struct Entry {
    Role role;
    std::string name;
    std::shared_ptr<const RandomAccessFile> file;
  };
  struct Digests {
    std::map<std::string, std::string> of_file;  // SHA-256 by name
    std::string of_weights;
  };
  enum class Hashed : uint8_t { kWeights, kEachFile };

  absl::StatusOr<Digests> Hash(Hashed what) const;

  std::string manifest_path_;
  std::optional<Manifest> manifest_;
  std::map<std::string, uint64_t> xxh3_;
  std::vector<Entry> entries_;
};

}  // namespace vernier
