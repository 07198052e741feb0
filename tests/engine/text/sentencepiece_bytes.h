// Writes SentencePiece's tokenizer.model for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "engine/text/tokenizer_source.h"

namespace vernier::testing {

inline std::string Varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
  return out;
}

inline std::string NumberField(int number, int64_t value) {
  return Varint(static_cast<uint64_t>(number) << 3) + Varint(static_cast<uint64_t>(value));
}

inline std::string BytesField(int number, const std::string& bytes) {
  return Varint(static_cast<uint64_t>(number) << 3 | 2) + Varint(bytes.size()) + bytes;
}

struct SmallModel {
  struct Piece {
    std::string text;
    float score = 0;
    int type = 1;  // 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  };
  std::vector<Piece> pieces = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}};
  int model_type = 2;  // 1 unigram, 2 BPE
  bool byte_fallback = false;
  bool prepend_space = true;
  bool tidy_spaces = false;
  std::string character_map;
  std::string more_trainer;  // fields of trainer_spec

  SmallModel& AddBytes() {
    for (int byte = 0; byte < 256; ++byte) {
      constexpr char kDigits[] = "0123456789ABCDEF";
      pieces.push_back({std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">", 0, 6});
    }
    byte_fallback = true;
    return *this;
  }

  std::string Bytes() const {
    std::string out;
    for (const Piece& piece : pieces) {
      std::string score(4, '\0');
      std::memcpy(score.data(), &piece.score, 4);
      out += BytesField(
          1, BytesField(1, piece.text) + Varint(2 << 3 | 5) + score + NumberField(3, piece.type));
    }
    out += BytesField(
        2, NumberField(3, model_type) + NumberField(35, byte_fallback ? 1 : 0) + more_trainer);
    return out +
           BytesField(3, BytesField(2, character_map) + NumberField(3, prepend_space ? 1 : 0) +
                             NumberField(4, tidy_spaces ? 1 : 0));
  }

  TokenizerSource Source() const {
    TokenizerSource source;
    source.kind = TokenizerSource::Kind::kSentencePiece;
    source.sentencepiece_model = Bytes();
    return source;
  }
};

}  // namespace vernier::testing
