#include "engine/text/jinja/methods.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/operators.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

std::optional<absl::string_view> Characters(Meter& meter, const Value& value) {
  const MarkedText* text = TextArgument(meter, value);
  return text == nullptr ? std::nullopt : std::optional<absl::string_view>(text->bytes());
}

template <Sides sides>
Value StripMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  return MakeText(meter, Strip(self.text(), Characters(meter, arguments.positional[0]), sides));
}

template <Case to>
Value CaseMethod(Meter& meter, const Value& self, const Arguments&) {
  // Every changed character may be a run of its own.
  if (!meter.Work(self.text().size())) return Value();
  return MakeText(meter, ToCase(self.text(), to));
}

template <Class what>
Value ClassMethod(Meter& meter, const Value& self, const Arguments&) {
  meter.Work(self.text().size());
  return Value(AllAre(self.bytes(), what));
}

template <Case which>
Value OnlyCaseMethod(Meter& meter, const Value& self, const Arguments&) {
  meter.Work(self.text().size());
  return Value(HasOnlyCase(self.bytes(), which));
}

Value Texts(Meter& meter, std::vector<MarkedText> parts) {
  std::vector<Value> items;
  for (MarkedText& part : parts) items.push_back(MakeText(meter, std::move(part)));
  return MakeList(meter, std::move(items));
}

// Charges for the pieces before they are made: each is an object of some hundred bytes. Null: cuts
// at white space or lines, of which these bytes are part.
bool PayForCuts(Meter& meter, const MarkedText& text, const MarkedText* separator) {
  if (separator != nullptr && separator->empty()) {
    meter.Fail("empty separator");
    return false;
  }
  size_t cuts = 0;
  if (separator == nullptr) {
    for (const char c : text.bytes()) cuts += static_cast<signed char>(c) <= ' ' ? 1 : 0;
  } else {
    for (size_t at = 0; (at = Find(text.bytes(), separator->bytes(), at)) != std::string::npos;) {
      at += separator->size();
      ++cuts;
    }
  }
  return meter.Work(text.size() + cuts * 128);
}

enum class From : uint8_t { kLeft, kRight };

template <From from>
Value SplitMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const MarkedText* separator = TextArgument(meter, arguments.positional[0]);
  const int64_t most = IntArgument(meter, arguments.positional[1], -1);
  if (!PayForCuts(meter, self.text(), separator)) return Value();
  if (separator == nullptr) {
    if (from == From::kLeft || most < 0) return Texts(meter, SplitAtSpace(self.text(), most));
    return meter.Fail("rsplit with a limit wants a separator");
  }
  if (from == From::kLeft) return Texts(meter, SplitAt(self.text(), separator->bytes(), most));
  if (!meter.Work(separator->size() > 64 ? self.text().size() * 64 : 0)) return Value();
  return Texts(meter, SplitAtFromRight(self.text(), separator->bytes(), most));
}

Value SplitLinesMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  if (!PayForCuts(meter, self.text(), nullptr)) return Value();
  return Texts(meter, SplitLines(self.text(), IsTrue(arguments.positional[0])));
}

template <From from>
Value PartitionMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const MarkedText* separator = TextArgument(meter, arguments.positional[0]);
  if (separator == nullptr || separator->empty()) return meter.Fail("empty separator");
  if (!meter.Work(self.text().size())) return Value();
  std::vector<MarkedText> parts = from == From::kLeft
                                      ? SplitAt(self.text(), separator->bytes(), 1)
                                      : SplitAtFromRight(self.text(), separator->bytes(), 1);
  const Value cut = Value::Text(*separator), empty = Value::Text("");
  std::vector<Value> items;
  if (parts.size() == 2) {
    items = {MakeText(meter, parts[0]), cut, MakeText(meter, parts[1])};
  } else if (from == From::kLeft) {
    items = {self, empty, empty};
  } else {
    items = {empty, empty, self};
  }
  return MakeTuple(meter, std::move(items));
}

bool HasAffix(Meter& meter, const std::string& text, const Value& affix, From from) {
  const MarkedText* wanted = TextArgument(meter, affix);
  if (wanted == nullptr) {
    meter.Fail("startswith and endswith want a str or a tuple of str");
    return false;
  }
  meter.Work(std::min(text.size(), wanted->size()));
  return from == From::kLeft ? absl::StartsWith(text, wanted->bytes())
                             : absl::EndsWith(text, wanted->bytes());
}

template <From from>
Value AffixMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const Value& affix = arguments.positional[0];
  if (!affix.Is(Kind::kList)) return Value(HasAffix(meter, self.bytes(), affix, from));
  for (const Value& one : affix.list().items) {
    if (HasAffix(meter, self.bytes(), one, from)) return Value(true);
    if (!meter.ok()) break;
  }
  return Value(false);
}

template <From from>
Value RemoveAffixMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const Value& affix = arguments.positional[0];
  if (!HasAffix(meter, self.bytes(), affix, from)) return self;
  const size_t size = self.text().size(), cut = affix.text().size();
  return MakeText(
      meter, from == From::kLeft ? self.text().Part(cut, size) : self.text().Part(0, size - cut));
}

Value ReplaceMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const MarkedText* old = TextArgument(meter, arguments.positional[0]);
  const MarkedText* by = TextArgument(meter, arguments.positional[1]);
  const int64_t most = IntArgument(meter, arguments.positional[2], -1);
  if (old == nullptr || by == nullptr) return meter.Fail("replace wants two strings");
  if (!meter.Work(self.text().size())) return Value();
  const auto limit = static_cast<size_t>(meter.limits().work_bytes);
  return MakeText(meter, Replace(self.text(), old->bytes(), *by, most, limit));
}

// Character index of the first (or last) place of the argument, -1: none.
template <From from>
Value FindMethodOf(Meter& meter, const Value& self, const Arguments& arguments) {
  const MarkedText* what = TextArgument(meter, arguments.positional[0]);
  if (what == nullptr) return meter.Fail("find wants a str");
  const std::string& text = self.bytes();
  // The search from the right is not linear.
  if (!meter.Work(text.size() * (from == From::kRight && what->size() > 64 ? 64 : 1))) {
    return Value();
  }
  const size_t at = from == From::kLeft ? Find(text, what->bytes(), 0) : text.rfind(what->bytes());
  if (at == std::string::npos) return Value(int64_t{-1});
  return Value(static_cast<int64_t>(CountCharacters(absl::string_view(text).substr(0, at))));
}

Value IndexMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const Value found = FindMethodOf<From::kLeft>(meter, self, arguments);
  if (IsInt(found) && IntOf(found) < 0) return meter.Fail("substring not found");
  return found;
}

Value CountMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const MarkedText* what = TextArgument(meter, arguments.positional[0]);
  if (what == nullptr || what->empty()) return meter.Fail("count wants a str that is not empty");
  if (!meter.Work(self.text().size())) return Value();
  int64_t count = 0;
  for (size_t at = 0; (at = Find(self.bytes(), what->bytes(), at)) != std::string::npos;) {
    at += what->size();
    ++count;
  }
  return Value(count);
}

Value JoinMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const auto list = ListOf(meter, arguments.positional[0]);
  MarkedText out;
  for (size_t i = 0; i < list->items.size(); ++i) {
    const Value& item = list->items[i];
    if (!item.Is(Kind::kString)) {
      return meter.Fail(absl::StrCat("join found ", TypeName(item), ", wants str"));
    }
    if (!meter.Work(self.text().size() + item.text().size())) return Value();
    if (i > 0) out.Append(self.text());
    out.Append(item.text());
  }
  return Value::Text(std::move(out));
}

enum class Place : uint8_t { kLeft, kRight, kCenter };

template <Place place>
Value JustifyMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const int64_t width = IntArgument(meter, arguments.positional[0], 0);
  const MarkedText* fill = TextArgument(meter, arguments.positional[1]);
  if (!meter.Work(self.text().size())) return Value();
  const auto characters = static_cast<int64_t>(CountCharacters(self.bytes()));
  if (width <= characters) return self;
  if (width > (1 << 20)) return meter.FailLimit("pads a string to more than 1048576 characters");
  const std::string unit = fill == nullptr ? " " : fill->bytes();
  if (unit.size() != 1) return meter.Fail("the fill must be one character of ASCII");
  const auto missing = static_cast<size_t>(width - characters);
  size_t left = 0;
  if (place == Place::kRight) left = missing;
  if (place == Place::kCenter) left = missing / 2 + (missing & static_cast<size_t>(width) & 1);
  MarkedText out(std::string(left, unit[0]));
  out.Append(self.text());
  out.Append(std::string(missing - left, unit[0]));
  return MakeText(meter, std::move(out));
}

Value ItemsMethod(Meter& meter, const Value& self, const Arguments&) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().entries) {
    items.push_back(MakeTuple(meter, {key, value}));
  }
  return MakeList(meter, std::move(items));
}

Value KeysMethod(Meter& meter, const Value& self, const Arguments&) {
  return MakeList(meter, ItemsOf(meter, self));
}

Value ValuesMethod(Meter& meter, const Value& self, const Arguments&) {
  std::vector<Value> items;
  for (const auto& entry : self.dict().entries) items.push_back(entry.second);
  return MakeList(meter, std::move(items));
}

Value GetMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  if (std::optional<Value> found = ItemAt(meter, self, arguments.positional[0])) return *found;
  const Value& otherwise = arguments.positional[1];
  return otherwise.Is(Kind::kUndefined) ? Value(None{}) : otherwise;
}

Value CopyMethod(Meter&, const Value& self, const Arguments&) { return self; }

Value ListCountMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  int64_t count = 0;
  for (const Value& item : self.list().items) {
    count += Equal(meter, item, arguments.positional[0]) ? 1 : 0;
  }
  return Value(count);
}

Value ListIndexMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  const auto& items = self.list().items;
  for (size_t i = 0; i < items.size() && meter.ok(); ++i) {
    if (Equal(meter, items[i], arguments.positional[0])) return Value(static_cast<int64_t>(i));
  }
  return meter.Fail("the value is not in the list");
}

Value CycleMethod(Meter& meter, const Value& self, const Arguments& arguments) {
  if (arguments.positional.empty()) return meter.Fail("no items for cycling given");
  const size_t index = self.As<std::shared_ptr<Loop>>()->index;
  return arguments.positional[index % arguments.positional.size()];
}

constexpr MethodRow kMethods[] = {
    {Kind::kString, "strip", "chars", StripMethod<Sides::kBoth>},
    {Kind::kString, "lstrip", "chars", StripMethod<Sides::kLeft>},
    {Kind::kString, "rstrip", "chars", StripMethod<Sides::kRight>},
    {Kind::kString, "split", "sep maxsplit", SplitMethod<From::kLeft>},
    {Kind::kString, "rsplit", "sep maxsplit", SplitMethod<From::kRight>},
    {Kind::kString, "splitlines", "keepends", SplitLinesMethod},
    {Kind::kString, "partition", "sep", PartitionMethod<From::kLeft>},
    {Kind::kString, "rpartition", "sep", PartitionMethod<From::kRight>},
    {Kind::kString, "startswith", "prefix", AffixMethod<From::kLeft>},
    {Kind::kString, "endswith", "suffix", AffixMethod<From::kRight>},
    {Kind::kString, "removeprefix", "prefix", RemoveAffixMethod<From::kLeft>},
    {Kind::kString, "removesuffix", "suffix", RemoveAffixMethod<From::kRight>},
    {Kind::kString, "upper", "", CaseMethod<Case::kUpper>},
    {Kind::kString, "lower", "", CaseMethod<Case::kLower>},
    {Kind::kString, "title", "", CaseMethod<Case::kTitle>},
    {Kind::kString, "capitalize", "", CaseMethod<Case::kCapital>},
    {Kind::kString, "swapcase", "", CaseMethod<Case::kSwapped>},
    {Kind::kString, "replace", "old new count", ReplaceMethod},
    {Kind::kString, "find", "sub", FindMethodOf<From::kLeft>},
    {Kind::kString, "rfind", "sub", FindMethodOf<From::kRight>},
    {Kind::kString, "index", "sub", IndexMethod},
    {Kind::kString, "count", "sub", CountMethod},
    {Kind::kString, "join", "iterable", JoinMethod},
    {Kind::kString, "ljust", "width fillchar", JustifyMethod<Place::kLeft>},
    {Kind::kString, "rjust", "width fillchar", JustifyMethod<Place::kRight>},
    {Kind::kString, "center", "width fillchar", JustifyMethod<Place::kCenter>},
    {Kind::kString, "isalpha", "", ClassMethod<Class::kAlpha>},
    {Kind::kString, "isdigit", "", ClassMethod<Class::kDigit>},
    {Kind::kString, "isnumeric", "", ClassMethod<Class::kDigit>},
    {Kind::kString, "isdecimal", "", ClassMethod<Class::kDigit>},
    {Kind::kString, "isalnum", "", ClassMethod<Class::kAlnum>},
    {Kind::kString, "isspace", "", ClassMethod<Class::kSpace>},
    {Kind::kString, "isupper", "", OnlyCaseMethod<Case::kUpper>},
    {Kind::kString, "islower", "", OnlyCaseMethod<Case::kLower>},
    {Kind::kDict, "items", "", ItemsMethod},
    {Kind::kDict, "keys", "", KeysMethod},
    {Kind::kDict, "values", "", ValuesMethod},
    {Kind::kDict, "get", "key default", GetMethod},
    {Kind::kDict, "copy", "", CopyMethod},
    {Kind::kList, "count", "value", ListCountMethod},
    {Kind::kList, "index", "value", ListIndexMethod},
    {Kind::kList, "copy", "", CopyMethod},
    {Kind::kLoop, "cycle", "*", CycleMethod},
};

}  // namespace

const MethodRow* FindMethod(Value::Kind of, absl::string_view name) {
  for (const MethodRow& row : kMethods) {
    if (row.of == of && row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace vernier::jinja
