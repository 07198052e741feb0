#include "engine/checkpoint/quant_config.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

constexpr int64_t kMaxGroup = int64_t{1} << 24;

// UNIMPLEMENTED unless `key` is absent, null, false, or a list or an object without members.
absl::Status RequireNothing(const JsonFields& fields, absl::string_view key) {
  const nlohmann::json* value = fields.Find(key);
  if (value == nullptr || *value == false) return absl::OkStatus();
  if (value->is_structured() && value->empty()) return absl::OkStatus();
  return fields.Unsupported(key, "nothing is");
}

// UNIMPLEMENTED unless `key` is `only`, in any case, or absent.
absl::Status RequireText(const JsonFields& fields, absl::string_view key, absl::string_view only) {
  const absl::StatusOr<std::string> value = fields.StringOr(key, only);
  if (!value.ok()) return value.status();
  if (absl::EqualsIgnoreCase(*value, only)) return absl::OkStatus();
  return fields.Unsupported(key, absl::StrCat(only, " is"));
}

absl::Status ReadBits(const JsonFields& fields, absl::string_view key, bool eight,
                      QuantSettings* settings) {
  const absl::StatusOr<int64_t> bits = fields.Integer(key, 1, 32);
  if (!bits.ok()) return bits.status();
  if (*bits != 4 && !(eight && *bits == 8)) {
    return fields.Unsupported(key, eight ? "4 and 8 are" : "4 is");
  }
  settings->bits = static_cast<int>(*bits);
  return absl::OkStatus();
}

absl::Status ReadGroup(const JsonFields& fields, QuantSettings* settings) {
  const absl::StatusOr<int64_t> group = fields.Integer("group_size", -1, kMaxGroup);
  if (!group.ok()) return group.status();
  if (*group == 0) return fields.Wrong("group_size", "-1 or at least 1");
  settings->group = *group < 0 ? 0 : *group;
  return absl::OkStatus();
}

// transformers' BitsAndBytesConfig. What it says of activations (llm_int8_threshold, compute
// dtypes) is not about what the file holds.
absl::Status ReadBitsAndBytes(const JsonFields& fields, QuantSettings*) {
  const absl::StatusOr<bool> four = fields.BoolOr("load_in_4bit", false);
  if (!four.ok()) return four.status();
  const absl::StatusOr<bool> eight = fields.BoolOr("load_in_8bit", false);
  if (!eight.ok()) return eight.status();
  if (*four == *eight) {
    return fields.Wrong("load_in_4bit", "true, or false with load_in_8bit true");
  }
  if (*eight) return absl::OkStatus();
  const absl::StatusOr<std::string> type = fields.StringOr("bnb_4bit_quant_type", "fp4");
  if (!type.ok()) return type.status();
  return *type == "nf4" ? absl::OkStatus() : fields.Unsupported("bnb_4bit_quant_type", "nf4 is");
}

// AutoGPTQ's and GPTQModel's QuantizeConfig.
absl::Status ReadGptq(const JsonFields& fields, QuantSettings* settings) {
  if (absl::Status status = ReadBits(fields, "bits", /*eight=*/true, settings); !status.ok()) {
    return status;
  }
  if (absl::Status status = ReadGroup(fields, settings); !status.ok()) return status;
  const absl::StatusOr<bool> reordered = fields.BoolOr("desc_act", false);
  if (!reordered.ok()) return reordered.status();
  settings->reordered = *reordered;
  // GPTQModel writes `format` beside the key that it had before.
  const absl::string_view key =
      fields.Find("checkpoint_format") != nullptr ? "checkpoint_format" : "format";
  const absl::StatusOr<std::string> format = fields.StringOr(key, "gptq");
  if (!format.ok()) return format.status();
  if (*format != "gptq" && *format != "gptq_v2") {
    return fields.Unsupported(key, "gptq and gptq_v2 are");
  }
  settings->less_one = *format == "gptq";
  // Bits or groups of single tensors; another kernel's layout.
  for (const absl::string_view other : {"dynamic", "is_marlin_format"}) {
    if (absl::Status status = RequireNothing(fields, other); !status.ok()) return status;
  }
  return RequireText(fields, "pack_dtype", "int32");
}

// AutoAWQ's AwqConfig.
absl::Status ReadAwq(const JsonFields& fields, QuantSettings* settings) {
  if (absl::Status status = ReadBits(fields, "bits", /*eight=*/false, settings); !status.ok()) {
    return status;
  }
  if (absl::Status status = ReadGroup(fields, settings); !status.ok()) return status;
  const absl::StatusOr<bool> zero_point = fields.BoolOr("zero_point", true);
  if (!zero_point.ok()) return zero_point.status();
  if (!*zero_point) return fields.Unsupported("zero_point", "true is");
  for (const absl::string_view key : {"version", "format"}) {
    if (absl::Status status = RequireText(fields, key, "gemm"); !status.ok()) return status;
  }
  return RequireText(fields, "backend", "autoawq");
}

// `config_groups`' one scheme of weights.
absl::Status ReadWeightScheme(const JsonFields& weights, QuantSettings* settings) {
  if (absl::Status status = RequireText(weights, "type", "int"); !status.ok()) return status;
  if (absl::Status status = ReadBits(weights, "num_bits", /*eight=*/true, settings); !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::string> strategy = weights.StringOr("strategy", "");
  if (!strategy.ok()) return strategy.status();
  if (*strategy == "group") {
    if (absl::Status status = ReadGroup(weights, settings); !status.ok()) return status;
  } else if (*strategy != "channel") {
    return weights.Unsupported("strategy", "channel and group are");
  }
  const absl::StatusOr<bool> symmetric = weights.BoolOr("symmetric", true);
  if (!symmetric.ok()) return symmetric.status();
  settings->zero_points = !*symmetric;
  const absl::StatusOr<std::string> order = weights.StringOr("actorder", "");
  if (!order.ok()) return order.status();
  settings->reordered = *order == "group";
  return RequireNothing(weights, "dynamic");
}

// QuantizationConfig of the compressed-tensors package. Activations that are quantized while the
// model runs leave nothing in the file; ours are not.
absl::Status ReadCompressedTensors(const JsonFields& fields, QuantSettings* settings) {
  const absl::StatusOr<std::string> format = fields.StringOr("format", "");
  if (!format.ok()) return format.status();
  if (*format != "int-quantized" && *format != "naive-quantized" && *format != "pack-quantized") {
    return fields.Unsupported("format", "int-quantized, naive-quantized and pack-quantized are");
  }
  for (const absl::string_view key : {"kv_cache_scheme", "transform_config"}) {
    if (absl::Status status = RequireNothing(fields, key); !status.ok()) return status;
  }
  if (const nlohmann::json* sparsity = fields.Find("sparsity_config"); sparsity != nullptr) {
    if (!sparsity->is_object()) return fields.Wrong("sparsity_config", "an object");
    const JsonFields sparse(*sparsity, fields.file() + ": sparsity_config");
    if (absl::Status status = RequireText(sparse, "format", "dense"); !status.ok()) return status;
  }
  const nlohmann::json* groups = fields.Find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty()) {
    return fields.Wrong("config_groups", "an object of one scheme");
  }
  if (groups->size() > 1) return fields.Unsupported("config_groups", "one scheme is");
  const std::string where =
      absl::StrCat(fields.file(), ": config_groups: ", groups->begin().key().substr(0, 40));
  const nlohmann::json& object = *groups->begin();
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(where, " is not an object"));
  }
  const JsonFields group(object, where);
  const nlohmann::json* weights = group.Find("weights");
  if (weights == nullptr || !weights->is_object()) return group.Wrong("weights", "an object");
  if (absl::Status status = RequireNothing(group, "output_activations"); !status.ok()) {
    return status;
  }
  const nlohmann::json* inputs = group.Find("input_activations");
  if (inputs != nullptr && (!inputs->is_object() || inputs->find("dynamic") == inputs->end() ||
                            *inputs->find("dynamic") != true)) {
    return group.Unsupported("input_activations", "none and dynamic ones are");
  }
  return ReadWeightScheme(JsonFields(*weights, where + ": weights"), settings);
}

struct Method {
  QuantMethod id;
  absl::string_view name;
  absl::Status (*read)(const JsonFields& fields, QuantSettings* settings);
};
constexpr Method kMethods[] = {
    {QuantMethod::kBitsAndBytes, "bitsandbytes", ReadBitsAndBytes},
    {QuantMethod::kGptq, "gptq", ReadGptq},
    {QuantMethod::kAwq, "awq", ReadAwq},
    {QuantMethod::kCompressedTensors, "compressed-tensors", ReadCompressedTensors},
};

}  // namespace

absl::string_view QuantMethodName(QuantMethod method) {
  for (const Method& row : kMethods) {
    if (row.id == method) return row.name;
  }
  return "none";
}

absl::StatusOr<QuantSettings> ReadQuantSettings(const JsonFields& config) {
  const nlohmann::json* object = config.Find("quantization_config");
  if (object == nullptr) return QuantSettings{};
  if (!object->is_object()) return config.Wrong("quantization_config", "an object");
  const JsonFields fields(*object, absl::StrCat(config.file(), ": quantization_config"));
  // bitsandbytes' configs did not always say whose they are.
  const bool old = fields.Find("load_in_4bit") != nullptr || fields.Find("load_in_8bit") != nullptr;
  const absl::StatusOr<std::string> name =
      fields.StringOr("quant_method", old ? "bitsandbytes" : "");
  if (!name.ok()) return name.status();
  for (const Method& row : kMethods) {
    if (*name != row.name) continue;
    QuantSettings settings{.method = row.id};
    if (absl::Status status = row.read(fields, &settings); !status.ok()) return status;
    return settings;
  }
  return fields.Unsupported("quant_method", "bitsandbytes, gptq, awq and compressed-tensors are");
}

}  // namespace vernier
