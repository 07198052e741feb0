#include "engine/text/utf8.h"

#include <utf8proc.h>

#include <cstring>

#include "kernels/base/check.h"

namespace vernier {
namespace {

// How a character that starts with a given byte goes on.
struct Lead {
  int bytes = 0;  // 0: no character starts so
  uint8_t second_low = 0x80;
  uint8_t second_high = 0xBF;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

}  // namespace

Utf8Unit FirstUtf8Unit(absl::string_view text) {
  VERNIER_CHECK(!text.empty());
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const Lead lead = LeadOf(byte(0));
  if (lead.bytes == 0) return {Utf8Kind::kIllFormed, 1};
  if (lead.bytes == 1) return {Utf8Kind::kWhole, 1, byte(0)};
  char32_t code_point = byte(0) & (0xFF >> (lead.bytes + 1));
  for (int i = 1; i < lead.bytes; ++i) {
    if (static_cast<size_t>(i) >= text.size()) return {Utf8Kind::kUnfinished, i};
    const uint8_t low = i == 1 ? lead.second_low : 0x80;
    const uint8_t high = i == 1 ? lead.second_high : 0xBF;
    if (byte(i) < low || byte(i) > high) return {Utf8Kind::kIllFormed, i};
    code_point = (code_point << 6) | (byte(i) & 0x3F);
  }
  return {Utf8Kind::kWhole, lead.bytes, code_point};
}

Utf8Unit LastUtf8Unit(absl::string_view text) {
  VERNIER_CHECK(!text.empty());
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return FirstUtf8Unit(text.substr(begin));
}

int64_t FirstIllFormedByte(absl::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    uint64_t word;
    while (i + sizeof(word) <= text.size()) {
      std::memcpy(&word, text.data() + i, sizeof(word));
      if (word & 0x8080808080808080u) break;
      i += sizeof(word);
    }
    if (i == text.size()) break;
    const Utf8Unit unit = FirstUtf8Unit(text.substr(i));
    if (unit.kind != Utf8Kind::kWhole) return static_cast<int64_t>(i);
    i += unit.bytes;
  }
  return -1;
}

std::string MendUtf8(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(text);
    if (unit.kind == Utf8Kind::kWhole) {
      out.append(text.data(), unit.bytes);
    } else {
      out += kReplacementCharacter;
    }
    text.remove_prefix(unit.bytes);
  }
  return out;
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsWordCharacter(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return c == 0x200C || c == 0x200D;  // joiners
  }
}

}  // namespace vernier
