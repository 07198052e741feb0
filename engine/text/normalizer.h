// What a tokenizer does to text before it cuts it: normal forms, replacements, spaces.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/pattern.h"

namespace vernier {

// How SentencePiece and its kin spell a space: U+2581.
inline constexpr char32_t kSpaceCharacter = 0x2581;
inline constexpr absl::string_view kSpaceSymbol = "\xE2\x96\x81";

// One step, in tokenizer.json's words where it has some.
struct NormalizerStep {
  enum class Kind : uint8_t {
    kNfc,
    kNfkc,
    kLowercase,
    kPrepend,       // `content` before a text that is not empty
    kReplace,       // every match of `pattern` by `content`
    kTidySpaces,    // SentencePiece's remove_extra_whitespaces: none at the ends, one between
    kCharacterMap,  // SentencePiece's precompiled_charsmap, in `content`
  };
  Kind kind = Kind::kNfc;
  std::string pattern;
  Pattern::Syntax syntax = Pattern::Syntax::kLiteral;
  std::string content;
};

// The steps in order. Immutable: any thread.
class Normalizer {
 public:
  // INVALID_ARGUMENT for a broken pattern or character map, or content that is not UTF-8.
  static absl::StatusOr<Normalizer> Create(const std::vector<NormalizerStep>& steps);
  // None when the text stays as it is. REQUIRES: well-formed UTF-8. RESOURCE_EXHAUSTED when a step
  // makes more than 32 times the text and 64 KiB, or 256 MiB, or a pattern exceeds its limits.
  absl::StatusOr<std::optional<std::string>> Apply(absl::string_view text) const;

 private:
  struct Step {
    NormalizerStep what;
    std::shared_ptr<const Pattern> pattern;  // of a kReplace that is no literal
  };
  std::vector<Step> steps_;
};

}  // namespace vernier
