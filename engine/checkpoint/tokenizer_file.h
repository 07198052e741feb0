// Finds a tokenizer alone, in whichever file people have it: no weights are looked at.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/text/tokenizer_source.h"

namespace vernier {

// `path`: a folder (as ReadHfText), a GGUF file with or without tensors, a tokenizer.json or a
// SentencePiece tokenizer.model; which file it is, its bytes say and not its name. A file alone is
// read alone: what lies beside it says nothing.
// NOT_FOUND; INVALID_ARGUMENT naming `path` for anything else, for a file over the limits of
// hf_text and for GGUF that is broken. A source without a tokenizer is kNone with a reason.
absl::StatusOr<TokenizerSource> OpenTokenizerSource(const std::string& path);

}  // namespace vernier
