#include "engine/checkpoint/hf_checkpoint.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/checkpoint/architectures.h"
#include "engine/checkpoint/hf_config.h"
#include "engine/checkpoint/hf_shards.h"
#include "engine/checkpoint/hf_text.h"
#include "engine/checkpoint/model_files.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/checkpoint/stored_tensor.h"

namespace vernier {
namespace {

// Norms and biases are a few thousand values; a table of this many is no vector.
constexpr int64_t kMaxVectorValues = int64_t{1} << 26;

// What hf_config, hf_shards and hf_text read besides weights. A file of the folder that is not
// among them changes nothing, so that no manifest lists it.
constexpr const char* kTextFiles[] = {
    "config.json",     "generation_config.json", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer.model", "tokenizer_config.json",  "chat_template.jinja"};

struct Located {
  StoredTensor stored;
  bool is_matrix = false;
  float added = 0;        // to each value of a vector
  std::string file_name;  // of the tensor
};

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// Where a canonical tensor lies; errors do not name the file and the tensor.
absl::StatusOr<Located> Locate(const ModelConfig& config, const TensorUse& use,
                               const SafetensorsEntry& entry) {
  const absl::StatusOr<ScalarType> type = ScalarTypeOf(entry.type);
  if (!type.ok()) return type.status();
  const size_t dims = entry.shape.size();
  if (dims != 1 && dims != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("shape ", ShapeText(entry.shape), ", expected one or two dimensions"));
  }
  Located located{.is_matrix = dims == 2, .added = use.row->hf_added, .file_name = entry.name};
  StoredTensor& stored = located.stored;
  stored.offset = entry.offset;
  stored.type = *type;
  stored.transposed = dims == 2 && use.row->hf_transposed;
  stored.file_rows = entry.shape[stored.transposed ? 1 : 0];
  stored.cols = dims == 1 ? 1 : entry.shape[stored.transposed ? 0 : 1];
  const absl::StatusOr<RowRange> rows = RowsOf(config, use, stored.file_rows);
  if (!rows.ok()) return rows.status();
  stored.first_row = rows->first;
  stored.rows = rows->count;
  return located;
}

class HfCheckpoint : public Checkpoint {
 public:
  HfCheckpoint(HfConfig config, TokenizerSource text, ModelFiles files)
      : files_(std::move(files)),
        architecture_(*config.architecture),
        config_(std::move(config.config)),
        text_(std::move(text)) {}

  // Reads the headers of the files; called once.
  absl::Status AddShards(const std::vector<HfShard>& shards) {
    for (const HfShard& shard : shards) {
      absl::StatusOr<std::vector<SafetensorsEntry>> entries = ReadSafetensorsHeader(*shard.file);
      if (!entries.ok()) return entries.status();
      if (absl::Status status = CheckShard(shard, *entries); !status.ok()) return status;
      for (const SafetensorsEntry& entry : *entries) {
        if (absl::Status status = AddTensor(shard.file, entry); !status.ok()) {
          return absl::Status(status.code(),
                              absl::StrCat(shard.file->path(), ": ", status.message()));
        }
      }
    }
    if (absl::Status status = files_.CheckTensors(Extents()); !status.ok()) return status;
    for (auto& [name, located] : located_) located.stored.xxh3 = files_.Xxh3Of(name);
    return absl::OkStatus();
  }

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::string source() const override {
    std::map<std::string, int64_t> bytes;
    for (const TensorInfo& tensor : tensors_) bytes[tensor.type] += tensor.bytes;
    const auto most =
        std::max_element(bytes.begin(), bytes.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most == bytes.end()) return "none";
    return most->first == "f32" ? "fp32" : most->first == "f16" ? "fp16" : most->first;
  }
  bool source_is_quantized() const override { return false; }
  int64_t disk_bytes() const override { return files_.weight_bytes(); }
  const Manifest* manifest() const override { return files_.manifest(); }
  absl::StatusOr<Manifest> MakeManifest() const override { return files_.Describe(Extents()); }
  absl::StatusOr<std::string> WeightsSha256() const override { return files_.WeightsSha256(); }
  absl::Status CheckUnchanged() const override { return files_.CheckUnchanged(); }
  const TokenizerSource& tokenizer_source() const override { return text_; }

  bool Has(const std::string& name) const override { return located_.contains(name); }
  absl::StatusOr<WeightSource> OpenMatrix(const std::string& name) const override {
    const absl::StatusOr<const Located*> located = Find(name, /*matrix=*/true);
    if (!located.ok()) return located.status();
    return OpenStored((*located)->stored, name);
  }
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const override {
    const absl::StatusOr<const Located*> located = Find(name, /*matrix=*/false);
    if (!located.ok()) return located.status();
    const int64_t size = (*located)->stored.rows;
    if (size > kMaxVectorValues) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", name, " has ", size, " values, limit ", kMaxVectorValues));
    }
    const absl::StatusOr<WeightSource> source = OpenStored((*located)->stored, name);
    if (!source.ok()) return source.status();
    std::vector<float> values(static_cast<size_t>(size));
    if (absl::Status status = source->read(0, size, values.data()); !status.ok()) return status;
    for (float& value : values) value += (*located)->added;
    return values;
  }

 private:
  // Errors name the tensor, but not the file.
  absl::Status AddTensor(const std::shared_ptr<const RandomAccessFile>& file,
                         const SafetensorsEntry& entry) {
    const std::string type = absl::AsciiStrToLower(entry.type);
    absl::StatusOr<std::vector<TensorUse>> uses =
        UsesOf(architecture_, FileKind::kHuggingFace, entry.name);
    if (!uses.ok()) return uses.status();
    if (uses->empty()) tensors_.push_back({entry.name, entry.name, type, entry.shape, entry.bytes});
    for (const TensorUse& use : *uses) {
      absl::StatusOr<Located> located = Locate(config_, use, entry);
      if (!located.ok()) {
        return absl::Status(located.status().code(),
                            absl::StrCat("tensor ", entry.name, ": ", located.status().message()));
      }
      located->stored.file = file;
      const StoredTensor& stored = located->stored;
      std::vector<int64_t> shape{stored.rows};
      if (located->is_matrix) shape.push_back(stored.cols);
      tensors_.push_back({use.name, entry.name, type, std::move(shape),
                          stored.rows * stored.cols * ScalarBytes(stored.type)});
      const auto [it, added] = located_.emplace(use.name, *std::move(located));
      if (!added) {
        return absl::InvalidArgumentError(absl::StrCat("tensors ", it->second.file_name, " and ",
                                                       entry.name, " are both ", use.name));
      }
    }
    return absl::OkStatus();
  }

  std::map<std::string, TensorExtent> Extents() const {
    std::map<std::string, TensorExtent> extents;
    for (const auto& [name, located] : located_) extents.emplace(name, ExtentOf(located.stored));
    return extents;
  }

  absl::StatusOr<const Located*> Find(const std::string& name, bool matrix) const {
    const auto it = located_.find(name);
    if (it == located_.end()) {
      return absl::NotFoundError(absl::StrCat("tensor ", name, " is not in the checkpoint"));
    }
    if (it->second.is_matrix != matrix) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " (", it->second.file_name,
                                                     " in the file) has ", matrix ? 1 : 2,
                                                     " dimensions, expected ", matrix ? 2 : 1));
    }
    return &it->second;
  }

  const ModelFiles files_;
  const Architecture& architecture_;
  const ModelConfig config_;
  const TokenizerSource text_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, Located> located_;  // by canonical name
};

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHfCheckpoint(const std::string& folder,
                                                             ManifestUse use) {
  // Opened before anything is parsed: what changes from here on is noticed.
  absl::StatusOr<ModelFiles> files = ModelFiles::Open(ManifestPathOfFolder(folder), use);
  if (!files.ok()) return files.status();
  for (const char* name : kTextFiles) {
    if (absl::Status status = files->AddOptional(folder, name); !status.ok()) return status;
  }
  absl::StatusOr<HfConfig> config = ReadHfConfig(folder);
  if (!config.ok()) return config.status();
  const absl::StatusOr<std::vector<HfShard>> shards = OpenHfShards(folder);
  if (!shards.ok()) return shards.status();
  for (const HfShard& shard : *shards) files->Add(ModelFiles::Role::kWeights, shard.file);
  if (absl::Status status = files->CheckFiles(); !status.ok()) return status;
  absl::StatusOr<TokenizerSource> text = ReadHfText(folder);
  if (!text.ok()) return text.status();
  auto checkpoint =
      std::make_unique<HfCheckpoint>(*std::move(config), *std::move(text), *std::move(files));
  if (absl::Status status = checkpoint->AddShards(*shards); !status.ok()) return status;
  return checkpoint;
}

}  // namespace vernier
