#include "engine/text/jinja/print.h"

#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/text/jinja/escaped_copy.h"
#include "engine/text/utf8.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

void AppendRepr(Meter& meter, const Value& value, MarkedText* out);

// What Python's repr does not print as it is.
bool IsPrintable(char32_t c) {
  if (c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD) return false;
  return c == ' ' || !IsWhiteSpace(c);
}

// A quote or a backslash, or what is not printable.
std::string Escaped(char32_t c) {
  if (c == '\'' || c == '"' || c == '\\') return {'\\', static_cast<char>(c)};
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  if (c < 0x100) return absl::StrFormat("\\x%02x", static_cast<uint32_t>(c));
  if (c < 0x10000) return absl::StrFormat("\\u%04x", static_cast<uint32_t>(c));
  return absl::StrFormat("\\U%08x", static_cast<uint32_t>(c));
}

void AppendTextRepr(Meter& meter, const MarkedText& text, MarkedText* out) {
  const std::string& bytes = text.bytes();
  const bool has_single = bytes.find('\'') != std::string::npos;
  const char quote = has_single && bytes.find('"') == std::string::npos ? '"' : '\'';
  const absl::string_view quotes(&quote, 1);
  out->Append(quotes);
  AppendEscaped(
      meter, text,
      [quote](char32_t c) {
        return c == static_cast<char32_t>(quote) || c == '\\' || !IsPrintable(c);
      },
      Escaped, out);
  out->Append(quotes);
}

void AppendListRepr(Meter& meter, const List& list, MarkedText* out) {
  out->Append(list.is_tuple ? "(" : "[");
  for (size_t i = 0; i < list.items.size() && meter.ok(); ++i) {
    if (i > 0) out->Append(", ");
    AppendRepr(meter, list.items[i], out);
  }
  if (list.is_tuple && list.items.size() == 1) out->Append(",");
  out->Append(list.is_tuple ? ")" : "]");
}

void AppendDictRepr(Meter& meter, const Dict& dict, MarkedText* out) {
  out->Append("{");
  for (size_t i = 0; i < dict.entries.size() && meter.ok(); ++i) {
    if (i > 0) out->Append(", ");
    AppendRepr(meter, dict.entries[i].first, out);
    out->Append(": ");
    AppendRepr(meter, dict.entries[i].second, out);
  }
  out->Append("}");
}

// Of everything but strings, lists and mappings.
std::string ScalarText(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.As<bool>() ? "True" : "False";
    case Kind::kInt:
      return absl::StrCat(value.As<int64_t>());
    case Kind::kFloat:
      return FloatText(value.As<double>());
    default:
      return absl::StrCat("<", TypeName(value), ">");
  }
}

// Recurses over values: at most kMaxValueDepth.
void AppendRepr(Meter& meter, const Value& value, MarkedText* out) {
  const size_t before = out->size();
  switch (value.kind()) {
    case Kind::kString:
      AppendTextRepr(meter, value.text(), out);
      break;
    case Kind::kList:
      return AppendListRepr(meter, value.list(), out);
    case Kind::kDict:
      return AppendDictRepr(meter, value.dict(), out);
    case Kind::kUndefined:
      out->Append("Undefined");
      break;
    default:
      out->Append(ScalarText(value));
  }
  meter.Work(out->size() - before + 1);
}

}  // namespace

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  const absl::string_view shortest(buffer, static_cast<size_t>(end.ptr - buffer));
  const size_t e = shortest.find('e');
  int exponent = 0;
  const size_t digits = e + (shortest[e + 1] == '+' ? 2 : 1);
  std::from_chars(buffer + digits, end.ptr, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  const auto fixed =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed);
  std::string text(buffer, fixed.ptr);
  return text.find('.') == std::string::npos ? text + ".0" : text;
}

MarkedText Repr(Meter& meter, const Value& value) {
  MarkedText out;
  AppendRepr(meter, value, &out);
  return out;
}

String ToText(Meter& meter, const Value& value) {
  static const auto* const kEmpty = new String(std::make_shared<const MarkedText>());
  switch (value.kind()) {
    case Kind::kString:
      return value.As<String>();
    case Kind::kUndefined:
      return *kEmpty;
    case Kind::kList:
    case Kind::kDict:
      return std::make_shared<const MarkedText>(Repr(meter, value));
    default:
      return std::make_shared<const MarkedText>(ScalarText(value));
  }
}

}  // namespace vernier::jinja
