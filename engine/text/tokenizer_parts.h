// A tokenizer as data, whichever kind of file said so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/decoding.h"
#include "engine/text/metaspace.h"
#include "engine/text/normalizer.h"
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

// `result` replaces `left` `right`; the lowest rank first, among equals the leftmost.
struct BpeMerge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
  uint32_t rank = 0;
};

enum class ModelKind : uint8_t {
  kByteLevelBpe,  // merges over bytes; spelled in GPT-2's byte alphabet
  kCharacterBpe,  // merges over characters
  kUnigram,       // no merges: the best sum of scores
};

struct TokenizerParts {
  ModelKind model = ModelKind::kByteLevelBpe;
  std::vector<std::string> spellings;  // by id; added ones as they are read
  std::vector<bool> used;              // by id: ids may have holes
  std::vector<BpeMerge> merges;
  std::vector<double> scores;     // kUnigram, by id; -infinity: never made from text
  std::vector<AddedToken> added;  // ids and contents unique; `normalized` contents are normalized
  std::vector<NormalizerStep> normalizers;
  std::optional<Metaspace> metaspace;  // behind the normalizers
  std::vector<SplitRule> splits;       // behind the metaspace
  Decoding decoding;                   // not of kByteLevelBpe
  bool add_prefix_space = false;       // a space before each part that begins without one
  bool ignore_merges = false;          // a piece that is a token is that token
  bool byte_fallback = false;          // a character without a token is its bytes' tokens, "<0xE2>"
  bool fuse_unknown = false;           // a run of unknown characters is one unknown token
  int32_t unknown = -1;                // -1: an unknown character gives nothing
  int32_t begin = -1;                  // -1: none
  int32_t end = -1;
  bool add_begin = false;
};

// Errors of all: as Tokenizer::Create.
absl::StatusOr<TokenizerParts> PartsFromTokenizerJson(absl::string_view tokenizer_json,
                                                      absl::string_view tokenizer_config_json);
absl::StatusOr<TokenizerParts> PartsFromSentencePiece(absl::string_view model,
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
