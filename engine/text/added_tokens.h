// Finds added tokens in a text: at each place the longest, from left to right.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/text/byte_trie.h"
#include "engine/text/pattern.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {

// Where special tokens may be recognised: ascending ranges that do not touch.
using TemplateRanges = std::vector<TextRange>;

// A run of text, or one token.
struct AddedSplit {
  TextRange range;
  int32_t id = -1;  // -1: text
};

// A trie. Immutable after its constructor: any thread. A look-up costs at most the longest token a
// byte of text.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);
  bool empty() const { return tokens_.empty(); }
  // Cuts all of `text`. A special token counts only where it lies inside one of `template_ranges`,
  // whatever it strips at its sides.
  std::vector<AddedSplit> Split(absl::string_view text,
                                const TemplateRanges& template_ranges) const;
  int64_t bytes() const;

 private:
  // The longest token that begins at `begin` and is allowed there; null: none.
  const AddedToken* FindAt(absl::string_view text, uint32_t begin,
                           const TextRange& template_range) const;

  std::vector<AddedToken> tokens_;
  std::array<bool, 256> starts_{};  // by first byte
  ByteTrie trie_;                   // to index into tokens_
};

}  // namespace vernier
