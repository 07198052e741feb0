// Text as a terminal shows it: characters with their width, control characters made harmless.
//
// Pure functions, any thread.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace vernier::cli {

// A user-perceived character (an extended grapheme cluster, UAX #29).
struct Glyph {
  absl::string_view bytes;  // into the text it was cut from
  int width = 0;            // columns on a terminal, 0 to 2; 0 for '\n' and '\t'
};

// `text` is well-formed UTF-8, as Neutralize returns it.
std::vector<Glyph> Glyphs(absl::string_view text);
int DisplayWidth(absl::string_view text);

// At most `columns` (>= 1) wide: what is too long loses its middle to "…", since names differ at
// both ends.
std::string Shorten(absl::string_view text, int columns);

// What a model wrote must not act on the terminal: control characters but for newline and tab, and
// those that turn the writing direction, become visible signs ("␛" for escape), ill-formed bytes
// U+FFFD.
std::string Neutralize(absl::string_view text);

}  // namespace vernier::cli
