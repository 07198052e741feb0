// The model of a tokenizer, whichever it is: a piece of text to ids, and an id to its bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/bpe.h"
#include "engine/text/tokenizer_parts.h"
#include "engine/text/unigram.h"

namespace vernier {

struct TokenModelScratch {
  BpeScratch bpe;
  UnigramScratch unigram;
};

// Immutable after Create: any thread.
class TokenModel {
 public:
  // Reads `parts` only here. INVALID_ARGUMENT as BpeModel::Create and UnigramModel::Create.
  static absl::StatusOr<TokenModel> Create(const TokenizerParts& parts);

  void Encode(absl::string_view piece, TokenModelScratch* scratch, std::vector<int32_t>* out) const;
  int32_t size() const { return size_; }
  // What a token stands for, as the decoder makes it. REQUIRES: 0 <= id < size().
  absl::string_view Bytes(int32_t id) const;
  int64_t bytes() const;

 private:
  TokenModel() = default;
  void FillDecoded(const TokenizerParts& parts);

  int32_t size_ = 0;
  std::unique_ptr<BpeModel> bpe_;  // one of the two, the other is null
  std::unique_ptr<UnigramModel> unigram_;
  std::string decoded_;            // bytes of all tokens; empty over bytes, where bpe_ has them
  std::vector<uint64_t> offsets_;  // [size + 1] into decoded_
};

}  // namespace vernier
