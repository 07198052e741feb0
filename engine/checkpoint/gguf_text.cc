#include "engine/checkpoint/gguf_text.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/gguf_metadata.h"
#include "engine/checkpoint/json_fields.h"

namespace vernier {
namespace {

// The array of `key`, empty when it is not there. INVALID_ARGUMENT when it is something else.
template <typename T>
absl::StatusOr<std::vector<T>> TakeArray(const JsonFields& fields, absl::string_view key,
                                         absl::string_view expected, GgufHeader* header) {
  const auto it = header->metadata.find(key);
  if (it == header->metadata.end()) return std::vector<T>();
  auto* array = std::get_if<std::vector<T>>(&it->second);
  if (array == nullptr) return fields.Wrong(key, expected);
  return std::move(*array);
}

absl::Status ReadIds(const JsonFields& fields, GgufVocabulary* vocabulary) {
  const std::pair<absl::string_view, int32_t*> ids[] = {
      {"tokenizer.ggml.bos_token_id", &vocabulary->begin},
      {"tokenizer.ggml.eos_token_id", &vocabulary->end},
      {"tokenizer.ggml.unknown_token_id", &vocabulary->unknown}};
  for (const auto& [key, id] : ids) {
    const absl::StatusOr<int64_t> value = fields.IntegerOr(key, -1, -1, INT32_MAX);
    if (!value.ok()) return value.status();
    *id = static_cast<int32_t>(*value);
  }
  // Converters leave the key out where a tokenizer_config.json has none, as Llama 3's, whose
  // post-processor adds the token; llama.cpp knows it by the pre-tokenizer's name, too. Models by
  // scores add it, too.
  const std::string& pre = vocabulary->pre;
  const bool llama3 = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3";
  const bool adds_begin = llama3 || vocabulary->model == "llama";
  const absl::StatusOr<bool> add_begin =
      fields.BoolOr("tokenizer.ggml.add_bos_token", adds_begin && vocabulary->begin >= 0);
  if (!add_begin.ok()) return add_begin.status();
  vocabulary->add_begin = *add_begin;
  return absl::OkStatus();
}

// What a vocabulary by scores has beside its tokens.
absl::Status TakeScores(const JsonFields& fields, GgufHeader* header, GgufVocabulary* vocabulary) {
  const absl::StatusOr<std::vector<double>> scores =
      TakeArray<double>(fields, "tokenizer.ggml.scores", "numbers", header);
  if (!scores.ok()) return scores.status();
  vocabulary->scores.assign(scores->begin(), scores->end());
  const std::pair<absl::string_view, bool*> flags[] = {
      {"tokenizer.ggml.add_space_prefix", &vocabulary->add_space_prefix},
      {"tokenizer.ggml.remove_extra_whitespaces", &vocabulary->remove_extra_whitespaces}};
  for (const auto& [key, flag] : flags) {
    const absl::StatusOr<bool> value = fields.BoolOr(key, *flag);
    if (!value.ok()) return value.status();
    *flag = *value;
  }
  constexpr absl::string_view kMapKey = "tokenizer.ggml.precompiled_charsmap";
  const absl::StatusOr<std::vector<int64_t>> map =
      TakeArray<int64_t>(fields, kMapKey, "bytes", header);
  if (!map.ok()) return map.status();
  for (const int64_t byte : *map) {
    if (byte < -128 || byte > 255) return fields.Wrong(kMapKey, "bytes");
    vocabulary->precompiled_charsmap += static_cast<char>(static_cast<uint8_t>(byte));
  }
  return absl::OkStatus();
}

absl::Status TakeVocabulary(const JsonFields& fields, GgufHeader* header,
                            GgufVocabulary* vocabulary) {
  const absl::StatusOr<std::string> pre = fields.StringOr("tokenizer.ggml.pre", "");
  if (!pre.ok()) return pre.status();
  vocabulary->pre = *pre;
  absl::StatusOr<std::vector<std::string>> tokens =
      TakeArray<std::string>(fields, "tokenizer.ggml.tokens", "strings", header);
  if (!tokens.ok()) return tokens.status();
  if (tokens->empty()) return fields.Wrong("tokenizer.ggml.tokens", "at least one token");
  vocabulary->tokens = *std::move(tokens);
  const absl::StatusOr<std::vector<int64_t>> types =
      TakeArray<int64_t>(fields, "tokenizer.ggml.token_type", "whole numbers", header);
  if (!types.ok()) return types.status();
  for (const int64_t type : *types) {
    if (!std::in_range<int32_t>(type)) {
      return absl::InvalidArgumentError(absl::StrCat(
          fields.file(), ": tokenizer.ggml.token_type has ", type, ", expected 1 to 6"));
    }
    vocabulary->types.push_back(static_cast<int32_t>(type));
  }
  absl::StatusOr<std::vector<std::string>> merges =
      TakeArray<std::string>(fields, "tokenizer.ggml.merges", "strings", header);
  if (!merges.ok()) return merges.status();
  vocabulary->merges = *std::move(merges);
  if (absl::Status status = TakeScores(fields, header, vocabulary); !status.ok()) return status;
  return ReadIds(fields, vocabulary);
}

}  // namespace

absl::StatusOr<TokenizerSource> TakeGgufText(const std::string& file, GgufHeader* header) {
  const nlohmann::json json = MetadataJson(*header);
  const JsonFields fields(json, file);
  TokenizerSource source;
  if (const auto it = header->metadata.find("tokenizer.chat_template");
      it != header->metadata.end()) {
    auto* text = std::get_if<std::string>(&it->second);
    if (text == nullptr) return fields.Wrong("tokenizer.chat_template", "a string");
    source.chat_template = std::move(*text);
  }
  const absl::StatusOr<std::string> model = fields.StringOr("tokenizer.ggml.model", "");
  if (!model.ok()) return model.status();
  if (model->empty() || *model == "none") {
    source.reason = "the file has no tokenizer (tokenizer.ggml.model)";
    return source;
  }
  source.kind = TokenizerSource::Kind::kGguf;
  source.gguf.model = *model;
  if (absl::Status status = TakeVocabulary(fields, header, &source.gguf); !status.ok()) {
    return status;
  }
  return source;
}

}  // namespace vernier
