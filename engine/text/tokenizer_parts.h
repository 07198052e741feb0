// A byte-level BPE tokenizer as data, whichever kind of file said so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer_source.h"

namespace vernier {

// A token found in the text before anything else is done to it; flags as in tokenizer.json.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // never made from what a user wrote
  bool normalized = false;   // looked for behind the normalizer
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and behind it
};

// `result` replaces `left` `right`; its index in the list is its rank.
struct BpeMerge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
};

struct TokenizerParts {
  std::vector<std::string> spellings;  // by id, in the byte alphabet; added ones as they are read
  std::vector<bool> used;              // by id: ids may have holes
  std::vector<BpeMerge> merges;        // best first
  std::vector<AddedToken> added;       // ids and contents unique
  std::vector<SplitRule> splits;
  bool add_prefix_space = false;  // a space before each part that begins without one
  bool nfc = false;
  bool ignore_merges = false;  // a piece that is a token is that token
  int32_t begin = -1;          // -1: none
  int32_t end = -1;
  bool add_begin = false;
};

// Errors of both: as Tokenizer::Create.
absl::StatusOr<TokenizerParts> PartsFromTokenizerJson(absl::string_view tokenizer_json,
                                                      absl::string_view tokenizer_config_json);
absl::StatusOr<TokenizerParts> PartsFromGguf(const GgufVocabulary& vocabulary);

// The pattern of Llama 3's pre-tokenizer with at most `max_digits` (1 or 3) digits a piece.
std::string Llama3Pattern(int max_digits);

// Fills the spellings of `parts` and checks what both kinds of file can get wrong.
class PartsBuilder {
 public:
  explicit PartsBuilder(TokenizerParts* parts) : parts_(parts) {}

  // `count` entries follow; ids may run past it by 65536.
  void ExpectTokens(size_t count);
  // INVALID_ARGUMENT: an id out of range or taken, a spelling taken or over 65536 bytes.
  absl::Status AddVocabulary(int64_t id, absl::string_view spelling);
  // Also where the vocabulary has the token already, with the same id. A second one replaces the
  // flags of the first.
  absl::Status AddAdded(AddedToken token);
  // INVALID_ARGUMENT: a part or the result is empty or no token.
  absl::Status AddMerge(absl::string_view left, absl::string_view right);
  // "left right", one space.
  absl::Status AddMerge(absl::string_view pair);
  // -1: none.
  int32_t Find(absl::string_view spelling) const;

 private:
  absl::Status Place(int64_t id, absl::string_view spelling);

  TokenizerParts* const parts_;
  int64_t max_ids_ = 0;
  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_map<int32_t, size_t> added_;  // id to index in parts_->added
  std::string joined_;
};

}  // namespace vernier
