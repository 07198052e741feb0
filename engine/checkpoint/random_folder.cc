#include "engine/checkpoint/random_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "engine/checkpoint/architectures.h"
#include "kernels/convert.h"

namespace vernier {
namespace {

constexpr int64_t kValueBytes = 2;         // bf16
constexpr int64_t kPieceValues = 1 << 20;  // made and written at a time
constexpr size_t kHeaderAlignment = 8;     // of safetensors: what follows a header is aligned
constexpr int64_t kTextBytes = int64_t{1} << 20;  // what config, index and headers may take

absl::Status SystemError(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path));
}

// A file that is written from its begin to its end, once.
class NewFile {
 public:
  static absl::StatusOr<std::unique_ptr<NewFile>> Create(std::string path) {
    const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0) return SystemError("create", path);
    return std::unique_ptr<NewFile>(new NewFile(std::move(path), descriptor));
  }
  ~NewFile() { close(descriptor_); }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  absl::Status Write(std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return SystemError("write", path_);
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }
  absl::Status Write(absl::string_view text) {
    return Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  // A full disk may show here first.
  absl::Status Flush() {
    return fsync(descriptor_) == 0 ? absl::OkStatus() : SystemError("write", path_);
  }

 private:
  NewFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  const std::string path_;
  const int descriptor_;
};

absl::Status WriteText(const std::string& path, absl::string_view text) {
  const absl::StatusOr<std::unique_ptr<NewFile>> file = NewFile::Create(path);
  if (!file.ok()) return file.status();
  if (absl::Status status = (*file)->Write(text); !status.ok()) return status;
  return (*file)->Flush();
}

// The folder under its temporary name: gone with all that is in it, unless it was published.
class PartFolder {
 public:
  static absl::StatusOr<std::unique_ptr<PartFolder>> Create(const std::string& folder) {
    std::string path = folder + ".part";
    if (mkdir(path.c_str(), 0777) == 0) {
      return std::unique_ptr<PartFolder>(new PartFolder(std::move(path)));
    }
    if (errno != EEXIST) return SystemError("create", path);
    return absl::AlreadyExistsError(absl::StrCat(
        path, " is there: another run writes it, or one was killed; remove it to begin again"));
  }
  ~PartFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  PartFolder(const PartFolder&) = delete;
  PartFolder& operator=(const PartFolder&) = delete;

  const std::string& path() const { return path_; }
  absl::Status Publish(const std::string& folder) {
    const int descriptor = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return SystemError("open", path_);
    const bool flushed = fsync(descriptor) == 0;
    close(descriptor);
    if (!flushed) return SystemError("write", path_);
    // Not over a folder that came meanwhile.
    if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, folder.c_str(), RENAME_NOREPLACE) != 0) {
      return SystemError("rename the finished folder to", folder);
    }
    path_.clear();
    return absl::OkStatus();
  }

 private:
  explicit PartFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

absl::Status CheckRoom(const std::string& path, int64_t bytes) {
  struct statvfs room {};
  if (statvfs(path.c_str(), &room) != 0) return SystemError("ask for the room at", path);
  const auto blocks = static_cast<double>(room.f_bavail);
  if (blocks * static_cast<double>(room.f_frsize) >= static_cast<double>(bytes)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrFormat("%s: the model takes %d bytes, the disk has %.0f free", path, bytes,
                      blocks * static_cast<double>(room.f_frsize)));
}

// What files of the architecture call each canonical tensor; lm_head lies outside of the prefix.
std::map<std::string, std::string> HfNames(const Architecture& architecture, int64_t num_layers) {
  std::map<std::string, std::string> names;
  for (const TensorRow& row : architecture.tensors) {
    const absl::string_view prefix = row.name == "lm_head" ? "" : architecture.hf_prefix;
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      const std::string number = absl::StrCat(layer);
      names[absl::StrReplaceAll(row.name, {{"{i}", number}})] =
          absl::StrCat(prefix, absl::StrReplaceAll(row.hf_name, {{"{i}", number}}));
    }
  }
  return names;
}

// The tensors of each file, in order.
std::vector<std::vector<const TensorInfo*>> Shards(const std::vector<TensorInfo>& tensors,
                                                   int64_t shard_bytes) {
  std::vector<std::vector<const TensorInfo*>> shards;
  int64_t bytes = 0;
  for (const TensorInfo& tensor : tensors) {
    if (shards.empty() || bytes + tensor.bytes > shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(&tensor);
    bytes += tensor.bytes;
  }
  return shards;
}

// The format is safetensors.h's.
std::string Header(const std::map<std::string, std::string>& names,
                   const std::vector<const TensorInfo*>& tensors) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  int64_t offset = 0;
  for (const TensorInfo* tensor : tensors) {
    header[names.at(tensor->name)] = {{"dtype", "BF16"},
                                      {"shape", tensor->shape},
                                      {"data_offsets", {offset, offset + tensor->bytes}}};
    offset += tensor->bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  std::string out;
  for (int shift = 0; shift < 64; shift += 8) {
    out += static_cast<char>(static_cast<uint64_t>(text.size()) >> shift & 0xff);
  }
  return out + text;
}

absl::StatusOr<WeightSource> OpenTensor(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  if (tensor.shape.size() == 2) return checkpoint.OpenMatrix(tensor.name);
  const absl::StatusOr<std::vector<float>> values = checkpoint.ReadVector(tensor.name);
  if (!values.ok()) return values.status();
  return WeightSource{.name = tensor.name,
                      .rows = tensor.shape[0],
                      .cols = 1,
                      .read = [values = *values](int64_t first, int64_t count, float* out) {
                        std::copy_n(values.begin() + first, count, out);
                        return absl::OkStatus();
                      }};
}

absl::Status WriteTensor(const Checkpoint& checkpoint, const TensorInfo& tensor,
                         const std::function<bool()>& stopping, NewFile* file) {
  const absl::StatusOr<WeightSource> source = OpenTensor(checkpoint, tensor);
  if (!source.ok()) return source.status();
  const int64_t rows_a_piece = std::max<int64_t>(1, kPieceValues / source->cols);
  std::vector<float> values;
  std::vector<uint8_t> bytes;
  for (int64_t row = 0; row < source->rows; row += rows_a_piece) {
    if (stopping()) return absl::CancelledError("stopped before all was written: nothing is left");
    const int64_t rows = std::min(rows_a_piece, source->rows - row);
    values.resize(static_cast<size_t>(rows * source->cols));
    bytes.resize(values.size() * kValueBytes);
    if (absl::Status status = source->read(row, rows, values.data()); !status.ok()) return status;
    Convert().bf16_from_f32(values.data(), static_cast<int64_t>(values.size()), bytes.data());
    if (absl::Status status = file->Write(bytes); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status WriteShard(const Checkpoint& checkpoint, const std::string& path,
                        const std::string& header, const std::vector<const TensorInfo*>& tensors,
                        const std::function<bool()>& stopping) {
  const absl::StatusOr<std::unique_ptr<NewFile>> file = NewFile::Create(path);
  if (!file.ok()) return file.status();
  if (absl::Status status = (*file)->Write(header); !status.ok()) return status;
  for (const TensorInfo* tensor : tensors) {
    absl::Status status = WriteTensor(checkpoint, *tensor, stopping, file->get());
    if (!status.ok()) return status;
  }
  return (*file)->Flush();
}

// All files of the folder but config.json.
absl::Status WriteWeights(const Checkpoint& checkpoint, const std::string& path,
                          const std::vector<std::vector<const TensorInfo*>>& shards,
                          const std::function<bool()>& stopping) {
  const ModelConfig& config = checkpoint.config();
  const auto architecture = ArchitectureOfHf(config.architecture, "LlamaForCausalLM");
  if (!architecture.ok()) return architecture.status();
  const auto names = HfNames(**architecture, config.num_layers);
  nlohmann::ordered_json file_of_tensor;
  int64_t bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = shards.size() == 1 ? "model.safetensors"
                                                : absl::StrFormat("model-%05d-of-%05d.safetensors",
                                                                  i + 1, shards.size());
    absl::Status status = WriteShard(checkpoint, absl::StrCat(path, "/", file),
                                     Header(names, shards[i]), shards[i], stopping);
    if (!status.ok()) return status;
    for (const TensorInfo* tensor : shards[i]) {
      file_of_tensor[names.at(tensor->name)] = file;
      bytes += tensor->bytes;
    }
  }
  if (shards.size() == 1) return absl::OkStatus();
  nlohmann::ordered_json index;
  index["metadata"] = {{"total_size", bytes}};
  index["weight_map"] = file_of_tensor;
  return WriteText(path + "/model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace

absl::StatusOr<RandomFolder> WriteRandomFolder(absl::string_view name, const std::string& folder,
                                               const RandomFolderOptions& options) {
  std::string target = folder;
  while (target.size() > 1 && target.back() == '/') target.pop_back();
  if (target.empty()) return absl::InvalidArgumentError("no folder is named to save to");
  const auto checkpoint = OpenRandomCheckpoint(name, options.part);
  if (!checkpoint.ok()) return checkpoint.status();
  const absl::StatusOr<std::string> config = RandomConfigJson(name, options.part);
  if (!config.ok()) return config.status();
  struct stat there {};
  if (lstat(target.c_str(), &there) == 0) {
    return absl::AlreadyExistsError(absl::StrCat(target, " is there: it is not overwritten"));
  }
  const auto shards = Shards((*checkpoint)->tensors(), options.shard_bytes);
  RandomFolder result{.files = static_cast<int64_t>(shards.size())};
  for (const TensorInfo& tensor : (*checkpoint)->tensors()) result.bytes += tensor.bytes;

  const auto part = PartFolder::Create(target);
  if (!part.ok()) return part.status();
  const std::string& path = (*part)->path();
  if (absl::Status status = CheckRoom(path, result.bytes + kTextBytes); !status.ok()) return status;
  if (absl::Status status = WriteWeights(**checkpoint, path, shards, options.stopping);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = WriteText(path + "/config.json", *config); !status.ok()) return status;
  if (absl::Status status = (*part)->Publish(target); !status.ok()) return status;
  return result;
}

}  // namespace vernier
