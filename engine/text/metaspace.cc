#include "engine/text/metaspace.h"

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"

namespace vernier {

std::string WithMetaspace(const Metaspace& metaspace, absl::string_view text, PartPlace place) {
  std::string out = absl::StrReplaceAll(text, {{" ", metaspace.symbol}});
  const bool wanted =
      metaspace.prepend == Metaspace::Prepend::kAlways ||
      (metaspace.prepend == Metaspace::Prepend::kFirst && place == PartPlace::kFirst);
  if (wanted && !out.empty() && !absl::StartsWith(out, metaspace.symbol)) {
    out.insert(0, metaspace.symbol);
  }
  return out;
}

}  // namespace vernier
