// What a client may send as the value of a call's metadata: gRPC ends the process for anything else.
#pragma once

#include <algorithm>

#include "absl/strings/string_view.h"

namespace vernier {

// Why `text` cannot be one, without repeating it; "" when it can.
inline const char* MetadataFault(absl::string_view text) {
  if (text.empty() || text.front() == ' ' || text.back() == ' ') {
    return "it may not be empty, nor begin or end with a blank";
  }
  const bool printable =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return printable ? "" : "it must be printable ASCII";
}

}  // namespace vernier
