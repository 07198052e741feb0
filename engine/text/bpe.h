// Byte-pair merges over bytes or characters: a piece of text to token ids, in n log n.
//
// Source: Sennrich, Haddow, Birch 2016; order of merges as in Hugging Face tokenizers: the best
// rank first, among equals the leftmost.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/character_tokens.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {

// One thread's memory for merging, kept between pieces.
struct BpeScratch {
  struct Symbol {
    int32_t id;
    int32_t previous;  // index, -1: none
    int32_t next;
  };
  // A pair that may be merged. Stale when its symbols have changed since.
  struct Candidate {
    uint32_t rank;
    int32_t position;  // index of the left symbol
    int32_t left;
    int32_t right;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::vector<int32_t> ids;
  int64_t operations = 0;  // look-ups, comparisons of ranks and heap steps so far
};

// Immutable after Create: any thread.
class BpeModel {
 public:
  // Reads `parts` only here. INVALID_ARGUMENT when a single byte or character is a special token.
  static absl::StatusOr<std::unique_ptr<BpeModel>> Create(const TokenizerParts& parts);

  // Appends the ids of `piece`, never a special one but the unknown token. A byte that the
  // vocabulary has no token for gives nothing, as in Hugging Face tokenizers without an unknown
  // token; so does a character where there is neither byte fallback nor an unknown token.
  void Encode(absl::string_view piece, BpeScratch* scratch, std::vector<int32_t>* out) const;

  // What a token stands for, in a model over characters its spelling. REQUIRES: 0 <= id < size().
  absl::string_view Bytes(int32_t id) const;
  int32_t size() const { return static_cast<int32_t>(offsets_.size()) - 1; }
  int64_t bytes() const;

 private:
  struct Merge {
    uint32_t rank;
    int32_t result;
  };
  BpeModel() = default;
  bool over_bytes() const { return kind_ == ModelKind::kByteLevelBpe; }
  std::vector<bool> FillBytes(const TokenizerParts& parts);
  absl::Status FillByteTokens(const TokenizerParts& parts, const std::vector<bool>& special);
  void FillMerges(const std::vector<BpeMerge>& merges, const std::vector<bool>& special);
  void FillWhole(const std::vector<bool>& plain, bool ignore_merges);
  void EncodeWord(absl::string_view word, BpeScratch* scratch, std::vector<int32_t>* out) const;
  void SeedBytes(absl::string_view piece, std::vector<int32_t>* ids) const;
  void SeedCharacters(absl::string_view piece, std::vector<int32_t>* ids) const;
  void Merged(absl::string_view piece, BpeScratch* scratch, std::vector<int32_t>* out) const;
  void MergeShort(BpeScratch* scratch, std::vector<int32_t>* out) const;
  void MergeLong(BpeScratch* scratch, std::vector<int32_t>* out) const;
  void PushCandidate(int32_t position, BpeScratch* scratch) const;
  const Merge* Find(int32_t left, int32_t right, BpeScratch* scratch) const;

  std::string arena_;              // bytes of all tokens
  std::vector<uint64_t> offsets_;  // [size + 1] into the arena
  ModelKind kind_ = ModelKind::kByteLevelBpe;
  int32_t byte_tokens_[256];    // over bytes; -1: none
  CharacterTokens characters_;  // over characters
  bool cut_words_ = false;      // no merge reaches across words
  absl::flat_hash_map<uint64_t, Merge> merges_;
  // Pieces that are one token, so that most words take one look-up; keys lie in the arena.
  absl::flat_hash_map<absl::string_view, int32_t> whole_;
};

}  // namespace vernier
