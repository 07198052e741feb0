// Unicode normal forms C and KC and lower case, in n log n whatever the text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace vernier {

enum class NormalForm : uint8_t { kNfc, kNfkc };

// `text`, well-formed UTF-8, in a normal form (Unicode Standard Annex 15); none when it is its own.
// A run of combining marks is sorted, not bubbled as utf8proc_map does, which needs a minute for a
// megabyte of them.
std::optional<std::string> NormalizedIfChanged(absl::string_view text,
                                               NormalForm form = NormalForm::kNfc);

// Every character of well-formed UTF-8 in lower case by Unicode's mapping, without regard to its
// neighbours.
std::string LowerCase(absl::string_view text);

}  // namespace vernier
