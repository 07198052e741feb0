// A vocabulary with scores, as SentencePiece and GGUF's "llama" and "t5" have it, as
// TokenizerParts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {

// SentencePiece's types; GGUF's token_type has the same numbers.
enum class PieceType : int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct ScoredPiece {
  std::string text;
  float score = 0;
  int32_t type = static_cast<int32_t>(PieceType::kNormal);
};

struct ScoredVocabulary {
  ModelKind model = ModelKind::kCharacterBpe;  // or kUnigram
  std::vector<ScoredPiece> pieces;             // by id
  bool byte_fallback = false;
  bool prepend_space = true;  // SentencePiece's add_dummy_prefix
  bool tidy_spaces = true;    // its remove_extra_whitespaces
  bool show_spaces = true;    // its escape_whitespaces
  std::string character_map;  // its precompiled_charsmap; empty: none
};

// Fills all of `parts` but begin and end. Of a BPE vocabulary every two tokens whose join is a
// token are a merge, ranked by its score: SentencePiece's own rule. INVALID_ARGUMENT with the id of
// a piece that is empty, longer than 512 bytes, not UTF-8, spelled as another, or has a score that
// is no number; and for a vocabulary with more than 16 merges a token.
absl::Status FillFromScored(const ScoredVocabulary& vocabulary, PartsBuilder* builder,
                            TokenizerParts* parts);

}  // namespace vernier
