#include "engine/text/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/print.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

absl::string_view Spelling(Operator op) {
  constexpr absl::string_view kSpellings[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSpellings[static_cast<size_t>(op)];
}

Value WrongTypes(Meter& meter, Operator op, const Value& a, const Value& b) {
  return meter.Fail(absl::StrCat("unsupported operand types for ", Spelling(op), ": ", TypeName(a),
                                 " and ", TypeName(b)));
}

Value TooLarge(Meter& meter) { return meter.Fail("an integer exceeds 64 bits"); }

Value IntPower(Meter& meter, int64_t base, int64_t exponent) {
  if (exponent < 0)
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return TooLarge(meter);
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return TooLarge(meter);
  }
  return Value(result);
}

Value IntArithmetic(Meter& meter, Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  const bool divides =
      op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  if (divides && b == 0) return meter.Fail("division by zero");
  switch (op) {
    case Operator::kAdd:
      return __builtin_add_overflow(a, b, &result) ? TooLarge(meter) : Value(result);
    case Operator::kSubtract:
      return __builtin_sub_overflow(a, b, &result) ? TooLarge(meter) : Value(result);
    case Operator::kMultiply:
      return __builtin_mul_overflow(a, b, &result) ? TooLarge(meter) : Value(result);
    case Operator::kDivide:
      return Value(static_cast<double>(a) / static_cast<double>(b));
    case Operator::kPower:
      return IntPower(meter, a, b);
    default:
      break;
  }
  if (b == -1) {  // the one quotient that overflows
    if (op == Operator::kModulo) return Value(int64_t{0});
    return __builtin_sub_overflow(int64_t{0}, a, &result) ? TooLarge(meter) : Value(result);
  }
  const bool rounds_down = a % b != 0 && (a < 0) != (b < 0);
  if (op == Operator::kFloorDivide) return Value(a / b - (rounds_down ? 1 : 0));
  return Value(a % b + (rounds_down ? b : 0));
}

Value FloatArithmetic(Meter& meter, Operator op, double a, double b) {
  const bool divides =
      op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  if (divides && b == 0) return meter.Fail("division by zero");
  switch (op) {
    case Operator::kAdd:
      return Value(a + b);
    case Operator::kSubtract:
      return Value(a - b);
    case Operator::kMultiply:
      return Value(a * b);
    case Operator::kDivide:
      return Value(a / b);
    case Operator::kFloorDivide:
      return Value(std::floor(a / b));
    case Operator::kModulo:
      return Value(a - b * std::floor(a / b));
    default:
      return Value(std::pow(a, b));
  }
}

Value Repeat(Meter& meter, const Value& what, int64_t times) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  if (what.Is(Kind::kString)) {
    const MarkedText& text = what.text();
    const size_t unit = text.size() + text.content().size() * sizeof(MarkedText::Run);
    if (text.empty() || count == 0) return Value::Text("");
    if (count > static_cast<size_t>(meter.limits().work_bytes) / unit ||
        !meter.Work(unit * count)) {
      return meter.FailLimit("repeats a string into too many bytes");
    }
    return Value::Text(text.Repeated(count));
  }
  const auto& items = what.list().items;
  if (!items.empty() &&
      count > static_cast<size_t>(meter.limits().work_bytes) / (items.size() * sizeof(Value))) {
    return meter.FailLimit("repeats a list into too many items");
  }
  std::vector<Value> out;
  for (size_t i = 0; i < (items.empty() ? 0 : count); ++i) {
    out.insert(out.end(), items.begin(), items.end());
  }
  return what.list().is_tuple ? MakeTuple(meter, std::move(out)) : MakeList(meter, std::move(out));
}

Value AddSequences(Meter& meter, const Value& a, const Value& b) {
  if (a.Is(Kind::kString) && b.Is(Kind::kString)) {
    if (!meter.Work(a.text().size() + b.text().size())) return Value();
    MarkedText out = a.text();
    out.Append(b.text());
    return Value::Text(std::move(out));
  }
  if (a.Is(Kind::kList) && b.Is(Kind::kList) && a.list().is_tuple == b.list().is_tuple) {
    if (!meter.Work((a.list().items.size() + b.list().items.size()) * sizeof(Value))) {
      return Value();
    }
    std::vector<Value> items = a.list().items;
    items.insert(items.end(), b.list().items.begin(), b.list().items.end());
    return a.list().is_tuple ? MakeTuple(meter, std::move(items))
                             : MakeList(meter, std::move(items));
  }
  return WrongTypes(meter, Operator::kAdd, a, b);
}

bool IsSequence(const Value& value) { return value.Is(Kind::kString) || value.Is(Kind::kList); }

bool EqualLists(Meter& meter, const List& a, const List& b) {
  if (a.is_tuple != b.is_tuple || a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!meter.ok() || !Equal(meter, a.items[i], b.items[i])) return false;
  }
  return true;
}

const Value* FindKey(Meter& meter, const Dict& dict, const Value& key) {
  for (const auto& [name, value] : dict.entries) {
    if (!meter.ok()) return nullptr;
    if (Equal(meter, name, key)) return &value;
  }
  return nullptr;
}

bool EqualDicts(Meter& meter, const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = FindKey(meter, b, key);
    if (other == nullptr || !Equal(meter, value, *other)) return false;
  }
  return true;
}

// An index as Python counts: negative from the end. Absent: out of range.
std::optional<size_t> Position(int64_t index, size_t size) {
  const auto length = static_cast<int64_t>(size);
  if (index < 0) index += length;
  if (index < 0 || index >= length) return std::nullopt;
  return static_cast<size_t>(index);
}

}  // namespace

bool IsDefined(Meter& meter, const Value& value) {
  if (!value.Is(Kind::kUndefined)) return true;
  const auto& what = value.As<Undefined>().what;
  meter.Fail(what == nullptr ? "a value is undefined" : absl::string_view(*what));
  return false;
}

Value Arithmetic(Meter& meter, Operator op, const Value& a, const Value& b) {
  if (!IsDefined(meter, a) || !IsDefined(meter, b)) return Value();
  if (IsInt(a) && IsInt(b)) return IntArithmetic(meter, op, IntOf(a), IntOf(b));
  if (IsNumber(a) && IsNumber(b)) return FloatArithmetic(meter, op, FloatOf(a), FloatOf(b));
  if (op == Operator::kAdd) return AddSequences(meter, a, b);
  if (op == Operator::kMultiply && IsSequence(a) && IsInt(b)) return Repeat(meter, a, IntOf(b));
  if (op == Operator::kMultiply && IsInt(a) && IsSequence(b)) return Repeat(meter, b, IntOf(a));
  return WrongTypes(meter, op, a, b);
}

Value Negative(Meter& meter, const Value& value) {
  if (!IsDefined(meter, value)) return Value();
  if (value.Is(Kind::kFloat)) return Value(-value.As<double>());
  if (!IsInt(value)) return meter.Fail(absl::StrCat("unary - of ", TypeName(value)));
  return IntArithmetic(meter, Operator::kSubtract, 0, IntOf(value));
}

bool Equal(Meter& meter, const Value& a, const Value& b) {
  meter.Work(1);
  if (IsInt(a) && IsInt(b)) return IntOf(a) == IntOf(b);
  if (IsNumber(a) && IsNumber(b)) return FloatOf(a) == FloatOf(b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      if (a.text().size() != b.text().size()) return false;
      return meter.Work(a.text().size()) && a.bytes() == b.bytes();
    case Kind::kList:
      return EqualLists(meter, a.list(), b.list());
    case Kind::kDict:
      return EqualDicts(meter, a.dict(), b.dict());
    case Kind::kNamespace:
      return a.As<std::shared_ptr<Namespace>>() == b.As<std::shared_ptr<Namespace>>();
    case Kind::kLoop:
      return a.As<std::shared_ptr<Loop>>() == b.As<std::shared_ptr<Loop>>();
    case Kind::kMacro:
      return a.As<Macro>().definition == b.As<Macro>().definition;
    case Kind::kFunction:
      return a.As<Function>() == b.As<Function>();
    default:
      return false;
  }
}

bool Less(Meter& meter, const Value& a, const Value& b) {
  meter.Work(1);
  if (!IsDefined(meter, a) || !IsDefined(meter, b)) return false;
  if (IsInt(a) && IsInt(b)) return IntOf(a) < IntOf(b);
  if (IsNumber(a) && IsNumber(b)) return FloatOf(a) < FloatOf(b);
  if (a.Is(Kind::kString) && b.Is(Kind::kString)) {  // UTF-8 keeps the order of code points
    return meter.Work(std::min(a.text().size(), b.text().size())) && a.bytes() < b.bytes();
  }
  if (a.Is(Kind::kList) && b.Is(Kind::kList) && a.list().is_tuple == b.list().is_tuple) {
    const auto& left = a.list().items;
    const auto& right = b.list().items;
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!meter.ok()) return false;
      if (!Equal(meter, left[i], right[i])) return Less(meter, left[i], right[i]);
    }
    return left.size() < right.size();
  }
  WrongTypes(meter, Operator::kLess, a, b);
  return false;
}

bool Contains(Meter& meter, const Value& all, const Value& item) {
  switch (all.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kString:
      if (!item.Is(Kind::kString)) {
        meter.Fail(
            absl::StrCat("'in <string>' requires string as left operand, not ", TypeName(item)));
        return false;
      }
      return meter.Work(all.text().size() + item.text().size()) &&
             Find(all.bytes(), item.bytes(), 0) != absl::string_view::npos;
    case Kind::kList:
      for (const Value& one : all.list().items) {
        if (!meter.ok()) return false;
        if (Equal(meter, one, item)) return true;
      }
      return false;
    case Kind::kDict:
      return FindKey(meter, all.dict(), item) != nullptr;
    default:
      meter.Fail(absl::StrCat("argument of type '", TypeName(all), "' is not iterable"));
      return false;
  }
}

bool Compare(Meter& meter, Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::kEqual:
      return Equal(meter, a, b);
    case Operator::kNotEqual:
      return !Equal(meter, a, b);
    case Operator::kLess:
      return Less(meter, a, b);
    case Operator::kLessEqual:
      return Less(meter, a, b) || (meter.ok() && Equal(meter, a, b));
    case Operator::kGreater:
      return Less(meter, b, a);
    case Operator::kGreaterEqual:
      return Less(meter, b, a) || (meter.ok() && Equal(meter, a, b));
    case Operator::kIn:
      return Contains(meter, b, a);
    default:
      return !Contains(meter, b, a);
  }
}

std::vector<Value> ItemsOf(Meter& meter, const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      break;
    case Kind::kList:
      if (meter.Work(value.list().items.size() * sizeof(Value))) items = value.list().items;
      break;
    case Kind::kDict:
      if (!meter.Work(value.dict().entries.size() * sizeof(Value))) break;
      for (const auto& entry : value.dict().entries) items.push_back(entry.first);
      break;
    case Kind::kString: {
      const MarkedText& text = value.text();
      // A character is a value of its own: some hundred bytes.
      if (text.size() > static_cast<size_t>(meter.limits().work_bytes) / 128 ||
          !meter.Work(text.size() * 128)) {
        meter.FailLimit("walks over the characters of a string that is too long");
        break;
      }
      const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
      for (size_t i = 0; i + 1 < offsets.size(); ++i) {
        items.push_back(Value::Text(text.Part(offsets[i], offsets[i + 1])));
      }
      break;
    }
    default:
      meter.Fail(absl::StrCat("'", TypeName(value), "' object is not iterable"));
  }
  return items;
}

std::shared_ptr<const List> ListOf(Meter& meter, const Value& value) {
  if (value.Is(Kind::kList)) return value.As<std::shared_ptr<const List>>();
  const Value list = MakeList(meter, ItemsOf(meter, value));
  return list.Is(Kind::kList) ? list.As<std::shared_ptr<const List>>()
                              : std::make_shared<const List>();
}

int64_t LengthOf(Meter& meter, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      meter.Work(value.text().size());
      return static_cast<int64_t>(CountCharacters(value.bytes()));
    case Kind::kList:
      return static_cast<int64_t>(value.list().items.size());
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().entries.size());
    case Kind::kLoop:
      return static_cast<int64_t>(value.As<std::shared_ptr<Loop>>()->items->items.size());
    default:
      meter.Fail(absl::StrCat("object of type '", TypeName(value), "' has no len()"));
      return 0;
  }
}

std::optional<Value> ItemAt(Meter& meter, const Value& value, const Value& index) {
  if (value.Is(Kind::kDict)) {
    const Value* found = FindKey(meter, value.dict(), index);
    return found == nullptr ? std::nullopt : std::make_optional(*found);
  }
  if (!IsInt(index)) return std::nullopt;
  if (value.Is(Kind::kList)) {
    const auto& items = value.list().items;
    const auto at = Position(IntOf(index), items.size());
    return at ? std::make_optional(items[*at]) : std::nullopt;
  }
  if (value.Is(Kind::kString)) {
    const MarkedText& text = value.text();
    if (!meter.Work(text.size())) return std::nullopt;
    const auto at = Position(IntOf(index), CountCharacters(text.bytes()));
    if (!at) return std::nullopt;
    const size_t begin = OffsetOfCharacter(text.bytes(), *at);
    const absl::string_view rest = absl::string_view(text.bytes()).substr(begin);
    return MakeText(meter, text.Part(begin, begin + OffsetOfCharacter(rest, 1)));
  }
  return std::nullopt;
}

namespace {

// The positions that [begin:end:step] takes of `size` items, as Python's slice.indices.
struct Positions {
  int64_t first = 0, count = 0, step = 1;
};

std::optional<Positions> SlicePositions(Meter& meter, int64_t size, const Value& begin,
                                        const Value& end, const Value& step) {
  const auto left_out = [](const Value& v) { return v.Is(Kind::kNone) || v.Is(Kind::kUndefined); };
  for (const Value* bound : {&begin, &end, &step}) {
    if (left_out(*bound) || IsInt(*bound)) continue;
    meter.Fail("slice indices must be integers or None");
    return std::nullopt;
  }
  Positions positions;
  if (!left_out(step)) positions.step = IntOf(step);
  if (positions.step == 0) {
    meter.Fail("slice step cannot be zero");
    return std::nullopt;
  }
  const bool back = positions.step < 0;
  const int64_t low = back ? -1 : 0, high = back ? size - 1 : size;
  const auto clamp = [&](const Value& bound, int64_t otherwise) {
    if (left_out(bound)) return otherwise;
    const int64_t at = IntOf(bound);
    return std::clamp(at < 0 ? at + size : at, low, high);
  };
  positions.first = clamp(begin, back ? high : low);
  const int64_t last = clamp(end, back ? low : high);
  const int64_t span = back ? positions.first - last : last - positions.first;
  if (span <= 0) return positions;
  // A step beyond the size takes one item; so bounded, its negative exists.
  positions.step = std::clamp(positions.step, -size - 1, size + 1);
  positions.count = (span - 1) / std::abs(positions.step) + 1;
  return positions;
}

}  // namespace

Value SliceOf(Meter& meter, const Value& value, const Value& begin, const Value& end,
              const Value& step) {
  if (!IsDefined(meter, value)) return Value();
  if (value.Is(Kind::kList)) {
    const auto& items = value.list().items;
    const auto at = SlicePositions(meter, static_cast<int64_t>(items.size()), begin, end, step);
    if (!at || !meter.Work(static_cast<size_t>(at->count) * sizeof(Value))) return Value();
    std::vector<Value> out;
    for (int64_t i = 0; i < at->count; ++i) {
      out.push_back(items[static_cast<size_t>(at->first + i * at->step)]);
    }
    return value.list().is_tuple ? MakeTuple(meter, std::move(out))
                                 : MakeList(meter, std::move(out));
  }
  if (!value.Is(Kind::kString)) {
    return meter.Fail(absl::StrCat("'", TypeName(value), "' object cannot be sliced"));
  }
  const MarkedText& text = value.text();
  if (!meter.Work(text.size() * sizeof(size_t))) return Value();
  const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
  const auto at = SlicePositions(meter, static_cast<int64_t>(offsets.size()) - 1, begin, end, step);
  if (!at) return Value();
  MarkedText out;
  for (int64_t i = 0; i < at->count; ++i) {
    const auto c = static_cast<size_t>(at->first + i * at->step);
    out.AppendPart(text, offsets[c], offsets[c + 1]);
  }
  return MakeText(meter, std::move(out));
}

}  // namespace vernier::jinja
