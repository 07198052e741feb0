// Encodes plain text as SentencePiece does with the 512 pieces of stories260K, for tests that score
// stories: its rules for spaces, its merges by score, its fallback to bytes.
//
// Format: llama2.c's tokenizer.bin: a 32-bit count, then a piece each: 32-bit float score, 32-bit
// length, bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace vernier::testing {

class StoryTokenizer {
 public:
  explicit StoryTokenizer(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    for (size_t at = sizeof(int32_t); at + 8 <= bytes.size();) {
      float score = 0;
      int32_t length = 0;
      std::memcpy(&score, &bytes[at], sizeof(score));
      std::memcpy(&length, &bytes[at + 4], sizeof(length));
      pieces_.emplace(bytes.substr(at + 8, length), Piece{num_pieces_++, score});
      at += 8 + length;
    }
  }

  // Begins with BOS (1). A piece never crosses words: each is encoded with one space before it,
  // however many the text has.
  std::vector<int32_t> Encode(const std::string& text) const {
    std::vector<int32_t> ids{kBegin};
    for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
      AppendWord(absl::StrCat(" ", word), &ids);
    }
    return ids;
  }

 private:
  static constexpr int32_t kBegin = 1;
  static constexpr int32_t kFirstByte = 3;
  struct Piece {
    int32_t id = 0;
    float score = 0;
  };

  void AppendWord(const std::string& word, std::vector<int32_t>* ids) const {
    std::vector<std::string> symbols = Characters(word);
    for (size_t best = 0; (best = BestMerge(symbols)) < symbols.size();) {
      symbols[best] += symbols[best + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    for (const std::string& symbol : symbols) {
      if (const auto it = pieces_.find(symbol); it != pieces_.end()) {
        ids->push_back(it->second.id);
        continue;
      }
      for (const char c : symbol) ids->push_back(kFirstByte + static_cast<uint8_t>(c));
    }
  }

  static std::vector<std::string> Characters(const std::string& text) {
    std::vector<std::string> characters;
    for (const char c : text) {
      const bool continues = (static_cast<uint8_t>(c) & 0xc0) == 0x80;
      if (continues && !characters.empty()) {
        characters.back() += c;
      } else {
        characters.emplace_back(1, c);
      }
    }
    return characters;
  }

  // The leftmost pair of symbols that makes the piece of the highest score, or symbols.size().
  size_t BestMerge(const std::vector<std::string>& symbols) const {
    size_t best = symbols.size();
    float best_score = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto it = pieces_.find(symbols[i] + symbols[i + 1]);
      if (it == pieces_.end()) continue;
      if (best == symbols.size() || it->second.score > best_score) {
        best = i;
        best_score = it->second.score;
      }
    }
    return best;
  }

  int32_t num_pieces_ = 0;
  std::unordered_map<std::string, Piece> pieces_;
};

}  // namespace vernier::testing
