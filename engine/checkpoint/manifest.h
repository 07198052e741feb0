// The manifest beside a model: what its files and tensors must be, to the bit.
//
// JSON, made by `vernier inspect --write-manifest`:
//   {"vernier_manifest": 1,
//    "files": [{"path": "config.json", "size": 654, "sha256": "<64 hex digits>"}, ...],
//    "tensors": [{"name": "embed", "file": "model.safetensors", "bytes": 131072,
//                 "xxh3": "<16 hex digits>"}, ...],
//    "golden": {"prompt": [1, 403], "tokens": [407, 261], "least_margin": 0.42},
//    "golden_formats": {"int8": {"prompt": ..., "tokens": ..., "least_margin": ...}, ...}}
// "files" are all that Vernier reads of the model, by their plain names. "tensors" are those it
// uses, by their canonical names; "xxh3" is XXH3's 64 bits over the tensor's bytes in the order in
// which they are read (a part of a fused tensor: its own bytes alone). "golden" is what weights of
// 16 bits and more draw, "golden_formats" what a quantized format draws; both may be missing. The
// file is hostile: no other key is known, and no name in it is ever opened.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/quant_format.h"

namespace vernier {

struct ManifestFile {
  std::string path;  // a plain name: it lies beside the manifest
  int64_t size = 0;  // bytes
  std::string sha256;
  bool operator==(const ManifestFile&) const = default;
};

struct ManifestTensor {
  std::string name;  // canonical
  std::string file;  // one of the files
  int64_t bytes = 0;
  uint64_t xxh3 = 0;
  bool operator==(const ManifestTensor&) const = default;
};

// What greedy decoding makes of a prompt, and by how much each of its tokens led.
struct GoldenTokens {
  std::vector<int32_t> prompt;  // not empty
  std::vector<int32_t> tokens;  // not empty
  // Of the log-probabilities of the best token and the second, the smallest over `tokens`.
  double least_margin = 0;
  bool operator==(const GoldenTokens&) const = default;
};

struct Manifest {
  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;
  std::optional<GoldenTokens> golden;
  std::map<FormatId, GoldenTokens> golden_formats;  // of fewer than 16 bits
  bool operator==(const Manifest&) const = default;
};

// Whether a manifest that lies beside a model is read and must hold, or left alone.
enum class ManifestUse : uint8_t { kVerify, kIgnore };

// `folder`/manifest.json, and `file`.manifest.json beside a GGUF file.
std::string ManifestPathOfFolder(const std::string& folder);
std::string ManifestPathOfFile(const std::string& file);

// INVALID_ARGUMENT naming `file`, the entry, the value and what was expected.
absl::StatusOr<Manifest> ParseManifest(absl::string_view text, const std::string& file);
// None when there is no file at `path`; errors as ParseManifest's.
absl::StatusOr<std::optional<Manifest>> ReadManifest(const std::string& path);
// What ParseManifest reads; ends with a line feed.
std::string RenderManifest(const Manifest& manifest);

// 16 lower-case hex digits.
std::string Xxh3Text(uint64_t xxh3);

}  // namespace vernier
