// Text with some of its characters written otherwise, as repr and JSON want it.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "engine/text/jinja/marked_text.h"
#include "engine/text/jinja/meter.h"
#include "engine/text/utf8.h"

namespace vernier::jinja {

// Appends `text`, with what `escape(char32_t)` gives in the place of a character for which
// `is_escaped(char32_t)`; others and bytes that are no character stay. What stands for a character
// has its origin. Appends less where that is too much work: a walk by character costs far more a
// byte than a copy does, and is paid for ahead.
template <class IsEscaped, class Escape>
void AppendEscaped(Meter& meter, const MarkedText& text, const IsEscaped& is_escaped,
                   const Escape& escape, MarkedText* out) {
  constexpr size_t kWorkOfByte = 16, kWorkOfEscape = 64;
  if (!meter.Work(text.size() * kWorkOfByte)) return;
  const absl::string_view bytes = text.bytes();
  size_t kept = 0;  // [kept, i) stays as it is
  for (size_t i = 0, end = 0; i < bytes.size(); i = end) {
    char32_t c = static_cast<unsigned char>(bytes[i]);
    end = i + 1;
    if (c >= 0x80) {
      const Utf8Unit unit = FirstUtf8Unit(bytes.substr(i));
      end = i + static_cast<size_t>(unit.bytes);
      if (unit.kind != Utf8Kind::kWhole) continue;
      c = unit.code_point;
    }
    if (!is_escaped(c)) continue;
    if (!meter.Work(kWorkOfEscape)) return;
    out->AppendPart(text, kept, i);
    out->Append(escape(c), text.OriginAt(i));
    kept = end;
  }
  out->AppendPart(text, kept, bytes.size());
}

}  // namespace vernier::jinja
