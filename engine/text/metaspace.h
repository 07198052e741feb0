// Spaces as a visible character, before a text is cut: tokenizer.json's Metaspace.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace vernier {

struct Metaspace {
  enum class Prepend : uint8_t { kNever, kFirst, kAlways };
  std::string symbol;  // one character
  // Where one is put before a part that begins without: kFirst means the first part of a text.
  Prepend prepend = Prepend::kAlways;
};

enum class PartPlace : uint8_t { kFirst, kLater };

// `text` with every space as the symbol.
std::string WithMetaspace(const Metaspace& metaspace, absl::string_view text, PartPlace place);

}  // namespace vernier
