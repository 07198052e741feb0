// Python's string operations on marked text, by code point. Marks stay with the bytes they are on.
//
// Pure functions. Bytes that are not UTF-8 count as one character each.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/text/jinja/marked_text.h"

namespace vernier::jinja {

size_t CountCharacters(absl::string_view text);
// Offset of the character `index`, text.size() where there are fewer.
size_t OffsetOfCharacter(absl::string_view text, size_t index);
// The characters' offsets, and text.size() last.
std::vector<size_t> CharacterOffsets(absl::string_view text);

// str.isspace of one character, as strip and split cut.
bool IsSpace(char32_t code_point);
bool IsAllSpace(absl::string_view text);

enum class Sides : uint8_t { kBoth, kLeft, kRight };
// `characters` absent: white space.
MarkedText Strip(const MarkedText& text, std::optional<absl::string_view> characters, Sides sides);

// At most `most` cuts, negative: no limit. Between runs of white space, or at `separator`.
std::vector<MarkedText> SplitAtSpace(const MarkedText& text, int64_t most);
// REQUIRES: separator not empty.
std::vector<MarkedText> SplitAt(const MarkedText& text, absl::string_view separator, int64_t most);
std::vector<MarkedText> SplitAtFromRight(const MarkedText& text, absl::string_view separator,
                                         int64_t most);
std::vector<MarkedText> SplitLines(const MarkedText& text, bool keep_ends);

// Offset of the first `needle` at or behind `from`, npos: none. Linear time.
size_t Find(absl::string_view text, absl::string_view needle, size_t from);

// At most `most` replacements, negative: no limit. Stops when the result exceeds `limit_bytes`.
MarkedText Replace(const MarkedText& text, absl::string_view old, const MarkedText& by,
                   int64_t most, size_t limit_bytes);

enum class Case : uint8_t {
  kUpper,
  kLower,
  kTitle,       // str.title: every run of letters
  kTitleWords,  // Jinja's title: behind white space, hyphen and opening bracket
  kCapital,
  kSwapped,
};
MarkedText ToCase(const MarkedText& text, Case to);

MarkedText Reversed(const MarkedText& text);

// str.isalpha and its like: every character is one of these, and there is one.
enum class Class : uint8_t { kAlpha, kDigit, kAlnum, kSpace };
bool AllAre(absl::string_view text, Class what);
// Some letter has a case and all that have are upper (or lower).
bool HasOnlyCase(absl::string_view text, Case which);

}  // namespace vernier::jinja
