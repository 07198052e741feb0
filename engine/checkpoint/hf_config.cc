#include "engine/checkpoint/hf_config.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/json_fields.h"
#include "engine/checkpoint/random_access_file.h"
#include "engine/checkpoint/read_config.h"

namespace vernier {
namespace {

constexpr int64_t kMaxConfigBytes = 4 << 20;
constexpr size_t kMaxEndTokens = 256;

absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  return ParseJsonObject(*text, path);
}

absl::StatusOr<const Architecture*> ArchitectureOf(const JsonFields& fields) {
  const nlohmann::json* classes = fields.Find("architectures");
  if (classes == nullptr || !classes->is_array() || classes->size() != 1 ||
      !(*classes)[0].is_string()) {
    return fields.Wrong("architectures", "a list of one name");
  }
  const absl::StatusOr<std::string> model_type = fields.StringOr("model_type", "");
  if (!model_type.ok()) return model_type.status();
  absl::StatusOr<const Architecture*> architecture =
      ArchitectureOfHf(*model_type, (*classes)[0].get<std::string>());
  if (architecture.ok()) return architecture;
  return absl::Status(architecture.status().code(),
                      absl::StrCat(fields.file(), ": ", architecture.status().message()));
}

absl::StatusOr<Llama3Scaling> ReadLlama3Scaling(const JsonFields& fields) {
  Llama3Scaling scaling;
  const struct {
    const char* key;
    double* value;
  } rows[] = {{"factor", &scaling.factor},
              {"low_freq_factor", &scaling.low_frequency_factor},
              {"high_freq_factor", &scaling.high_frequency_factor},
              {"original_max_position_embeddings", &scaling.original_context}};
  for (const auto& row : rows) {
    const absl::StatusOr<double> value = fields.Number(row.key, 1e-3, 1e9);
    if (!value.ok()) return value.status();
    *row.value = *value;
  }
  if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
    return fields.Wrong("high_freq_factor",
                        absl::StrCat("more than low_freq_factor, ", scaling.low_frequency_factor));
  }
  return scaling;
}

// An object of rope parameters, with theta inside as transformers 5 writes them, into the
// frequencies of heads of `head_dim`.
absl::Status ReadRope(const JsonFields& fields, absl::string_view key, int64_t head_dim,
                      std::vector<float>* frequencies) {
  const nlohmann::json* object = fields.Find(key);
  if (object == nullptr) return absl::OkStatus();
  if (!object->is_object()) return fields.Wrong(key, "an object");
  const JsonFields rope(*object, absl::StrCat(fields.file(), ": ", key));
  if (rope.Find("rope_theta") != nullptr) {
    const absl::StatusOr<double> theta = rope.Number("rope_theta", 1, 1e12);
    if (!theta.ok()) return theta.status();
    *frequencies = InverseFrequencies(*theta, head_dim);
  }
  const absl::StatusOr<double> rotated = rope.NumberOr("partial_rotary_factor", 1, 0, 1);
  if (!rotated.ok()) return rotated.status();
  if (*rotated != 1) return rope.Unsupported("partial_rotary_factor", "only 1 is");

  const absl::string_view type_key = rope.Find("rope_type") != nullptr ? "rope_type" : "type";
  const absl::StatusOr<std::string> type = rope.StringOr(type_key, "default");
  if (!type.ok()) return type.status();
  if (*type == "default") return absl::OkStatus();
  if (*type == "linear") {
    const absl::StatusOr<double> factor = rope.Number("factor", 1, 1e9);
    if (!factor.ok()) return factor.status();
    DivideFrequencies(*factor, frequencies);
    return absl::OkStatus();
  }
  if (*type != "llama3") return rope.Unsupported(type_key, "default, linear and llama3 are");
  const absl::StatusOr<Llama3Scaling> scaling = ReadLlama3Scaling(rope);
  if (!scaling.ok()) return scaling.status();
  ScaleFrequencies(*scaling, frequencies);
  return absl::OkStatus();
}

// `rope_scaling`, and `rope_parameters`: one object, or one for each kind of layer where they
// differ.
absl::Status ReadRopes(const JsonFields& fields, ModelConfig* config) {
  const int64_t head_dim = config->attention.head_dim;
  if (absl::Status status =
          ReadRope(fields, "rope_scaling", head_dim, &config->inverse_frequencies);
      !status.ok()) {
    return status;
  }
  const nlohmann::json* object = fields.Find("rope_parameters");
  if (config->window_inverse_frequencies.empty() || object == nullptr || !object->is_object()) {
    return ReadRope(fields, "rope_parameters", head_dim, &config->inverse_frequencies);
  }
  const JsonFields kinds(*object, absl::StrCat(fields.file(), ": rope_parameters"));
  if (absl::Status status =
          ReadRope(kinds, "full_attention", head_dim, &config->inverse_frequencies);
      !status.ok()) {
    return status;
  }
  return ReadRope(kinds, "sliding_attention", head_dim, &config->window_inverse_frequencies);
}

// One id or a list of them; none when the key is not there.
absl::StatusOr<std::vector<int32_t>> EndTokens(const JsonFields& fields) {
  std::vector<int32_t> ids;
  const nlohmann::json* value = fields.Find("eos_token_id");
  if (value == nullptr) return ids;
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  for (const nlohmann::json& id : list) {
    const bool whole = id.is_number_unsigned() && id.get<uint64_t>() <= uint64_t{INT32_MAX};
    if (!whole || ids.size() == kMaxEndTokens) {
      return fields.Wrong("eos_token_id",
                          absl::StrCat("a token id or a list of at most ", kMaxEndTokens));
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

absl::Status ReadTokens(const JsonFields& fields, const std::string& folder, ModelConfig* config) {
  absl::StatusOr<std::vector<int32_t>> ids = EndTokens(fields);
  if (!ids.ok()) return ids.status();
  const std::string generation_path = folder + "/generation_config.json";
  const absl::StatusOr<nlohmann::json> generation = ReadJsonFile(generation_path);
  if (generation.ok()) {
    absl::StatusOr<std::vector<int32_t>> theirs =
        EndTokens(JsonFields(*generation, generation_path));
    if (!theirs.ok()) return theirs.status();
    if (!theirs->empty()) ids = std::move(theirs);
  } else if (!absl::IsNotFound(generation.status())) {
    return generation.status();
  }
  config->end_tokens = *std::move(ids);
  const absl::StatusOr<int64_t> begin = fields.IntegerOr("bos_token_id", -1, -1, INT32_MAX);
  if (!begin.ok()) return begin.status();
  config->begin_token = static_cast<int32_t>(*begin);
  return CheckTokens(*config, fields.file());
}

}  // namespace

absl::StatusOr<HfConfig> ReadHfConfig(const std::string& folder) {
  const std::string path = folder + "/config.json";
  const absl::StatusOr<nlohmann::json> json = ReadJsonFile(path);
  if (!json.ok()) return json.status();
  const JsonFields fields(*json, path);
  const absl::StatusOr<const Architecture*> architecture = ArchitectureOf(fields);
  if (!architecture.ok()) return architecture.status();
  absl::StatusOr<ModelConfig> config = ReadConfig(**architecture, (*architecture)->hf_keys, fields);
  if (!config.ok()) return config.status();
  if (config->vocab == 0)
    return fields.Wrong((*architecture)->hf_keys.vocab, "the vocabulary's size");
  if (!config->learned_positions) {
    if (absl::Status status = ReadRopes(fields, &*config); !status.ok()) return status;
  }
  if (absl::Status status = ReadTokens(fields, folder, &*config); !status.ok()) return status;
  const absl::StatusOr<QuantSettings> quantization = ReadQuantSettings(fields);
  if (!quantization.ok()) return quantization.status();
  const absl::StatusOr<std::string> weights = fields.StringOr(kWeightsKey, "");
  if (!weights.ok()) return weights.status();
  return HfConfig{*architecture, *std::move(config), *quantization, *weights == kRandomWeights};
}

}  // namespace vernier
