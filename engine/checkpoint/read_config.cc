#include "engine/checkpoint/read_config.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

// Larger than any model there is, small enough that products of two fit in 64 bits.
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxContext = int64_t{1} << 28;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr double kMaxTheta = 1e12;
constexpr double kWindowTheta = 10000;
constexpr double kMinRopeFactor = 1e-3;

struct ActivationName {
  absl::string_view name;
  ActivationKind kind;
};
constexpr ActivationName kActivations[] = {
    {"silu", ActivationKind::kSilu},
    {"swish", ActivationKind::kSilu},
    {"gelu", ActivationKind::kGeluErf},
    {"gelu_new", ActivationKind::kGeluTanh},
    {"gelu_pytorch_tanh", ActivationKind::kGeluTanh},
};

absl::Status CheckFixed(const ConfigKeys& keys, const JsonFields& fields) {
  for (const FixedKey& fixed : keys.fixed) {
    const nlohmann::json* value = fields.Find(fixed.key);
    if (value == nullptr) continue;
    if (*value != nlohmann::json::parse(fixed.value.begin(), fixed.value.end(), nullptr, false)) {
      return fields.Unsupported(fixed.key, absl::StrCat("only ", fixed.value, " is"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> OptionalInteger(const JsonFields& fields, absl::string_view key,
                                        int64_t fallback, int64_t max) {
  if (key.empty()) return fallback;
  return fields.IntegerOr(key, fallback, 1, max);
}

absl::Status ReadSizes(const ConfigKeys& keys, const JsonFields& fields, ModelConfig* config) {
  const struct {
    absl::string_view key;
    int64_t max;
    int64_t* value;
  } required[] = {{keys.num_layers, kMaxLayers, &config->num_layers},
                  {keys.hidden, kMaxWidth, &config->hidden},
                  {keys.context, kMaxContext, &config->context}};
  for (const auto& row : required) {
    const absl::StatusOr<int64_t> value = fields.Integer(row.key, 1, row.max);
    if (!value.ok()) return value.status();
    *row.value = *value;
  }
  const absl::StatusOr<int64_t> intermediate =
      OptionalInteger(fields, keys.intermediate, 4 * config->hidden, 4 * kMaxWidth);
  if (!intermediate.ok()) return intermediate.status();
  config->intermediate = *intermediate;
  const absl::StatusOr<int64_t> vocab = OptionalInteger(fields, keys.vocab, 0, kMaxVocab);
  if (!vocab.ok()) return vocab.status();
  config->vocab = *vocab;
  return absl::OkStatus();
}

absl::Status ReadAttention(const ConfigKeys& keys, const JsonFields& fields, ModelConfig* config) {
  const absl::StatusOr<int64_t> heads = fields.Integer(keys.num_heads, 1, kMaxHeads);
  if (!heads.ok()) return heads.status();
  const absl::StatusOr<int64_t> kv_heads =
      OptionalInteger(fields, keys.num_kv_heads, *heads, kMaxHeads);
  if (!kv_heads.ok()) return kv_heads.status();
  if (*heads % *kv_heads != 0) {
    return fields.Wrong(keys.num_kv_heads, absl::StrCat("a divisor of the ", *heads, " heads"));
  }
  const bool says_head_dim = !keys.head_dim.empty() && fields.Find(keys.head_dim) != nullptr;
  const bool divides = !says_head_dim && keys.default_head_dim == 0;
  if (divides && config->hidden % *heads != 0) {
    return fields.Wrong(keys.num_heads,
                        absl::StrCat("a divisor of the hidden size ", config->hidden));
  }
  const absl::StatusOr<int64_t> head_dim =
      OptionalInteger(fields, keys.head_dim,
                      divides ? config->hidden / *heads : keys.default_head_dim, kMaxHeadDim);
  if (!head_dim.ok()) return head_dim.status();
  if (*head_dim < 1 || *head_dim > kMaxHeadDim) {
    return fields.Wrong(keys.num_heads, absl::StrCat("heads of at most ", kMaxHeadDim));
  }
  double scalar = static_cast<double>(*head_dim);
  if (keys.hidden_scalar_layers == config->num_layers) {
    scalar = static_cast<double>(config->hidden) / static_cast<double>(*heads);
  }
  if (!keys.query_scalar.empty()) {
    const absl::StatusOr<double> said = fields.NumberOr(keys.query_scalar, scalar, 1, kMaxWidth);
    if (!said.ok()) return said.status();
    scalar = *said;
  }
  config->attention = {.num_heads = static_cast<int>(*heads),
                       .num_kv_heads = static_cast<int>(*kv_heads),
                       .head_dim = static_cast<int>(*head_dim),
                       .scale = static_cast<float>(1 / std::sqrt(scalar))};
  return absl::OkStatus();
}

// The layers that a list of words calls windowed.
absl::Status ReadLayerTypes(absl::string_view key, const JsonFields& fields, ModelConfig* config) {
  const nlohmann::json& types = *fields.Find(key);
  if (!types.is_array() || static_cast<int64_t>(types.size()) != config->num_layers) {
    return fields.Wrong(key, absl::StrCat("a list of ", config->num_layers, " words"));
  }
  config->windowed_layers.clear();
  for (const nlohmann::json& type : types) {
    const bool windowed = type == "sliding_attention";
    if (!windowed && type != "full_attention") {
      return fields.Unsupported(key, "full_attention and sliding_attention are");
    }
    if (windowed && config->window == 0) {
      return fields.Unsupported(key, "sliding_attention needs a window");
    }
    config->windowed_layers.push_back(windowed);
  }
  return absl::OkStatus();
}

// Which layers attend to a window, and its tokens.
absl::Status ReadWindow(const Architecture& architecture, const ConfigKeys& keys,
                        const JsonFields& fields, ModelConfig* config) {
  if (!keys.window.empty() && fields.SaysNull(keys.window)) {
    // Its layers would still rotate as if they had one.
    if (!keys.window_theta.empty()) return fields.Unsupported(keys.window, "a number of tokens is");
  } else if (!keys.window.empty()) {
    const absl::StatusOr<int64_t> window =
        fields.IntegerOr(keys.window, keys.default_window, 0, kMaxContext);
    if (!window.ok()) return window.status();
    config->window = static_cast<int>(*window);
  }
  if (config->window > 0) {
    int64_t pattern = architecture.window_pattern;
    if (!keys.window_pattern.empty()) {
      const absl::StatusOr<int64_t> said =
          fields.IntegerOr(keys.window_pattern, pattern, 1, kMaxLayers);
      if (!said.ok()) return said.status();
      pattern = *said;
    }
    for (int64_t layer = 1; layer <= config->num_layers; ++layer) {
      config->windowed_layers.push_back(pattern == 0 || layer % pattern != 0);
    }
  }
  if (keys.layer_types.empty() || fields.Find(keys.layer_types) == nullptr) return absl::OkStatus();
  return ReadLayerTypes(keys.layer_types, fields, config);
}

absl::Status ReadActivation(const ConfigKeys& keys, const JsonFields& fields, ModelConfig* config) {
  if (keys.activation.empty() || fields.Find(keys.activation) == nullptr) return absl::OkStatus();
  const absl::StatusOr<std::string> name = fields.StringOr(keys.activation, "");
  if (!name.ok()) return name.status();
  for (const ActivationName& row : kActivations) {
    if (row.name != *name) continue;
    config->activation = row.kind;
    return absl::OkStatus();
  }
  return fields.Unsupported(keys.activation, "silu, gelu, gelu_new and gelu_pytorch_tanh are");
}

// GGUF's linear scaling of positions, in layers without a window. A factor alone means linear, as
// llama.cpp reads it.
absl::Status ScaleLinearly(const ConfigKeys& keys, const JsonFields& fields, ModelConfig* config) {
  if (keys.rope_scaling.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> type = fields.StringOr(keys.rope_scaling, "linear");
  if (!type.ok()) return type.status();
  if (*type == "none") return absl::OkStatus();
  if (*type != "linear") return fields.Unsupported(keys.rope_scaling, "none and linear are");
  const absl::StatusOr<double> factor = fields.NumberOr(keys.rope_scaling_factor, 1, 0, 1e9);
  if (!factor.ok()) return factor.status();
  if (*factor == 0) return absl::OkStatus();  // not scaled
  if (*factor < kMinRopeFactor) {
    return fields.Wrong(keys.rope_scaling_factor, absl::StrCat("0 or at least ", kMinRopeFactor));
  }
  DivideFrequencies(*factor, &config->inverse_frequencies);
  return absl::OkStatus();
}

absl::Status ReadRotary(const ConfigKeys& keys, const JsonFields& fields, ModelConfig* config) {
  const int64_t head_dim = config->attention.head_dim;
  if (head_dim % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(fields.file(), ": heads have ", head_dim,
                                                   " dimensions, expected an even number"));
  }
  if (!keys.rotary_dims.empty()) {
    const absl::StatusOr<int64_t> dims =
        fields.IntegerOr(keys.rotary_dims, head_dim, 1, kMaxHeadDim);
    if (!dims.ok()) return dims.status();
    if (*dims != head_dim) {
      return fields.Unsupported(keys.rotary_dims, absl::StrCat("only the whole head of ", head_dim,
                                                               " dimensions is rotated"));
    }
  }
  const absl::StatusOr<double> theta =
      fields.NumberOr(keys.rope_theta, keys.default_theta, 1, kMaxTheta);
  if (!theta.ok()) return theta.status();
  config->inverse_frequencies = InverseFrequencies(*theta, head_dim);
  if (config->window > 0 && !keys.window_theta.empty()) {
    const absl::StatusOr<double> local =
        fields.NumberOr(keys.window_theta, kWindowTheta, 1, kMaxTheta);
    if (!local.ok()) return local.status();
    config->window_inverse_frequencies = InverseFrequencies(*local, head_dim);
  }
  return ScaleLinearly(keys, fields, config);
}

}  // namespace

absl::StatusOr<ModelConfig> ReadConfig(const Architecture& architecture, const ConfigKeys& keys,
                                       const JsonFields& fields) {
  ModelConfig config{.architecture = std::string(architecture.name),
                     .norm = architecture.norm,
                     .activation = architecture.default_activation,
                     .gated_mlp = architecture.gated_mlp,
                     .learned_positions = architecture.learned_positions,
                     .tied_lm_head = architecture.default_tied,
                     .qkv_biases = architecture.qkv_biases,
                     .head_norms = architecture.head_norms,
                     .post_norms = architecture.post_norms};
  if (absl::Status status = CheckFixed(keys, fields); !status.ok()) return status;
  if (absl::Status status = ReadSizes(keys, fields, &config); !status.ok()) return status;
  if (absl::Status status = ReadAttention(keys, fields, &config); !status.ok()) return status;
  if (absl::Status status = ReadWindow(architecture, keys, fields, &config); !status.ok()) {
    return status;
  }
  if (absl::Status status = ReadActivation(keys, fields, &config); !status.ok()) return status;
  const absl::StatusOr<double> epsilon =
      fields.NumberOr(keys.norm_epsilon, architecture.default_norm_epsilon, 0, 1);
  if (!epsilon.ok()) return epsilon.status();
  config.norm_epsilon = static_cast<float>(*epsilon);
  if (!keys.tied.empty()) {
    const absl::StatusOr<bool> tied = fields.BoolOr(keys.tied, architecture.default_tied);
    if (!tied.ok()) return tied.status();
    config.tied_lm_head = *tied;
  }
  if (!keys.soft_cap.empty()) {
    const absl::StatusOr<double> soft_cap = fields.NumberOr(keys.soft_cap, 0, 0, 1e6);
    if (!soft_cap.ok()) return soft_cap.status();
    config.soft_cap = static_cast<float>(*soft_cap);
  }
  if (architecture.scaled_embedding) {
    config.embed_scale = static_cast<float>(std::sqrt(static_cast<double>(config.hidden)));
  }
  if (!config.learned_positions) {
    if (absl::Status status = ReadRotary(keys, fields, &config); !status.ok()) return status;
  }
  return config;
}

absl::Status CheckTokens(const ModelConfig& config, const std::string& file) {
  auto check = [&](absl::string_view what, int64_t id) {
    if (id >= 0 && id < config.vocab) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": ", what, " token ", id, " is outside of the vocabulary of ", config.vocab));
  };
  for (const int32_t id : config.end_tokens) {
    if (absl::Status status = check("end", id); !status.ok()) return status;
  }
  return config.begin_token == -1 ? absl::OkStatus() : check("begin", config.begin_token);
}

std::vector<float> InverseFrequencies(double theta, int64_t dims) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < dims; i += 2) {
    frequencies.push_back(
        static_cast<float>(std::pow(theta, -static_cast<double>(i) / static_cast<double>(dims))));
  }
  return frequencies;
}

void DivideFrequencies(double factor, std::vector<float>* frequencies) {
  for (float& frequency : *frequencies) frequency = static_cast<float>(frequency / factor);
}

void ScaleFrequencies(const Llama3Scaling& scaling, std::vector<float>* frequencies) {
  const double longest = scaling.original_context / scaling.low_frequency_factor;
  const double shortest = scaling.original_context / scaling.high_frequency_factor;
  for (float& frequency : *frequencies) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength < shortest) continue;
    const double divided = frequency / scaling.factor;
    if (wavelength > longest) {
      frequency = static_cast<float>(divided);
      continue;
    }
    const double smooth = (scaling.original_context / wavelength - scaling.low_frequency_factor) /
                          (scaling.high_frequency_factor - scaling.low_frequency_factor);
    frequency = static_cast<float>((1 - smooth) * divided + smooth * frequency);
  }
}

}  // namespace vernier
