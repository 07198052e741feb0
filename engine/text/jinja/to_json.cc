// json.dumps with the arguments that templates give it.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/text/jinja/escaped_copy.h"
#include "engine/text/jinja/print.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

class Writer {
 public:
  Writer(Meter& meter, const JsonStyle& style);
  // Recurses over values: at most kMaxValueDepth.
  void Write(const Value& value);
  MarkedText Take() { return std::move(out_); }

 private:
  void WriteText(const MarkedText& text);
  void WriteList(const List& list);
  void WriteDict(const Dict& dict);
  bool WriteKey(const Value& key);
  void BreakLine();
  static std::string Number(double value);

  Meter& meter_;
  const JsonStyle& style_;
  bool breaks_lines_ = false;
  MarkedText indent_, between_items_{", "}, behind_key_{": "};
  int level_ = 0;
  MarkedText out_;
};

Writer::Writer(Meter& meter, const JsonStyle& style) : meter_(meter), style_(style) {
  if (IsInt(style.indent)) {
    breaks_lines_ = true;
    const int64_t spaces = std::clamp<int64_t>(IntOf(style.indent), 0, 1024);
    indent_ = MarkedText(std::string(static_cast<size_t>(spaces), ' '));
  } else if (style.indent.Is(Kind::kString)) {
    breaks_lines_ = true;
    indent_ = style.indent.text();
  }
  if (breaks_lines_) between_items_ = MarkedText(",");
  if (!style.separators.Is(Kind::kList)) return;
  const auto& pair = style.separators.list().items;
  if (pair.size() != 2 || !pair[0].Is(Kind::kString) || !pair[1].Is(Kind::kString)) {
    meter.Fail("separators of tojson must be two strings");
    return;
  }
  between_items_ = pair[0].text();
  behind_key_ = pair[1].text();
}

std::string Escape(char32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\f':
      return "\\f";
    case '\b':
      return "\\b";
    default:
      break;
  }
  if (c < 0x10000) return absl::StrFormat("\\u%04x", static_cast<uint32_t>(c));
  const auto v = static_cast<uint32_t>(c) - 0x10000;
  return absl::StrFormat("\\u%04x\\u%04x", 0xD800 + (v >> 10), 0xDC00 + (v & 0x3FF));
}

void Writer::WriteText(const MarkedText& text) {
  out_.Append("\"");
  AppendEscaped(
      meter_, text,
      [this](char32_t c) {
        return c < 0x20 || c == '"' || c == '\\' || (style_.ascii && c >= 0x7F);
      },
      Escape, &out_);
  out_.Append("\"");
}

void Writer::BreakLine() {
  if (!breaks_lines_) return;
  out_.Append("\n");
  for (int i = 0; i < level_; ++i) out_.Append(indent_);
  meter_.Work(indent_.size() * static_cast<size_t>(level_) + 1);
}

void Writer::WriteList(const List& list) {
  if (list.items.empty()) return out_.Append("[]");
  out_.Append("[");
  ++level_;
  for (size_t i = 0; i < list.items.size() && meter_.ok(); ++i) {
    if (i > 0) out_.Append(between_items_);
    BreakLine();
    Write(list.items[i]);
  }
  --level_;
  BreakLine();
  out_.Append("]");
}

bool Writer::WriteKey(const Value& key) {
  switch (key.kind()) {
    case Kind::kString:
      WriteText(key.text());
      return true;
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      out_.Append("\"");
      Write(key);
      out_.Append("\"");
      return true;
    default:
      meter_.Fail(absl::StrCat("keys of JSON may not be ", TypeName(key)));
      return false;
  }
}

void Writer::WriteDict(const Dict& dict) {
  if (dict.entries.empty()) return out_.Append("{}");
  std::vector<const std::pair<Value, Value>*> entries;
  for (const auto& entry : dict.entries) entries.push_back(&entry);
  if (style_.sort_keys) {
    for (const auto* entry : entries) {
      if (entry->first.Is(Kind::kString)) continue;
      meter_.Fail("sort_keys of tojson wants keys that are strings");
      return;
    }
    std::sort(entries.begin(), entries.end(),
              [](const auto* a, const auto* b) { return a->first.bytes() < b->first.bytes(); });
  }
  out_.Append("{");
  ++level_;
  for (size_t i = 0; i < entries.size() && meter_.ok(); ++i) {
    if (i > 0) out_.Append(between_items_);
    BreakLine();
    if (!WriteKey(entries[i]->first)) return;
    out_.Append(behind_key_);
    Write(entries[i]->second);
  }
  --level_;
  BreakLine();
  out_.Append("}");
}

std::string Writer::Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return FloatText(value);
}

void Writer::Write(const Value& value) {
  const size_t before = out_.size();
  switch (value.kind()) {
    case Kind::kNone:
      out_.Append("null");
      break;
    case Kind::kBool:
      out_.Append(value.As<bool>() ? "true" : "false");
      break;
    case Kind::kInt:
      out_.Append(absl::StrCat(value.As<int64_t>()));
      break;
    case Kind::kFloat:
      out_.Append(Number(value.As<double>()));
      break;
    case Kind::kString:
      WriteText(value.text());
      break;
    case Kind::kList:
      return WriteList(value.list());
    case Kind::kDict:
      return WriteDict(value.dict());
    default:
      meter_.Fail(absl::StrCat("a value of type ", TypeName(value), " is not JSON"));
  }
  meter_.Work(out_.size() - before + 1);
}

}  // namespace

MarkedText ToJson(Meter& meter, const Value& value, const JsonStyle& style) {
  Writer writer(meter, style);
  writer.Write(value);
  return writer.Take();
}

}  // namespace vernier::jinja
