#include "engine/text/jinja/string_literal.h"

#include <utf8proc.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace vernier::jinja {
namespace {

int DigitValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 16;
}

// Up to `most` digits of `base` at the beginning of `text`, which they leave.
uint32_t TakeDigits(absl::string_view* text, uint32_t base, size_t most, size_t* taken) {
  uint32_t value = 0;
  *taken = 0;
  while (*taken < most && !text->empty() &&
         static_cast<uint32_t>(DigitValue(text->front())) < base) {
    value = value * base + static_cast<uint32_t>(DigitValue(text->front()));
    text->remove_prefix(1);
    ++*taken;
  }
  return value;
}

// What one letter behind the backslash stands for; 0: not one of these.
char Simple(char c) {
  constexpr absl::string_view kLetters = "abfnrtv\\'\"";
  constexpr absl::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
  const size_t i = kLetters.find(c);
  return i == absl::string_view::npos ? '\0' : kValues[i];
}

absl::Status AppendCodePoint(uint32_t c, std::string* out) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
    return absl::InvalidArgumentError(absl::StrCat("escape U+", absl::Hex(c), " is no character"));
  }
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  out->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> StringLiteral(absl::string_view inside) {
  std::string out;
  while (!inside.empty()) {
    const char c = inside.front();
    inside.remove_prefix(1);
    if (c != '\\' || inside.empty()) {
      out += c;
      continue;
    }
    const char letter = inside.front();
    if (letter == '\n') {
      inside.remove_prefix(1);
    } else if (Simple(letter) != '\0') {
      out += Simple(letter);
      inside.remove_prefix(1);
    } else if (letter >= '0' && letter <= '7') {
      size_t taken = 0;
      const uint32_t value = TakeDigits(&inside, 8, 3, &taken);
      if (absl::Status status = AppendCodePoint(value, &out); !status.ok()) return status;
    } else if (letter == 'x' || letter == 'u' || letter == 'U') {
      inside.remove_prefix(1);
      const size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : 8;
      size_t taken = 0;
      const uint32_t value = TakeDigits(&inside, 16, digits, &taken);
      if (taken != digits) return absl::InvalidArgumentError("a string has a truncated escape");
      if (absl::Status status = AppendCodePoint(value, &out); !status.ok()) return status;
    } else if (letter == 'N') {
      return absl::UnimplementedError("a string names a character by \\N");
    } else {
      out += '\\';
    }
  }
  return out;
}

}  // namespace vernier::jinja
