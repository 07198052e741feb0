#include "engine/checkpoint/gguf_checkpoint.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/checkpoint/architectures.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/gguf_config.h"
#include "engine/checkpoint/gguf_rows.h"
#include "engine/checkpoint/gguf_text.h"
#include "engine/checkpoint/model_files.h"

namespace vernier {
namespace {

struct Located {
  GgufRows rows;
  bool is_matrix = false;
  std::string file_name;
};

// Where a canonical tensor lies; without the file's and the tensor's name in errors.
absl::StatusOr<Located> Locate(const ModelConfig& config, const TensorUse& use,
                               const GgufTensor& tensor) {
  const size_t dims = tensor.shape.size();
  if (dims > 2) {
    return absl::InvalidArgumentError(absl::StrCat("has shape [", absl::StrJoin(tensor.shape, ", "),
                                                   "], expected one or two dimensions"));
  }
  if (dims == 1 && tensor.type->quantized()) {
    return absl::UnimplementedError(
        absl::StrCat("is a vector of ", tensor.type->name, ", expected unquantized values"));
  }
  const absl::StatusOr<RowRange> range = RowsOf(config, use, tensor.shape[0]);
  if (!range.ok()) return range.status();
  Located located{.is_matrix = dims == 2, .file_name = tensor.name};
  GgufRows& rows = located.rows;
  rows.type = tensor.type;
  rows.rows = range->count;
  rows.cols = dims == 2 ? tensor.shape[1] : 1;
  rows.offset = tensor.offset + range->first * tensor.type->RowBytes(rows.cols);
  if (use.row->gguf_interleaved) {
    rows.interleaved_head_dim = config.attention.head_dim;
    if (rows.rows % rows.interleaved_head_dim != 0) {
      return absl::InvalidArgumentError(absl::StrCat("has ", rows.rows,
                                                     " outputs, expected a multiple of the ",
                                                     rows.interleaved_head_dim, " of a head"));
    }
  }
  return located;
}

class GgufCheckpoint : public Checkpoint {
 public:
  GgufCheckpoint(std::shared_ptr<const RandomAccessFile> file, GgufConfig config,
                 TokenizerSource text, ModelFiles files)
      : file_(std::move(file)),
        files_(std::move(files)),
        architecture_(*config.architecture),
        config_(std::move(config.config)),
        text_(std::move(text)) {}

  // Called once.
  absl::Status AddTensors(const std::vector<GgufTensor>& tensors) {
    for (const GgufTensor& tensor : tensors) {
      if (absl::Status status = AddTensor(tensor); !status.ok()) {
        return absl::Status(status.code(), absl::StrCat(file_->path(), ": tensor ", tensor.name,
                                                        " ", status.message()));
      }
      bytes_of_type_[tensor.type] += tensor.bytes;
    }
    if (absl::Status status = files_.CheckTensors(Extents()); !status.ok()) return status;
    for (auto& [name, located] : located_) located.rows.xxh3 = files_.Xxh3Of(name);
    return absl::OkStatus();
  }

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::string source() const override {
    if (bytes_of_type_.empty()) return "none";
    const bool quantized = source_is_quantized();
    const GgmlType* most = nullptr;
    for (const auto& [type, bytes] : bytes_of_type_) {
      if (type->quantized() != quantized) continue;
      if (most == nullptr || bytes > bytes_of_type_.at(most)) most = type;
    }
    const std::string name = most->name;
    if (quantized) return name + " (dequantized)";
    return name == "f32" ? "fp32" : name == "f16" ? "fp16" : name;
  }
  bool source_is_quantized() const override {
    int64_t quantized = 0, all = 0;
    for (const auto& [type, bytes] : bytes_of_type_) {
      all += bytes;
      if (type->quantized()) quantized += bytes;
    }
    return quantized > all / 2;
  }
  int64_t disk_bytes() const override { return file_->size(); }
  const Manifest* manifest() const override { return files_.manifest(); }
  absl::StatusOr<Manifest> MakeManifest() const override { return files_.Describe(Extents()); }
  absl::StatusOr<std::string> WeightsSha256() const override { return files_.WeightsSha256(); }
  absl::Status CheckUnchanged() const override { return files_.CheckUnchanged(); }
  const TokenizerSource& tokenizer_source() const override { return text_; }

  bool Has(const std::string& name) const override { return located_.contains(name); }
  absl::StatusOr<WeightSource> OpenMatrix(const std::string& name) const override {
    return OpenRows(name, /*dimensions=*/2);
  }
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const override {
    const absl::StatusOr<WeightSource> source = OpenRows(name, /*dimensions=*/1);
    if (!source.ok()) return source.status();
    std::vector<float> values(static_cast<size_t>(source->rows));
    if (absl::Status status = source->read(0, source->rows, values.data()); !status.ok()) {
      return status;
    }
    return values;
  }

 private:
  absl::Status AddTensor(const GgufTensor& tensor) {
    const absl::StatusOr<std::vector<TensorUse>> uses =
        UsesOf(architecture_, FileKind::kGguf, tensor.name);
    if (!uses.ok()) return uses.status();
    if (uses->empty()) {
      tensors_.push_back({tensor.name, tensor.name, tensor.type->name, tensor.shape, tensor.bytes});
    }
    for (const TensorUse& use : *uses) {
      absl::StatusOr<Located> located = Locate(config_, use, tensor);
      if (!located.ok()) return located.status();
      GgufRows& rows = located->rows;
      rows.file = file_;
      std::vector<int64_t> shape{rows.rows};
      if (located->is_matrix) shape.push_back(rows.cols);
      tensors_.push_back({use.name, tensor.name, tensor.type->name, std::move(shape),
                          rows.rows * rows.type->RowBytes(rows.cols)});
      located_.emplace(use.name, *std::move(located));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<WeightSource> OpenRows(const std::string& name, int dimensions) const {
    const auto it = located_.find(name);
    if (it == located_.end()) {
      return absl::NotFoundError(absl::StrCat("tensor ", name, " is not in the checkpoint"));
    }
    const Located& located = it->second;
    if (located.is_matrix != (dimensions == 2)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", name, " (", located.file_name, " in the file) has ",
                       located.is_matrix ? 2 : 1, " dimensions, expected ", dimensions));
    }
    return OpenGgufRows(located.rows, name);
  }

  std::map<std::string, TensorExtent> Extents() const {
    std::map<std::string, TensorExtent> extents;
    for (const auto& [name, located] : located_) extents.emplace(name, ExtentOf(located.rows));
    return extents;
  }

  const std::shared_ptr<const RandomAccessFile> file_;
  const ModelFiles files_;
  const Architecture& architecture_;
  const ModelConfig config_;
  const TokenizerSource text_;
  std::vector<TensorInfo> tensors_;
  std::map<const GgmlType*, int64_t> bytes_of_type_;
  std::map<std::string, Located> located_;  // by canonical name
};

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(const std::string& path,
                                                               ManifestUse use) {
  absl::StatusOr<ModelFiles> files = ModelFiles::Open(ManifestPathOfFile(path), use);
  if (!files.ok()) return files.status();
  absl::StatusOr<std::shared_ptr<const RandomAccessFile>> file = RandomAccessFile::Open(path);
  if (!file.ok()) return file.status();
  files->Add(ModelFiles::Role::kWeights, *file);
  if (absl::Status status = files->CheckFiles(); !status.ok()) return status;
  absl::StatusOr<GgufHeader> header = ReadGgufHeader(**file);
  if (!header.ok()) return header.status();
  absl::StatusOr<GgufConfig> config = ReadGgufConfig(*file, *header);
  if (!config.ok()) return config.status();
  absl::StatusOr<TokenizerSource> text = TakeGgufText(path, &*header);
  if (!text.ok()) return text.status();
  auto checkpoint = std::make_unique<GgufCheckpoint>(*std::move(file), *std::move(config),
                                                     *std::move(text), *std::move(files));
  if (absl::Status status = checkpoint->AddTensors(header->tensors); !status.ok()) return status;
  return checkpoint;
}

}  // namespace vernier
