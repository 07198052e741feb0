#include "engine/text/character_tokens.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/text/utf8.h"

namespace vernier {

int ByteOfSpelling(absl::string_view spelling) {
  if (spelling.size() != 6 || !absl::StartsWith(spelling, "<0x") || spelling[5] != '>') return -1;
  int byte = 0;
  for (const char c : spelling.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'A' || c > 'F')) return -1;
    byte = byte * 16 + (digit ? c - '0' : c - 'A' + 10);
  }
  return byte;
}

absl::Status CharacterTokens::Fill(const TokenizerParts& parts) {
  ascii_.fill(-1);
  bytes_.fill(-1);
  unknown_ = parts.unknown;
  fuse_unknown_ = parts.fuse_unknown;
  std::vector<bool> special(parts.spellings.size());
  for (const AddedToken& token : parts.added) special[token.id] = token.special;
  for (size_t i = 0; i < parts.spellings.size(); ++i) {
    const absl::string_view spelling = parts.spellings[i];
    if (!parts.used[i] || spelling.empty()) continue;
    const auto id = static_cast<int32_t>(i);
    const int byte = ByteOfSpelling(spelling);
    if (byte >= 0 && parts.byte_fallback && !special[i]) bytes_[byte] = id;
    const Utf8Unit unit = FirstUtf8Unit(spelling);
    if (unit.kind != Utf8Kind::kWhole || static_cast<size_t>(unit.bytes) != spelling.size()) {
      continue;
    }
    if (special[i] && id != unknown_) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token ", i, " is the character \"", absl::CHexEscape(spelling), "\" and is special"));
    }
    if (special[i]) continue;
    if (unit.code_point < ascii_.size()) {
      ascii_[unit.code_point] = id;
    } else {
      others_[unit.code_point] = id;
    }
  }
  return absl::OkStatus();
}

void CharacterTokens::AppendUnknown(absl::string_view character, size_t first,
                                    std::vector<int32_t>* out) const {
  const auto has_token = [&](char c) { return bytes_[static_cast<uint8_t>(c)] >= 0; };
  if (std::all_of(character.begin(), character.end(), has_token)) {
    for (const char c : character) out->push_back(bytes_[static_cast<uint8_t>(c)]);
    return;
  }
  if (unknown_ < 0) return;
  if (fuse_unknown_ && out->size() > first && out->back() == unknown_) return;
  out->push_back(unknown_);
}

}  // namespace vernier
