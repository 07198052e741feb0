#include "engine/checkpoint/hf_checkpoint.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/checkpoint/architectures.h"
#include "engine/checkpoint/hf_config.h"
#include "engine/checkpoint/hf_shards.h"
#include "engine/checkpoint/hf_text.h"
#include "engine/checkpoint/model_files.h"
#include "engine/checkpoint/packed_matrices.h"
#include "engine/checkpoint/packed_tensor.h"
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
  std::variant<StoredTensor, PackedTensor> tensor;
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
  StoredTensor stored;
  stored.offset = entry.offset;
  stored.type = *type;
  stored.transposed = dims == 2 && use.row->hf_transposed;
  stored.file_rows = entry.shape[stored.transposed ? 1 : 0];
  stored.cols = dims == 1 ? 1 : entry.shape[stored.transposed ? 0 : 1];
  const absl::StatusOr<RowRange> rows = RowsOf(config, use, stored.file_rows);
  if (!rows.ok()) return rows.status();
  stored.first_row = rows->first;
  stored.rows = rows->count;
  return Located{.tensor = std::move(stored),
                 .is_matrix = dims == 2,
                 .added = use.row->hf_added,
                 .file_name = entry.name};
}

class HfCheckpoint : public Checkpoint {
 public:
  HfCheckpoint(HfConfig config, TokenizerSource text, ModelFiles files)
      : files_(std::move(files)),
        architecture_(*config.architecture),
        config_(std::move(config.config)),
        random_weights_(config.random_weights),
        text_(std::move(text)) {}

  // Reads the headers of the files; called once.
  absl::Status AddShards(const std::vector<HfShard>& shards, const QuantSettings& quantization) {
    std::vector<FileTensor> tensors;
    for (const HfShard& shard : shards) {
      absl::StatusOr<std::vector<SafetensorsEntry>> entries = ReadSafetensorsHeader(*shard.file);
      if (!entries.ok()) return entries.status();
      if (absl::Status status = CheckShard(shard, *entries); !status.ok()) return status;
      for (SafetensorsEntry& entry : *entries) tensors.push_back({shard.file, std::move(entry)});
    }
    const absl::StatusOr<PackedMatrices> packed = FindPacked(quantization, tensors);
    if (!packed.ok()) return packed.status();
    std::set<std::string> packed_names;
    for (const PackedMatrix& matrix : packed->matrices) {
      packed_names.insert(matrix.weight_name);
      if (absl::Status status = AddPacked(matrix); !status.ok()) return status;
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (packed->is_part[i]) continue;
      absl::StatusOr<bool> unused = IsUnusedBias(tensors[i], packed_names);
      if (!unused.ok()) return unused.status();
      if (*unused) {
        const SafetensorsEntry& entry = tensors[i].entry;
        tensors_.push_back(
            {entry.name, entry.name, absl::AsciiStrToLower(entry.type), entry.shape, entry.bytes});
        continue;
      }
      if (absl::Status status = AddTensor(tensors[i]); !status.ok()) {
        return absl::Status(status.code(),
                            absl::StrCat(tensors[i].file->path(), ": ", status.message()));
      }
    }
    if (absl::Status status = files_.CheckTensors(Extents()); !status.ok()) return status;
    for (auto& [name, located] : located_) {
      if (auto* stored = std::get_if<StoredTensor>(&located.tensor)) {
        stored->xxh3 = files_.Xxh3Of(name);
        continue;
      }
      for (PackedPart& part : std::get<PackedTensor>(located.tensor).parts) {
        part.xxh3 = files_.Xxh3Of(name + part.suffix);
      }
    }
    return absl::OkStatus();
  }

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::string source() const override {
    const bool quantized = source_is_quantized();
    std::map<std::string, int64_t> bytes;
    for (const TensorInfo& tensor : tensors_) {
      if (packed_types_.contains(tensor.type) == quantized) bytes[tensor.type] += tensor.bytes;
    }
    const auto most =
        std::max_element(bytes.begin(), bytes.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most == bytes.end()) return "none";
    if (quantized) return most->first + " (dequantized)";
    const std::string type = most->first == "f32"   ? "fp32"
                             : most->first == "f16" ? "fp16"
                                                    : most->first;
    return random_weights_ ? absl::StrCat("random weights (", type, ")") : type;
  }
  bool source_is_quantized() const override { return !packed_types_.empty(); }
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
    if (const auto* packed = std::get_if<PackedTensor>(&(*located)->tensor)) {
      return OpenPacked(*packed, name);
    }
    return OpenStored(std::get<StoredTensor>((*located)->tensor), name);
  }
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const override {
    const absl::StatusOr<const Located*> located = Find(name, /*matrix=*/false);
    if (!located.ok()) return located.status();
    const auto& stored = std::get<StoredTensor>((*located)->tensor);  // matrices alone are packed
    const int64_t size = stored.rows;
    if (size > kMaxVectorValues) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", name, " has ", size, " values, limit ", kMaxVectorValues));
    }
    const absl::StatusOr<WeightSource> source = OpenStored(stored, name);
    if (!source.ok()) return source.status();
    std::vector<float> values(static_cast<size_t>(size));
    if (absl::Status status = source->read(0, size, values.data()); !status.ok()) return status;
    for (float& value : values) value += (*located)->added;
    return values;
  }

 private:
  // Errors name the tensor, but not the file.
  absl::Status AddTensor(const FileTensor& tensor) {
    const SafetensorsEntry& entry = tensor.entry;
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
      auto& stored = std::get<StoredTensor>(located->tensor);
      stored.file = tensor.file;
      std::vector<int64_t> shape{stored.rows};
      if (located->is_matrix) shape.push_back(stored.cols);
      tensors_.push_back({use.name, entry.name, type, std::move(shape),
                          stored.rows * stored.cols * ScalarBytes(stored.type)});
      if (absl::Status status = AddLocated(use, *std::move(located)); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // A packed matrix is [outputs, inputs] whatever the row says of the layer. Errors name the file.
  absl::Status AddPacked(const PackedMatrix& matrix) {
    const PackedPart& codes = matrix.tensor.codes();
    auto with_file = [&](const absl::Status& status) {
      return absl::Status(status.code(), absl::StrCat(codes.extent.file->path(), ": tensor ",
                                                      codes.file_name, ": ", status.message()));
    };
    const absl::StatusOr<std::vector<TensorUse>> uses =
        UsesOf(architecture_, FileKind::kHuggingFace, matrix.weight_name);
    if (!uses.ok()) return with_file(uses.status());
    packed_types_.insert(matrix.tensor.type);
    for (const TensorUse& use : *uses) {
      const absl::StatusOr<RowRange> rows = RowsOf(config_, use, matrix.tensor.file_rows);
      if (!rows.ok()) return with_file(rows.status());
      PackedTensor tensor = matrix.tensor;
      tensor.first_row = rows->first;
      tensor.rows = rows->count;
      // Each use of fused parts is told its share of them.
      const int64_t bytes = tensor.rows == tensor.file_rows
                                ? tensor.bytes()
                                : tensor.bytes() / tensor.file_rows * tensor.rows;
      tensors_.push_back(
          {use.name, codes.file_name, tensor.type, {tensor.rows, tensor.cols}, bytes});
      if (absl::Status status = AddLocated(
              use, {.tensor = std::move(tensor), .is_matrix = true, .file_name = codes.file_name});
          !status.ok()) {
        return with_file(status);
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddLocated(const TensorUse& use, Located located) {
    const std::string file_name = located.file_name;
    const auto [it, added] = located_.emplace(use.name, std::move(located));
    if (added) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("tensors ", it->second.file_name, " and ", file_name, " are both ", use.name));
  }

  // AutoGPTQ writes a bias of zeros beside matrices of layers that have none.
  absl::StatusOr<bool> IsUnusedBias(const FileTensor& tensor,
                                    const std::set<std::string>& packed_names) {
    absl::string_view module = tensor.entry.name;
    if (!absl::ConsumeSuffix(&module, ".bias")) return false;
    if (!packed_names.contains(absl::StrCat(module, ".weight"))) return false;
    if (UsesOf(architecture_, FileKind::kHuggingFace, tensor.entry.name).ok()) return false;
    const int64_t bytes = tensor.entry.bytes;
    const auto data =
        ReadTensorBytes({.file = tensor.file, .offset = tensor.entry.offset, .run_bytes = bytes},
                        std::nullopt, tensor.entry.name);
    if (!data.ok()) return data.status();
    return std::all_of(data->get(), data->get() + bytes, [](uint8_t byte) { return byte == 0; });
  }

  std::map<std::string, TensorExtent> Extents() const {
    std::map<std::string, TensorExtent> extents;
    for (const auto& [name, located] : located_) {
      if (const auto* stored = std::get_if<StoredTensor>(&located.tensor)) {
        extents.emplace(name, ExtentOf(*stored));
        continue;
      }
      for (const PackedPart& part : std::get<PackedTensor>(located.tensor).parts) {
        extents.emplace(name + part.suffix, part.extent);
      }
    }
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
  const bool random_weights_;
  const TokenizerSource text_;
  std::vector<TensorInfo> tensors_;
  std::set<std::string> packed_types_;      // of tensors_
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
  const QuantSettings quantization = config->quantization;
  auto checkpoint =
      std::make_unique<HfCheckpoint>(*std::move(config), *std::move(text), *std::move(files));
  if (absl::Status status = checkpoint->AddShards(*shards, quantization); !status.ok()) {
    return status;
  }
  return checkpoint;
}

}  // namespace vernier
