// The tokens of single characters, and what stands for a character that has none.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {

// The byte of a spelling "<0x0A>", -1: spelled otherwise.
int ByteOfSpelling(absl::string_view spelling);

// Immutable once filled: any thread.
class CharacterTokens {
 public:
  // INVALID_ARGUMENT when a character of text is a special token.
  absl::Status Fill(const TokenizerParts& parts);

  // -1: none.
  int32_t Find(char32_t character) const {
    if (character < ascii_.size()) return ascii_[character];
    const auto it = others_.find(character);
    return it == others_.end() ? -1 : it->second;
  }
  // What a character without a token becomes: its bytes' tokens where the vocabulary has all of
  // them, else the unknown token, once for a run from out[first] on where a run is one; else
  // nothing.
  void AppendUnknown(absl::string_view character, size_t first, std::vector<int32_t>* out) const;
  int64_t bytes() const {
    return static_cast<int64_t>(others_.capacity() * (sizeof(decltype(others_)::value_type) + 1));
  }

 private:
  std::array<int32_t, 128> ascii_{};
  absl::flat_hash_map<char32_t, int32_t> others_;
  std::array<int32_t, 256> bytes_{};  // -1: none
  int32_t unknown_ = -1;
  bool fuse_unknown_ = false;
};

}  // namespace vernier
