#include "cli/display_text.h"

#include <utf8proc.h>

#include <algorithm>

#include "engine/text/utf8.h"

namespace vernier::cli {
namespace {

constexpr char32_t kEmojiPresentation = 0xFE0F;
constexpr char32_t kDelete = 0x7F;

bool IsRegionalIndicator(char32_t c) { return c >= 0x1F1E6 && c <= 0x1F1FF; }

bool TurnsDirection(char32_t c) {
  return (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

// Terminals give a cluster the width of its widest part: "👩‍👩‍👧" is 2, not 6.
int WidthOf(char32_t c) {
  if (c == kEmojiPresentation || IsRegionalIndicator(c)) return 2;
  return std::clamp(utf8proc_charwidth(static_cast<utf8proc_int32_t>(c)), 0, 2);
}

void AppendUtf8(char32_t c, std::string* out) {
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  out->append(reinterpret_cast<const char*>(bytes), size);
}

}  // namespace

std::vector<Glyph> Glyphs(absl::string_view text) {
  std::vector<Glyph> glyphs;
  utf8proc_int32_t state = 0;
  char32_t last = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Unit unit = FirstUtf8Unit(text.substr(at));
    const char32_t c = unit.kind == Utf8Kind::kWhole ? unit.code_point : U'\uFFFD';
    const auto size = static_cast<size_t>(unit.bytes);
    const bool breaks = utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(last),
                                                         static_cast<utf8proc_int32_t>(c), &state);
    if (glyphs.empty() || breaks) {
      glyphs.push_back({text.substr(at, size), WidthOf(c)});
    } else {
      Glyph& glyph = glyphs.back();
      glyph.bytes = text.substr(at - glyph.bytes.size(), glyph.bytes.size() + size);
      glyph.width = std::max(glyph.width, WidthOf(c));
    }
    last = c;
    at += size;
  }
  return glyphs;
}

int DisplayWidth(absl::string_view text) {
  int width = 0;
  for (const Glyph& glyph : Glyphs(text)) width += glyph.width;
  return width;
}

std::string Shorten(absl::string_view text, int columns) {
  if (DisplayWidth(text) <= columns) return std::string(text);
  const std::vector<Glyph> glyphs = Glyphs(text);
  const int tail_columns = (columns - 1) / 2;
  std::string head;
  int used = 1;  // the sign for what is missing
  for (const Glyph& glyph : glyphs) {
    if (used + glyph.width > columns - tail_columns) break;
    head.append(glyph.bytes.data(), glyph.bytes.size());
    used += glyph.width;
  }
  size_t tail_bytes = 0;
  for (auto glyph = glyphs.rbegin(); glyph != glyphs.rend() && used + glyph->width <= columns;
       ++glyph) {
    tail_bytes += glyph->bytes.size();
    used += glyph->width;
  }
  const absl::string_view tail = text.substr(text.size() - tail_bytes);
  return head + "…" + std::string(tail);
}

std::string Neutralize(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(text);
    const char32_t c = unit.code_point;
    if (unit.kind != Utf8Kind::kWhole || (c > kDelete && c < 0xA0) || TurnsDirection(c)) {
      out += kReplacementCharacter;
    } else if (c == kDelete) {
      AppendUtf8(U'\u2421', &out);
    } else if (c < 0x20 && c != '\n' && c != '\t') {
      AppendUtf8(U'\u2400' + c, &out);  // the control pictures stand in the order of the codes
    } else {
      out.append(text.data(), unit.bytes);
    }
    text.remove_prefix(unit.bytes);
  }
  return out;
}

}  // namespace vernier::cli
