#include "engine/text/jinja/tests.h"

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/operators.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

template <Kind kind>
bool IsKind(Meter&, const Value& value, const Arguments&) {
  return value.Is(kind);
}

bool IsDefinedTest(Meter&, const Value& value, const Arguments&) {
  return !value.Is(Kind::kUndefined);
}

template <bool wanted>
bool IsBool(Meter&, const Value& value, const Arguments&) {
  return value.Is(Kind::kBool) && value.As<bool>() == wanted;
}

bool IsNumberTest(Meter&, const Value& value, const Arguments&) { return IsNumber(value); }

// What has a length and can be indexed, as Jinja asks: undefined seems to.
bool IsSequence(Meter&, const Value& value, const Arguments&) {
  return value.Is(Kind::kUndefined) || value.Is(Kind::kString) || value.Is(Kind::kList) ||
         value.Is(Kind::kDict);
}

bool IsIterable(Meter&, const Value& value, const Arguments&) {
  return value.Is(Kind::kString) || value.Is(Kind::kList) || value.Is(Kind::kDict) ||
         value.Is(Kind::kLoop) || value.Is(Kind::kUndefined);
}

bool IsCallable(Meter&, const Value& value, const Arguments&) {
  return value.Is(Kind::kMacro) || value.Is(Kind::kFunction) || value.Is(Kind::kMethod);
}

template <Operator op>
bool ComparesTo(Meter& meter, const Value& value, const Arguments& arguments) {
  return Compare(meter, op, value, arguments.positional[0]);
}

bool IsIn(Meter& meter, const Value& value, const Arguments& arguments) {
  return Contains(meter, arguments.positional[0], value);
}

bool IsSame(Meter& meter, const Value& value, const Arguments& arguments) {
  const Value& other = arguments.positional[0];
  return value.kind() == other.kind() && Equal(meter, value, other);
}

bool Divides(Meter& meter, const Value& value, int64_t by) {
  if (!IsInt(value)) {
    meter.Fail(absl::StrCat("a test of divisibility found ", TypeName(value), ", wants int"));
    return false;
  }
  const Value rest = Arithmetic(meter, Operator::kModulo, value, Value(by));
  return IsInt(rest) && IntOf(rest) == 0;
}

bool IsDivisibleBy(Meter& meter, const Value& value, const Arguments& arguments) {
  return Divides(meter, value, IntArgument(meter, arguments.positional[0], 0));
}
bool IsEven(Meter& meter, const Value& value, const Arguments&) { return Divides(meter, value, 2); }
bool IsOdd(Meter& meter, const Value& value, const Arguments&) {
  return !Divides(meter, value, 2) && meter.ok();
}

template <Case which>
bool IsCase(Meter& meter, const Value& value, const Arguments&) {
  return value.Is(Kind::kString) && meter.Work(value.text().size()) &&
         HasOnlyCase(value.bytes(), which);
}

bool IsFilter(Meter&, const Value& value, const Arguments&) {
  return value.Is(Kind::kString) && FindFilter(value.bytes()) != nullptr;
}
bool IsTest(Meter&, const Value& value, const Arguments&) {
  return value.Is(Kind::kString) && FindTest(value.bytes()) != nullptr;
}

bool Never(Meter&, const Value&, const Arguments&) { return false; }

constexpr TestRow kTests[] = {
    {"defined", "", IsDefinedTest},
    {"undefined", "", IsKind<Kind::kUndefined>},
    {"none", "", IsKind<Kind::kNone>},
    {"boolean", "", IsKind<Kind::kBool>},
    {"true", "", IsBool<true>},
    {"false", "", IsBool<false>},
    {"integer", "", IsKind<Kind::kInt>},
    {"float", "", IsKind<Kind::kFloat>},
    {"number", "", IsNumberTest},
    {"string", "", IsKind<Kind::kString>},
    {"mapping", "", IsKind<Kind::kDict>},
    {"sequence", "", IsSequence},
    {"iterable", "", IsIterable},
    {"callable", "", IsCallable},
    {"escaped", "", Never},
    {"filter", "", IsFilter},
    {"test", "", IsTest},
    {"in", "seq", IsIn},
    {"sameas", "other", IsSame},
    {"divisibleby", "num", IsDivisibleBy},
    {"even", "", IsEven},
    {"odd", "", IsOdd},
    {"upper", "", IsCase<Case::kUpper>},
    {"lower", "", IsCase<Case::kLower>},
    {"eq", "other", ComparesTo<Operator::kEqual>},
    {"equalto", "other", ComparesTo<Operator::kEqual>},
    {"==", "other", ComparesTo<Operator::kEqual>},
    {"ne", "other", ComparesTo<Operator::kNotEqual>},
    {"!=", "other", ComparesTo<Operator::kNotEqual>},
    {"lt", "other", ComparesTo<Operator::kLess>},
    {"lessthan", "other", ComparesTo<Operator::kLess>},
    {"<", "other", ComparesTo<Operator::kLess>},
    {"le", "other", ComparesTo<Operator::kLessEqual>},
    {"<=", "other", ComparesTo<Operator::kLessEqual>},
    {"gt", "other", ComparesTo<Operator::kGreater>},
    {"greaterthan", "other", ComparesTo<Operator::kGreater>},
    {">", "other", ComparesTo<Operator::kGreater>},
    {"ge", "other", ComparesTo<Operator::kGreaterEqual>},
    {">=", "other", ComparesTo<Operator::kGreaterEqual>},
};

}  // namespace

const TestRow* FindTest(absl::string_view name) {
  for (const TestRow& row : kTests) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

bool Holds(Meter& meter, const TestRow* row, absl::string_view name, const Value& value,
           Arguments arguments) {
  if (row == nullptr) {
    meter.Fail(absl::StrCat("the test '", name.substr(0, 40), "' is not supported"));
    return false;
  }
  return Bind(meter, name, row->parameters, &arguments) && row->holds(meter, value, arguments) &&
         meter.ok();
}

}  // namespace vernier::jinja
