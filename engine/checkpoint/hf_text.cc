#include "engine/checkpoint/hf_text.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "engine/checkpoint/json_fields.h"
#include "engine/checkpoint/random_access_file.h"

namespace vernier {
namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kMaxTemplateBytes = 1 << 20;

// Empty when the file is not there.
absl::StatusOr<std::string> ReadOptional(const std::string& path, int64_t limit_bytes) {
  absl::StatusOr<std::string> text = ReadWholeFile(path, limit_bytes);
  if (absl::IsNotFound(text.status())) return std::string();
  return text;
}

absl::StatusOr<std::string> TemplateOf(const std::string& config_text, const std::string& path) {
  const absl::StatusOr<nlohmann::json> json = ParseJsonObject(config_text, path);
  if (!json.ok()) return json.status();
  const JsonFields fields(*json, path);
  const nlohmann::json* value = fields.Find("chat_template");
  if (value == nullptr || !value->is_array()) return fields.StringOr("chat_template", "");
  for (const nlohmann::json& entry : *value) {
    if (!entry.is_object()) return fields.Wrong("chat_template", "a string or a list of objects");
    const JsonFields named(entry, path + ": chat_template");
    const absl::StatusOr<std::string> name = named.StringOr("name", "");
    if (!name.ok()) return name.status();
    if (*name == "default") return named.StringOr("template", "");
  }
  return std::string();
}

// tokenizer.json, else tokenizer.model: the first says all that the second does, and more.
absl::Status ReadTokenizer(const std::string& folder, TokenizerSource* source) {
  absl::StatusOr<std::string> json = ReadOptional(folder + "/tokenizer.json", kMaxTokenizerBytes);
  if (!json.ok()) return json.status();
  if (!json->empty()) {
    source->kind = TokenizerSource::Kind::kHuggingFace;
    source->tokenizer_json = *std::move(json);
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> model = ReadOptional(folder + "/tokenizer.model", kMaxTokenizerBytes);
  if (!model.ok()) return model.status();
  if (model->empty()) {
    source->reason = "no tokenizer.json and no tokenizer.model in the folder";
    return absl::OkStatus();
  }
  source->kind = TokenizerSource::Kind::kSentencePiece;
  source->sentencepiece_model = *std::move(model);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerSource> ReadHfText(const std::string& folder) {
  TokenizerSource source;
  if (absl::Status status = ReadTokenizer(folder, &source); !status.ok()) return status;
  if (source.kind == TokenizerSource::Kind::kNone) return source;

  const std::string config_path = folder + "/tokenizer_config.json";
  absl::StatusOr<std::string> config = ReadOptional(config_path, kMaxConfigBytes);
  if (!config.ok()) return config.status();
  source.tokenizer_config_json = *std::move(config);

  absl::StatusOr<std::string> chat =
      ReadOptional(folder + "/chat_template.jinja", kMaxTemplateBytes);
  if (chat.ok() && chat->empty() && !source.tokenizer_config_json.empty()) {
    chat = TemplateOf(source.tokenizer_config_json, config_path);
  }
  if (!chat.ok()) return chat.status();
  source.chat_template = *std::move(chat);
  return source;
}

}  // namespace vernier
