// UTF-8 as Unicode's table 3-7 defines it: checked, walked, and mended with U+FFFD.
//
// Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace vernier {

enum class Utf8Kind : uint8_t {
  kWhole,       // a character
  kIllFormed,   // bytes that no continuation can mend: one U+FFFD
  kUnfinished,  // the text ends within a character
};

struct Utf8Unit {
  Utf8Kind kind = Utf8Kind::kWhole;
  int bytes = 0;            // 1 to 4
  char32_t code_point = 0;  // of kWhole
};

// The first unit of `text`. An ill-formed one is the longest start of a character there ("maximal
// subpart"), as in Python and browsers. REQUIRES: not empty.
Utf8Unit FirstUtf8Unit(absl::string_view text);
// The last character of well-formed text. REQUIRES: not empty.
Utf8Unit LastUtf8Unit(absl::string_view text);

// Offset of the first byte that belongs to no character, -1: well-formed.
int64_t FirstIllFormedByte(absl::string_view text);

// Every ill-formed or unfinished unit as U+FFFD.
std::string MendUtf8(absl::string_view text);

inline constexpr char kReplacementCharacter[] = "\xEF\xBF\xBD";

// Unicode's White_Space.
bool IsWhiteSpace(char32_t code_point);
// Letters, marks, digits, connectors: what a regex calls \w.
bool IsWordCharacter(char32_t code_point);

}  // namespace vernier
