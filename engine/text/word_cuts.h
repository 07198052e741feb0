// Cuts text before its spaces where no token reaches across, so that long text is many short words.
#pragma once

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "engine/text/normalizer.h"

namespace vernier {

// Whether `spelling` has a space symbol behind another character: no vocabulary that SentencePiece
// trained with split_by_whitespace has.
inline bool ReachesAcrossWords(absl::string_view spelling) {
  for (size_t at = spelling.find(kSpaceSymbol, 1); at != absl::string_view::npos;
       at = spelling.find(kSpaceSymbol, at + 1)) {
    if (!absl::EndsWith(spelling.substr(0, at), kSpaceSymbol)) return true;
  }
  return false;
}

// Calls `visit` with the words of `text` in order: a run of space symbols stays with what follows.
// Merges and best paths within them are those of the whole text when no token reaches across.
template <typename Visit>
void ForEachWord(absl::string_view text, const Visit& visit) {
  size_t begin = 0;
  for (size_t at = text.find(kSpaceSymbol, 1); at != absl::string_view::npos;
       at = text.find(kSpaceSymbol, at + kSpaceSymbol.size())) {
    if (absl::EndsWith(text.substr(begin, at - begin), kSpaceSymbol)) continue;
    visit(text.substr(begin, at - begin));
    begin = at;
  }
  if (begin < text.size()) visit(text.substr(begin));
}

}  // namespace vernier
