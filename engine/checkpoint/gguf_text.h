// Finds the tokenizer and the chat template of a GGUF file.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/gguf.h"
#include "engine/text/tokenizer_source.h"

namespace vernier {

// The keys tokenizer.*; their arrays are moved out of `header`. A file without them gives kNone.
// INVALID_ARGUMENT for a key of another kind than it must be; `file` is for messages.
absl::StatusOr<TokenizerSource> TakeGgufText(const std::string& file, GgufHeader* header);

}  // namespace vernier
