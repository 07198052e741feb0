// What tokenizer_config.json adds to a tokenizer: tokens with their flags, the ends of a text.
//
// Errors are INVALID_ARGUMENT and name the member.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/text/json_value.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {

// One entry of added_tokens or added_tokens_decoder: content and flags.
absl::Status AddJsonToken(const Json& token, int64_t id, absl::string_view path,
                          PartsBuilder* builder);
// added_tokens_decoder. Flags given there win, as in transformers.
absl::Status AddConfigTokens(const Json& config, PartsBuilder* builder);
// bos_token and eos_token; a member that is absent leaves what is there.
absl::Status ReadConfigEnds(const Json& config, const PartsBuilder& builder, TokenizerParts* parts);
// add_bos_token, where it is stated.
absl::Status ReadAddBegin(const Json& config, TokenizerParts* parts);

}  // namespace vernier
