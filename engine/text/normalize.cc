#include "engine/text/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "engine/text/utf8.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

struct CharacterRange {
  char32_t first;
  char32_t last;
};

// Characters that are their own NFC, and that no character before them composes with: the common
// ones of most scripts, so that most text is seen to be normal in one look.
constexpr CharacterRange kSurelyNfc[] = {
    {0x0000, 0x02FF}, {0x0391, 0x03CE}, {0x0400, 0x0482}, {0x05D0, 0x05EA},
    {0x0621, 0x063A}, {0x0641, 0x064A}, {0x2010, 0x2027}, {0x2190, 0x21FF},
    {0x2500, 0x27BF}, {0x3001, 0x3029}, {0x3041, 0x3096}, {0x30A1, 0x30FA},
    {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3}, {0xFF01, 0xFF5E}, {0x1F300, 0x1FAFF}};

bool IsSurelyNfc(char32_t code_point) {
  const auto range = std::lower_bound(std::begin(kSurelyNfc), std::end(kSurelyNfc), code_point,
                                      [](CharacterRange r, char32_t c) { return r.last < c; });
  return range != std::end(kSurelyNfc) && code_point >= range->first;
}

// ASCII is its own NFKC.
bool IsSurelyNormal(absl::string_view text, NormalForm form) {
  while (!text.empty()) {
    if (static_cast<unsigned char>(text[0]) < 0x80) {
      text.remove_prefix(1);
      continue;
    }
    const Utf8Unit unit = FirstUtf8Unit(text);
    if (form == NormalForm::kNfkc || !IsSurelyNfc(unit.code_point)) return false;
    text.remove_prefix(unit.bytes);
  }
  return true;
}

void AppendCharacter(utf8proc_int32_t code_point, std::string* out) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(code_point, bytes);
  out->append(reinterpret_cast<const char*>(bytes), length);
}

int CombiningClass(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

// Decomposition, canonical or compatible, not yet ordered.
std::vector<utf8proc_int32_t> Decompose(absl::string_view text, NormalForm form) {
  const auto options = static_cast<utf8proc_option_t>(
      UTF8PROC_DECOMPOSE | (form == NormalForm::kNfkc ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> out;
  out.reserve(text.size());
  utf8proc_int32_t buffer[32];
  while (!text.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(text);
    text.remove_prefix(unit.bytes);
    int boundary = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(unit.code_point),
                                               buffer, 32, options, &boundary);
    VERNIER_CHECK(count >= 0 && count <= 32);  // the longest has 4, compatible 18
    out.insert(out.end(), buffer, buffer + count);
  }
  return out;
}

void OrderMarks(std::vector<utf8proc_int32_t>* code_points) {
  auto it = code_points->begin();
  while (it != code_points->end()) {
    if (CombiningClass(*it) == 0) {
      ++it;
      continue;
    }
    const auto end = std::find_if(it, code_points->end(),
                                  [](utf8proc_int32_t c) { return CombiningClass(c) == 0; });
    std::stable_sort(it, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    it = end;
  }
}

}  // namespace

std::optional<std::string> NormalizedIfChanged(absl::string_view text, NormalForm form) {
  if (IsSurelyNormal(text, form)) return std::nullopt;
  std::vector<utf8proc_int32_t> code_points = Decompose(text, form);
  OrderMarks(&code_points);
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto count = utf8proc_normalize_utf32(
      code_points.data(), static_cast<utf8proc_ssize_t>(code_points.size()), options);
  VERNIER_CHECK(count >= 0);
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < count; ++i) AppendCharacter(code_points[i], &out);
  if (out == text) return std::nullopt;
  return out;
}

std::string LowerCase(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(text);
    text.remove_prefix(unit.bytes);
    if (unit.code_point == 0x130) {  // the one character whose lower case is two
      out += "i\xCC\x87";
    } else {
      AppendCharacter(utf8proc_tolower(static_cast<utf8proc_int32_t>(unit.code_point)), &out);
    }
  }
  return out;
}

}  // namespace vernier
