#include "engine/text/character_map.h"

#include <cstdint>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/text/utf8.h"

namespace vernier {
namespace {

constexpr size_t kUnitBytes = 4;

uint32_t UnitAt(absl::string_view units, size_t index) {
  uint32_t unit = 0;
  for (size_t i = kUnitBytes; i-- > 0;) {
    unit = unit << 8 | static_cast<uint8_t>(units[index * kUnitBytes + i]);
  }
  return unit;
}

// Darts-clone's layout of a unit.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t Label(uint32_t unit) { return unit & 0x800000FF; }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

absl::string_view Units(absl::string_view blob) { return blob.substr(kUnitBytes, UnitAt(blob, 0)); }

struct Match {
  size_t bytes = 0;  // 0: none
  uint32_t replacement = 0;
};

Match LongestMatch(absl::string_view units, absl::string_view text) {
  const size_t count = units.size() / kUnitBytes;
  Match match;
  size_t node = Offset(UnitAt(units, 0));
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= count) break;
    const uint32_t unit = UnitAt(units, node);
    if (Label(unit) != byte) break;
    node ^= Offset(unit);
    if (node >= count) break;
    if (HasLeaf(unit)) match = {i + 1, Value(UnitAt(units, node))};
  }
  return match;
}

}  // namespace

absl::Status CheckCharacterMap(absl::string_view blob) {
  if (blob.size() < 2 * kUnitBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("precompiled_charsmap has ", blob.size(), " bytes, must have at least 8"));
  }
  const uint32_t trie_bytes = UnitAt(blob, 0);
  if (trie_bytes < kUnitBytes || trie_bytes % kUnitBytes != 0 ||
      trie_bytes >= blob.size() - kUnitBytes || blob.back() != '\0') {
    return absl::InvalidArgumentError(absl::StrCat("precompiled_charsmap of ", blob.size(),
                                                   " bytes states a trie of ", trie_bytes));
  }
  // Whatever is cut out of the replacements at a NUL is whole UTF-8 when all of them are and each
  // is found at its start; AppendMapped checks the start.
  if (FirstIllFormedByte(blob.substr(kUnitBytes + trie_bytes)) >= 0) {
    return absl::InvalidArgumentError("precompiled_charsmap has replacements that are not UTF-8");
  }
  return absl::OkStatus();
}

bool AppendMapped(absl::string_view blob, absl::string_view text, size_t limit_bytes,
                  std::string* out) {
  const absl::string_view units = Units(blob);
  const absl::string_view replacements = blob.substr(kUnitBytes + units.size());
  while (!text.empty()) {
    if (out->size() > limit_bytes) return false;
    Match match = LongestMatch(units, text);
    const Utf8Unit unit = FirstUtf8Unit(text);
    const bool at_start = match.replacement < replacements.size() &&
                          (match.replacement == 0 || replacements[match.replacement - 1] == '\0');
    const bool whole =
        match.bytes == text.size() ||
        (match.bytes > 0 && (static_cast<uint8_t>(text[match.bytes]) & 0xC0) != 0x80);
    if (match.bytes == 0 || !at_start || !whole) {  // as it is
      out->append(text.data(), static_cast<size_t>(unit.bytes));
      text.remove_prefix(static_cast<size_t>(unit.bytes));
      continue;
    }
    const absl::string_view rest = replacements.substr(match.replacement);
    const absl::string_view replacement = rest.substr(0, rest.find('\0'));
    out->append(replacement.data(), replacement.size());
    text.remove_prefix(match.bytes);
  }
  return out->size() <= limit_bytes;
}

}  // namespace vernier
