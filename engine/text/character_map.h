// SentencePiece's precompiled_charsmap: a double-array trie from strings to what replaces them.
//
// Source: sentencepiece's normalizer.cc and Darts-clone's darts.h. The blob is 4 bytes of the
// trie's size, the trie's units (4 bytes each, little-endian), then the replacements, each ended by
// a NUL.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace vernier {

// INVALID_ARGUMENT when the sizes do not fit each other. Nothing that passes reads outside `blob`.
absl::Status CheckCharacterMap(absl::string_view blob);

// Appends `text` with the longest match at each place replaced. False, with `out` at most
// `limit_bytes` and one replacement long, when that is passed. REQUIRES: a checked blob,
// well-formed UTF-8.
bool AppendMapped(absl::string_view blob, absl::string_view text, size_t limit_bytes,
                  std::string* out);

}  // namespace vernier
