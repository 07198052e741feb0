// GPT-2's byte alphabet: how a vocabulary spells bytes as printable characters.
//
// Source: byte-level BPE of Radford et al. 2019. Pure functions, any thread.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace vernier {

// Appends the bytes that `spelling` stands for. False, and nothing appended, when a character of it
// is not in the alphabet.
bool AppendAlphabetBytes(absl::string_view spelling, std::string* out);

}  // namespace vernier
