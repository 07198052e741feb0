// Filters that make text of a value.
#include "absl/strings/str_cat.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/print.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

// The text that most filters begin with.
String Input(Meter& meter, const Value& value) {
  String text = ToText(meter, value);
  meter.Work(text->size());
  return text;
}

template <Case to>
Value CaseFilter(Meter& meter, const Value& value, const Arguments&) {
  return MakeText(meter, ToCase(*Input(meter, value), to));
}

Value Trim(Meter& meter, const Value& value, const Arguments& arguments) {
  const MarkedText* cut = TextArgument(meter, arguments.positional[0]);
  const auto characters =
      cut == nullptr ? std::nullopt : std::optional<absl::string_view>(cut->bytes());
  return MakeText(meter, Strip(*Input(meter, value), characters, Sides::kBoth));
}

Value ReplaceFilter(Meter& meter, const Value& value, const Arguments& arguments) {
  const String text = Input(meter, value);
  const String old = ToText(meter, arguments.positional[0]);
  const String by = ToText(meter, arguments.positional[1]);
  const int64_t most = IntArgument(meter, arguments.positional[2], -1);
  if (!meter.ok()) return Value();
  const auto limit = static_cast<size_t>(meter.limits().work_bytes);
  return MakeText(meter, Replace(*text, old->bytes(), *by, most, limit));
}

Value StringFilter(Meter& meter, const Value& value, const Arguments&) {
  return Value(ToText(meter, value));
}

Value Escape(Meter& meter, const Value& value, const Arguments&) {
  const String text = Input(meter, value);
  MarkedText out;
  for (size_t i = 0; i < text->size(); ++i) {
    const Origin origin = text->OriginAt(i);
    switch (text->bytes()[i]) {
      case '&':
        out.Append("&amp;", origin);
        break;
      case '<':
        out.Append("&lt;", origin);
        break;
      case '>':
        out.Append("&gt;", origin);
        break;
      case '\'':
        out.Append("&#39;", origin);
        break;
      case '"':
        out.Append("&#34;", origin);
        break;
      default:
        out.AppendPart(*text, i, i + 1);
    }
  }
  return MakeText(meter, std::move(out));
}

Value Indent(Meter& meter, const Value& value, const Arguments& arguments) {
  const String text = Input(meter, value);
  MarkedText margin;
  if (const Value& width = arguments.positional[0]; width.Is(Kind::kString)) {
    margin = width.text();
  } else {
    const int64_t spaces = IntArgument(meter, width, 4);
    if (spaces > 1024) return meter.FailLimit("indents by more than 1024 characters");
    margin.Append(std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' '));
  }
  const bool first = IsTrue(arguments.positional[1]), blank = IsTrue(arguments.positional[2]);
  MarkedText ended = *text;
  ended.Append("\n");  // so that text without a line is one empty line
  size_t line_bytes = 0;
  for (const char c : ended.bytes()) {
    line_bytes += static_cast<signed char>(c) <= ' ' ? margin.size() + sizeof(MarkedText) : 0;
  }
  if (!meter.Work(line_bytes)) return Value();
  MarkedText out;
  bool is_first = true;
  for (const MarkedText& line : SplitLines(ended, false)) {
    if (!is_first) out.Append("\n");
    if (is_first ? first : (blank || !line.empty())) out.Append(margin);
    out.Append(line);
    is_first = false;
  }
  return MakeText(meter, std::move(out));
}

Value Center(Meter& meter, const Value& value, const Arguments& arguments) {
  const Value text(Input(meter, value));
  const int64_t width = IntArgument(meter, arguments.positional[0], 80);
  const int64_t missing = width - LengthOf(meter, text);
  if (missing <= 0) return text;
  if (missing > (1 << 20)) return meter.FailLimit("pads a string by more than 1048576 characters");
  const int64_t left = missing / 2 + (missing & width & 1);
  MarkedText out(std::string(static_cast<size_t>(left), ' '));
  out.Append(text.text());
  out.Append(std::string(static_cast<size_t>(missing - left), ' '));
  return MakeText(meter, std::move(out));
}

Value Truncate(Meter& meter, const Value& value, const Arguments& arguments) {
  const Value text(Input(meter, value));
  const int64_t length = IntArgument(meter, arguments.positional[0], 255);
  const MarkedText* given = TextArgument(meter, arguments.positional[2]);
  const MarkedText end = given == nullptr ? MarkedText("...") : *given;
  const int64_t leeway = IntArgument(meter, arguments.positional[3], 5);
  if (LengthOf(meter, text) - leeway <= length) return text;
  const auto keep = length - static_cast<int64_t>(CountCharacters(end.bytes()));
  if (keep < 0 || leeway < 0) return meter.Fail("truncate to less than its end");
  const std::string& bytes = text.bytes();
  size_t cut = OffsetOfCharacter(bytes, static_cast<size_t>(keep));
  if (!IsTrue(arguments.positional[1])) {  // at a word
    const size_t space = absl::string_view(bytes).substr(0, cut).rfind(' ');
    if (space != std::string::npos) cut = space;
  }
  MarkedText out = text.text().Part(0, cut);
  out.Append(end);
  return MakeText(meter, std::move(out));
}

Value WordCount(Meter& meter, const Value& value, const Arguments&) {
  const String text = Input(meter, value);
  if (!meter.Work(text->size() * 64)) return Value();
  return Value(static_cast<int64_t>(SplitAtSpace(*text, -1).size()));
}

Value ToJsonFilter(Meter& meter, const Value& value, const Arguments& arguments) {
  JsonStyle style;
  style.ascii = IsTrue(arguments.positional[0]);
  style.indent = arguments.positional[1];
  style.separators = arguments.positional[2];
  style.sort_keys = IsTrue(arguments.positional[3]);
  MarkedText text = ToJson(meter, value, style);
  return meter.ok() ? MakeText(meter, std::move(text)) : Value();
}

// %s and %d of Python's formatting, and %%.
Value Format(Meter& meter, const Value& value, const Arguments& arguments) {
  const String text = Input(meter, value);
  MarkedText out;
  size_t next = 0;
  for (size_t i = 0; i < text->size(); ++i) {
    if (text->bytes()[i] != '%') {
      out.AppendPart(*text, i, i + 1);
      continue;
    }
    const char kind = ++i < text->size() ? text->bytes()[i] : '\0';
    if (kind == '%') {
      out.AppendPart(*text, i, i + 1);
      continue;
    }
    if (kind != 's' && kind != 'd') return meter.Fail("format knows %s, %d and %% alone");
    if (next >= arguments.positional.size()) return meter.Fail("not enough arguments to format");
    const Value& one = arguments.positional[next++];
    if (kind == 'd' && !IsInt(one)) return meter.Fail("%d of format wants an int");
    const String part = ToText(meter, one);
    if (!meter.Work(part->size())) return Value();
    out.Append(*part);
  }
  if (next < arguments.positional.size()) return meter.Fail("too many arguments to format");
  return MakeText(meter, std::move(out));
}

constexpr FilterRow kTextFilters[] = {
    {"upper", "", CaseFilter<Case::kUpper>},
    {"lower", "", CaseFilter<Case::kLower>},
    {"title", "", CaseFilter<Case::kTitleWords>},
    {"capitalize", "", CaseFilter<Case::kCapital>},
    {"trim", "chars", Trim},
    {"replace", "old new count", ReplaceFilter},
    {"string", "", StringFilter},
    {"safe", "", StringFilter},
    {"escape", "", Escape},
    {"e", "", Escape},
    {"forceescape", "", Escape},
    {"indent", "width first blank", Indent},
    {"center", "width", Center},
    {"truncate", "length killwords end leeway", Truncate},
    {"wordcount", "", WordCount},
    {"format", "*", Format},
    {"tojson", "ensure_ascii indent separators sort_keys", ToJsonFilter},
};

}  // namespace

std::span<const FilterRow> TextFilters() { return kTextFilters; }

}  // namespace vernier::jinja
