#include "engine/checkpoint/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/gguf_metadata.h"
#include "engine/checkpoint/gguf_rows.h"
#include "engine/checkpoint/json_fields.h"
#include "engine/checkpoint/read_config.h"

namespace vernier {
namespace {

constexpr absl::string_view kRopeFreqs = "rope_freqs.weight";
constexpr int64_t kMaxVocab = int64_t{1} << 24;  // as for one that a key says

const GgufTensor* FindTensor(const GgufHeader& header, absl::string_view name) {
  for (const GgufTensor& tensor : header.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// The name that the file gives the canonical tensor `name`.
absl::string_view FileNameOf(const Architecture& architecture, absl::string_view name) {
  for (const TensorRow& row : architecture.tensors) {
    if (row.name == name) return row.gguf_name;
  }
  return {};
}

absl::StatusOr<const Architecture*> ArchitectureOf(const JsonFields& fields) {
  const absl::StatusOr<std::string> name = fields.StringOr("general.architecture", "");
  if (!name.ok()) return name.status();
  if (name->empty()) return fields.Wrong("general.architecture", "a name");
  absl::StatusOr<const Architecture*> architecture = ArchitectureOfGguf(*name);
  if (architecture.ok()) return architecture;
  return absl::Status(architecture.status().code(),
                      absl::StrCat(fields.file(), ": ", architecture.status().message()));
}

// llama.cpp's converter stores Llama 3's scaling as what each frequency is divided by.
absl::Status DivideFrequencies(const std::shared_ptr<const RandomAccessFile>& file,
                               const GgufTensor& divisors, std::vector<float>* frequencies) {
  const int64_t size = static_cast<int64_t>(frequencies->size());
  const std::string where = absl::StrCat(file->path(), ": tensor ", divisors.name);
  if (divisors.type->quantized() || divisors.shape != std::vector<int64_t>{size}) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": expected one dimension of ", size,
                                                   " unquantized values, half a head"));
  }
  const absl::StatusOr<WeightSource> source = OpenGgufRows(
      {.file = file, .type = divisors.type, .offset = divisors.offset, .rows = size, .cols = 1},
      divisors.name);
  if (!source.ok()) return source.status();
  std::vector<float> values(frequencies->size());
  if (absl::Status status = source->read(0, size, values.data()); !status.ok()) return status;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] > 0) || !std::isfinite(values[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, "[", i, "] is ", values[i], ", expected a positive number"));
    }
    (*frequencies)[i] /= values[i];
  }
  return absl::OkStatus();
}

absl::Status ReadTokens(const JsonFields& fields, ModelConfig* config) {
  const absl::StatusOr<int64_t> begin =
      fields.IntegerOr("tokenizer.ggml.bos_token_id", -1, -1, INT32_MAX);
  if (!begin.ok()) return begin.status();
  config->begin_token = static_cast<int32_t>(*begin);
  // End of sequence, of turn and of message: a chat model may have several.
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    const absl::StatusOr<int64_t> value = fields.IntegerOr(key, -1, -1, INT32_MAX);
    if (!value.ok()) return value.status();
    const int32_t id = static_cast<int32_t>(*value);
    std::vector<int32_t>& ids = config->end_tokens;
    if (id >= 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return CheckTokens(*config, fields.file());
}

}  // namespace

absl::StatusOr<GgufConfig> ReadGgufConfig(const std::shared_ptr<const RandomAccessFile>& file,
                                          const GgufHeader& header) {
  const nlohmann::json json = MetadataJson(header);
  const JsonFields fields(json, file->path());
  const absl::StatusOr<const Architecture*> architecture = ArchitectureOf(fields);
  if (!architecture.ok()) return architecture.status();
  const JsonFields hyperparameters(json, file->path(), absl::StrCat((*architecture)->name, "."));
  absl::StatusOr<ModelConfig> config =
      ReadConfig(**architecture, (*architecture)->gguf_keys, hyperparameters);
  if (!config.ok()) return config.status();
  if (config->vocab == 0) {
    const absl::string_view name = FileNameOf(**architecture, "embed");
    const GgufTensor* embed = FindTensor(header, name);
    if (embed == nullptr || embed->shape.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat(file->path(), ": tensor ", name, " is not there as a matrix"));
    }
    config->vocab = embed->shape[0];
    if (config->vocab > kMaxVocab) {
      return absl::InvalidArgumentError(absl::StrCat(file->path(), ": tensor ", name, " has ",
                                                     config->vocab, " rows, limit ", kMaxVocab));
    }
  }
  config->tied_lm_head = FindTensor(header, FileNameOf(**architecture, "lm_head")) == nullptr;
  const GgufTensor* divisors = FindTensor(header, kRopeFreqs);
  if (divisors != nullptr && !config->learned_positions) {
    if (absl::Status status = DivideFrequencies(file, *divisors, &config->inverse_frequencies);
        !status.ok()) {
      return status;
    }
  }
  if (absl::Status status = ReadTokens(fields, &*config); !status.ok()) return status;
  return GgufConfig{*architecture, *std::move(config)};
}

}  // namespace vernier
