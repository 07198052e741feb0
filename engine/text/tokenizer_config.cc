#include "engine/text/tokenizer_config.h"

#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

// The id of bos_token or eos_token, a string or an object with `content`.
absl::StatusOr<int32_t> ConfigToken(const Json& config, const char* key, int32_t absent,
                                    const PartsBuilder& builder) {
  const Json* token = Member(config, key);
  if (token == nullptr) return absent;
  const auto spelling = token->is_object() ? StringMember(*token, "content", key)
                                           : StringMember(config, key, "tokenizer_config.json");
  if (!spelling.ok()) return spelling.status();
  const int32_t id = builder.Find(*spelling);
  if (id < 0) {
    return absl::InvalidArgumentError(absl::StrCat(key, " of tokenizer_config.json is no token"));
  }
  return id;
}

}  // namespace

absl::Status AddJsonToken(const Json& token, int64_t id, absl::string_view path,
                          PartsBuilder* builder) {
  if (id < 0 || id >= kMaxId) return WrongType(absl::StrCat(path, ".id"), "in [0, 2^30)");
  AddedToken added;
  added.id = static_cast<int32_t>(id);
  auto content = StringMember(token, "content", path);
  if (!content.ok()) return content.status();
  added.content = *std::move(content);
  for (const auto& [key, flag] :
       {std::pair("special", &added.special), std::pair("normalized", &added.normalized),
        std::pair("single_word", &added.single_word), std::pair("lstrip", &added.lstrip),
        std::pair("rstrip", &added.rstrip)}) {
    const auto value = BoolMember(token, key, path, false);
    if (!value.ok()) return value.status();
    *flag = *value;
  }
  return builder->AddAdded(std::move(added));
}

absl::Status AddConfigTokens(const Json& config, PartsBuilder* builder) {
  const Json* decoder = Member(config, "added_tokens_decoder");
  if (decoder == nullptr) return absl::OkStatus();
  const auto* tokens = decoder->get_ptr<const Json::object_t*>();
  if (tokens == nullptr) return WrongType("added_tokens_decoder", "an object");
  for (const auto& [key, token] : *tokens) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(key, &id)) {
      return WrongType("a key of added_tokens_decoder", "an id");
    }
    const std::string path = absl::StrCat("added_tokens_decoder.", id);
    if (absl::Status status = AddJsonToken(token, id, path, builder); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ReadConfigEnds(const Json& config, const PartsBuilder& builder,
                            TokenizerParts* parts) {
  for (const auto& [key, id] :
       {std::pair("bos_token", &parts->begin), std::pair("eos_token", &parts->end)}) {
    const auto token = ConfigToken(config, key, *id, builder);
    if (!token.ok()) return token.status();
    *id = *token;
  }
  return absl::OkStatus();
}

absl::Status ReadAddBegin(const Json& config, TokenizerParts* parts) {
  const auto add_begin =
      BoolMember(config, "add_bos_token", "tokenizer_config.json", parts->add_begin);
  if (!add_begin.ok()) return add_begin.status();
  if (*add_begin && parts->begin < 0) {
    return absl::InvalidArgumentError("add_bos_token is true, but there is no bos_token");
  }
  parts->add_begin = *add_begin;
  return absl::OkStatus();
}

}  // namespace vernier
