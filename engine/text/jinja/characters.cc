#include "engine/text/jinja/characters.h"

#include <string.h>
#include <utf8proc.h>

#include <algorithm>

#include "engine/text/utf8.h"

namespace vernier::jinja {
namespace {

// One character, or one byte that is none.
struct Character {
  char32_t code_point = 0;
  size_t bytes = 1;
};

Character CharacterAt(absl::string_view text, size_t offset) {
  const auto first = static_cast<uint8_t>(text[offset]);
  if (first < 0x80) return {first, 1};
  const Utf8Unit unit = FirstUtf8Unit(text.substr(offset));
  if (unit.kind != Utf8Kind::kWhole) return {0xFFFD, 1};
  return {unit.code_point, static_cast<size_t>(unit.bytes)};
}

// The character that ends at `end`.
Character CharacterBefore(absl::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) {
    --begin;
  }
  const Character last = CharacterAt(text.substr(0, end), begin);
  if (begin + last.bytes == end) return last;
  return {0xFFFD, 1};
}

bool IsLetter(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}

bool IsDigit(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND;
}

char32_t Upper(char32_t c) { return static_cast<char32_t>(utf8proc_toupper(static_cast<int>(c))); }
char32_t Lower(char32_t c) { return static_cast<char32_t>(utf8proc_tolower(static_cast<int>(c))); }
bool IsCased(char32_t c) { return IsLetter(c) && Upper(c) != Lower(c); }

void AppendCharacter(MarkedText* out, char32_t c, Origin origin) {
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  out->Append(absl::string_view(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)),
              origin);
}

}  // namespace

size_t CountCharacters(absl::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); i += CharacterAt(text, i).bytes) ++count;
  return count;
}

size_t OffsetOfCharacter(absl::string_view text, size_t index) {
  size_t offset = 0;
  for (; index > 0 && offset < text.size(); --index) offset += CharacterAt(text, offset).bytes;
  return offset;
}

std::vector<size_t> CharacterOffsets(absl::string_view text) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.size(); i += CharacterAt(text, i).bytes) offsets.push_back(i);
  offsets.push_back(text.size());
  return offsets;
}

bool IsSpace(char32_t c) { return IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

bool IsAllSpace(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text, i);
    if (!IsSpace(c.code_point)) return false;
    i += c.bytes;
  }
  return true;
}

MarkedText Strip(const MarkedText& text, std::optional<absl::string_view> characters, Sides sides) {
  const auto is_cut = [&](size_t offset, const Character& c) {
    if (!characters) return IsSpace(c.code_point);
    return characters->find(absl::string_view(text.bytes()).substr(offset, c.bytes)) !=
           absl::string_view::npos;
  };
  size_t begin = 0, end = text.size();
  while (sides != Sides::kRight && begin < end) {
    const Character c = CharacterAt(text.bytes(), begin);
    if (!is_cut(begin, c)) break;
    begin += c.bytes;
  }
  while (sides != Sides::kLeft && end > begin) {
    const Character c = CharacterBefore(text.bytes(), end);
    if (!is_cut(end - c.bytes, c)) break;
    end -= c.bytes;
  }
  return text.Part(begin, end);
}

std::vector<MarkedText> SplitAtSpace(const MarkedText& text, int64_t most) {
  std::vector<MarkedText> parts;
  const absl::string_view bytes = text.bytes();
  size_t i = 0;
  while (true) {
    while (i < bytes.size() && IsSpace(CharacterAt(bytes, i).code_point)) {
      i += CharacterAt(bytes, i).bytes;
    }
    if (i == bytes.size()) return parts;
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(Strip(text.Part(i, bytes.size()), std::nullopt, Sides::kRight));
      return parts;
    }
    const size_t begin = i;
    while (i < bytes.size() && !IsSpace(CharacterAt(bytes, i).code_point)) {
      i += CharacterAt(bytes, i).bytes;
    }
    parts.push_back(text.Part(begin, i));
  }
}

std::vector<MarkedText> SplitAt(const MarkedText& text, absl::string_view separator, int64_t most) {
  std::vector<MarkedText> parts;
  size_t begin = 0;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = Find(text.bytes(), separator, begin);
    if (at == absl::string_view::npos) break;
    parts.push_back(text.Part(begin, at));
    begin = at + separator.size();
  }
  parts.push_back(text.Part(begin, text.size()));
  return parts;
}

std::vector<MarkedText> SplitAtFromRight(const MarkedText& text, absl::string_view separator,
                                         int64_t most) {
  std::vector<MarkedText> parts;
  size_t end = text.size();
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at =
        end < separator.size()
            ? absl::string_view::npos
            : text.bytes().rfind(separator.data(), end - separator.size(), separator.size());
    if (at == absl::string_view::npos) break;
    parts.push_back(text.Part(at + separator.size(), end));
    end = at;
  }
  parts.push_back(text.Part(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<MarkedText> SplitLines(const MarkedText& text, bool keep_ends) {
  std::vector<MarkedText> lines;
  const absl::string_view bytes = text.bytes();
  size_t begin = 0;
  for (size_t i = 0; i < bytes.size();) {
    const Character c = CharacterAt(bytes, i);
    const char32_t p = c.code_point;
    const bool ends = (p >= 0x0A && p <= 0x0D) || (p >= 0x1C && p <= 0x1E) || p == 0x85 ||
                      p == 0x2028 || p == 0x2029;
    const size_t from = i;
    i += c.bytes;
    if (!ends) continue;
    if (p == '\r' && i < bytes.size() && bytes[i] == '\n') ++i;
    lines.push_back(text.Part(begin, keep_ends ? i : from));
    begin = i;
  }
  if (begin < bytes.size()) lines.push_back(text.Part(begin, bytes.size()));
  return lines;
}

size_t Find(absl::string_view text, absl::string_view needle, size_t from) {
  if (from > text.size()) return absl::string_view::npos;
  if (needle.empty()) return from;
  if (from == text.size()) return absl::string_view::npos;
  // The C library's search is linear; std::string's is not.
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return absl::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

MarkedText Replace(const MarkedText& text, absl::string_view old, const MarkedText& by,
                   int64_t most, size_t limit_bytes) {
  MarkedText out;
  size_t copied = 0, from = 0;
  for (int64_t count = 0; (most < 0 || count < most) && out.size() <= limit_bytes; ++count) {
    const size_t at = Find(text.bytes(), old, from);
    if (at == absl::string_view::npos) break;
    out.AppendPart(text, copied, at);
    out.Append(by);
    copied = at + old.size();
    from = copied;
    if (!old.empty()) continue;
    if (at == text.size()) break;
    from = at + CharacterAt(text.bytes(), at).bytes;  // between all characters
  }
  out.AppendPart(text, copied, text.size());
  return out;
}

MarkedText ToCase(const MarkedText& text, Case to) {
  MarkedText out;
  bool inside = false;  // behind the letter that is capital
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text.bytes(), i);
    const char32_t p = c.code_point;
    bool upper = to == Case::kUpper;
    if (to == Case::kSwapped) upper = Lower(p) == p;
    if (to == Case::kTitle || to == Case::kTitleWords || to == Case::kCapital) upper = !inside;
    const char32_t mapped = upper ? Upper(p) : Lower(p);
    if (mapped == p || (p == 0xFFFD && c.bytes == 1)) {
      out.AppendPart(text, i, i + c.bytes);
    } else {
      AppendCharacter(&out, mapped, text.OriginAt(i));
    }
    if (to == Case::kTitle) {
      inside = IsCased(p);
    } else if (to == Case::kTitleWords) {
      inside = !(IsSpace(p) || p == '-' || p == '(' || p == '{' || p == '[' || p == '<');
    } else {
      inside = true;
    }
    i += c.bytes;
  }
  return out;
}

MarkedText Reversed(const MarkedText& text) {
  MarkedText out;
  const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
  for (size_t i = offsets.size() - 1; i > 0; --i) out.AppendPart(text, offsets[i - 1], offsets[i]);
  return out;
}

bool AllAre(absl::string_view text, Class what) {
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text, i);
    const bool letter = (what == Class::kAlpha || what == Class::kAlnum) && IsLetter(c.code_point);
    const bool digit = (what == Class::kDigit || what == Class::kAlnum) && IsDigit(c.code_point);
    const bool space = what == Class::kSpace && IsSpace(c.code_point);
    if (!letter && !digit && !space) return false;
    i += c.bytes;
  }
  return !text.empty();
}

bool HasOnlyCase(absl::string_view text, Case which) {
  bool found = false;
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text, i);
    i += c.bytes;
    if (!IsCased(c.code_point)) continue;
    found = true;
    const char32_t wanted = which == Case::kUpper ? Upper(c.code_point) : Lower(c.code_point);
    if (wanted != c.code_point) return false;
  }
  return found;
}

}  // namespace vernier::jinja
