// A compiled pattern of a pre-tokenizer, run by PCRE2 within limits.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;
struct pcre2_real_jit_stack_8;

namespace vernier {

// Bytes [begin, end) of a text.
struct TextRange {
  uint32_t begin = 0;
  uint32_t end = 0;
};

// Immutable after Compile: any thread.
class Pattern {
 public:
  enum class Syntax : uint8_t { kRegex, kLiteral };
  // INVALID_ARGUMENT with PCRE2's reason and the offset. Classes and case follow Unicode (UTF,
  // UCP).
  static absl::StatusOr<std::shared_ptr<const Pattern>> Compile(absl::string_view source,
                                                                Syntax syntax);
  ~Pattern();
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

 private:
  friend class Matcher;
  explicit Pattern(pcre2_real_code_8* code) : code_(code) {}
  pcre2_real_code_8* const code_;
};

// One thread's use of a pattern; `pattern` must outlive it.
class Matcher {
 public:
  explicit Matcher(const Pattern* pattern);
  ~Matcher();
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  enum class Result : uint8_t { kFound, kNone, kLimit };
  // The first match at or after `start`; what stands before `start` is seen by lookbehind.
  // `text` is well-formed UTF-8 and `start` at a character. kLimit: 10 million steps, or memory.
  Result Find(absl::string_view text, uint32_t start, TextRange* found);

 private:
  const Pattern* const pattern_;
  pcre2_real_match_context_8* context_;
  pcre2_real_match_data_8* data_;
  pcre2_real_jit_stack_8* stack_;
};

}  // namespace vernier
