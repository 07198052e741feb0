// Unicode normal form C, in n log n whatever the text.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace vernier {

// NFC of well-formed UTF-8 (Unicode Standard Annex 15); none when `text` is its own. A run of
// combining marks is sorted, not bubbled as utf8proc_map does, which needs a minute for a megabyte
// of them.
std::optional<std::string> NormalizedIfChanged(absl::string_view text);

}  // namespace vernier
