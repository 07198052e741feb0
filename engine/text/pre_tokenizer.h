// Cuts text into the pieces that byte-pair merges never cross.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/pattern.h"

namespace vernier {

// What becomes of a match, in tokenizer.json's words.
enum class SplitBehavior : uint8_t {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous
};

struct SplitRule {
  std::string pattern;
  Pattern::Syntax syntax = Pattern::Syntax::kRegex;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what does not match is the match
};

// The pattern of tokenizer.json's ByteLevel with use_regex, as GPT-2 published it.
extern const char kGpt2Pattern[];

// The rules in order, each within the pieces of the one before. Immutable: any thread.
class PreTokenizer {
 public:
  // INVALID_ARGUMENT for a broken pattern.
  static absl::StatusOr<PreTokenizer> Create(const std::vector<SplitRule>& rules);

 private:
  friend class PreTokenizerRun;
  struct Step {
    std::shared_ptr<const Pattern> pattern;
    SplitBehavior behavior;
    bool invert;
  };
  std::vector<Step> steps_;
};

// One thread's use of a pre-tokenizer, with its scratch memory.
class PreTokenizerRun {
 public:
  explicit PreTokenizerRun(const PreTokenizer* pre_tokenizer);
  // Pieces of `text` in order, none empty; valid until the next call. RESOURCE_EXHAUSTED when a
  // pattern exceeds its limits. REQUIRES: well-formed UTF-8 below 2^31 bytes.
  absl::StatusOr<const std::vector<TextRange>*> Split(absl::string_view text);

 private:
  struct Cut {
    TextRange range;
    bool match;
  };
  absl::Status Cuts(size_t step, absl::string_view text);
  void Append(SplitBehavior behavior, uint32_t offset);

  const PreTokenizer* const pre_tokenizer_;
  std::vector<std::unique_ptr<Matcher>> matchers_;  // one a step
  std::vector<TextRange> pieces_;
  std::vector<TextRange> next_;
  std::vector<Cut> cuts_;  // of one piece
};

}  // namespace vernier
