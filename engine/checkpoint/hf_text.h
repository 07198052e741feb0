// Finds the tokenizer and the chat template of a Hugging Face folder.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/text/tokenizer_source.h"

namespace vernier {

// The largest published tokenizer.json has 34 MB, the largest tokenizer.model 5.
inline constexpr int64_t kMaxTokenizerBytes = 64 << 20;

// tokenizer.json (else tokenizer.model) and tokenizer_config.json as they are; the chat template is
// chat_template.jinja's, else tokenizer_config.json's (of a list, the one named "default").
// INVALID_ARGUMENT for files that are too large or, where they must be read here, malformed.
absl::StatusOr<TokenizerSource> ReadHfText(const std::string& folder);

}  // namespace vernier
