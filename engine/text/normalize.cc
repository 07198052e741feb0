#include "engine/text/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "engine/text/utf8.h"
#include "kernels/base/check.h"

namespace vernier {
namespace {

// Below U+0300 (first byte 0xCC) every character is its own NFC and none combines; ASCII is its own
// NFKC.
bool IsSurelyNormal(absl::string_view text, NormalForm form) {
  const unsigned char first = form == NormalForm::kNfc ? 0xCC : 0x80;
  return std::all_of(text.begin(), text.end(),
                     [first](char c) { return static_cast<unsigned char>(c) < first; });
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
