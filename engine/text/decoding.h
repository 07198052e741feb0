// What tokens stand for: tokenizer.json's decoders as steps on each token and on the whole text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace vernier {

struct DecodeStep {
  enum class Kind : uint8_t {
    kReplace,       // `from` by `to`
    kByteFallback,  // "<0x0A>" is the byte
    kStrip,         // up to `left` and `right` times `from` at the ends
  };
  Kind kind = Kind::kReplace;
  std::string from;
  std::string to;
  int left = 0;
  int right = 0;
};

struct Decoding {
  std::vector<DecodeStep> token_steps;  // on each token alone
  std::vector<DecodeStep> text_steps;   // on all of them together, kStrip alone
  std::string dropped_from_first;       // gone from the first token; empty: nothing is
};

// The bytes of one token.
std::string DecodedToken(const std::vector<DecodeStep>& steps, absl::string_view spelling);
// What the steps leave of a whole text, a part of `text`.
absl::string_view DecodedText(const std::vector<DecodeStep>& steps, absl::string_view text);

}  // namespace vernier
