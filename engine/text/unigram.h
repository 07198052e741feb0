// Unigram: a text as the tokens with the best sum of scores, in one pass.
//
// Source: Kudo 2018, "Subword Regularization"; the best path, and the penalty of unknown
// characters, as SentencePiece and Hugging Face tokenizers have them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/byte_trie.h"
#include "engine/text/character_tokens.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {

// One thread's memory for paths, kept between texts.
struct UnigramScratch {
  // The best way to a place.
  struct Node {
    double score;
    int32_t begin;  // of its last token, -1: no way yet
    int32_t id;     // -1: an unknown character
  };
  std::vector<Node> nodes;  // by byte
  std::vector<int32_t> path;
  int64_t operations = 0;  // steps in the trie so far
};

// Immutable after Create: any thread.
class UnigramModel {
 public:
  // Reads `parts` only here. INVALID_ARGUMENT when a character is a special token.
  static absl::StatusOr<std::unique_ptr<UnigramModel>> Create(const TokenizerParts& parts);

  // Appends the ids of `text`, never a special one but the unknown token. At most the longest token
  // a character of the text in steps. Sums are double, where SentencePiece's are float: paths whose
  // scores are equal to seven digits may differ from it.
  void Encode(absl::string_view text, UnigramScratch* scratch, std::vector<int32_t>* out) const;
  int64_t bytes() const { return trie_.bytes() + characters_.bytes(); }

 private:
  UnigramModel() = default;
  void EncodeWord(absl::string_view word, size_t first, UnigramScratch* scratch,
                  std::vector<int32_t>* out) const;
  void Extend(absl::string_view word, size_t begin, UnigramScratch* scratch) const;

  ByteTrie trie_;  // to ids
  std::vector<double> scores_;
  double unknown_score_ = 0;
  CharacterTokens characters_;
  bool cut_words_ = false;
};

}  // namespace vernier
