#include "engine/text/jinja/functions.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/print.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

Value Range(Meter& meter, Arguments arguments) {
  const size_t given = arguments.positional.size();
  if (!Bind(meter, "range", "start stop step", &arguments)) return Value();
  if (given == 0) return meter.Fail("range expected at least 1 argument, got 0");
  int64_t bounds[3] = {0, 0, 1};  // start, stop, step
  for (size_t i = 0; i < given; ++i) {
    if (!IsInt(arguments.positional[i])) return meter.Fail("range wants integers");
    bounds[given == 1 ? 1 : i] = IntOf(arguments.positional[i]);
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) return meter.Fail("range() arg 3 must not be zero");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() >= static_cast<size_t>(kMaxRange)) {
      return meter.FailLimit(absl::StrCat("makes a range of more than ", kMaxRange, " items"));
    }
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return MakeList(meter, std::move(items));
}

// The entries of dict(mapping, name=value) and namespace(mapping, name=value).
std::vector<std::pair<Value, Value>> Entries(Meter& meter, const Arguments& arguments) {
  std::vector<std::pair<Value, Value>> entries;
  for (const Value& one : arguments.positional) {
    if (one.Is(Kind::kDict)) {
      for (const auto& [key, value] : one.dict().entries) SetEntry(meter, key, value, &entries);
      continue;
    }
    const auto pairs = ListOf(meter, one);
    for (const Value& pair : pairs->items) {
      if (!meter.ok()) return {};
      const auto list = ListOf(meter, pair);
      if (list->items.size() != 2) {
        meter.Fail("dict wants pairs");
        return {};
      }
      SetEntry(meter, list->items[0], list->items[1], &entries);
    }
  }
  for (const auto& [name, value] : arguments.named) {
    SetEntry(meter, Value::Text(name), value, &entries);
  }
  return entries;
}

Value MakeNamespace(Meter& meter, const Arguments& arguments) {
  auto made = std::make_shared<Namespace>();
  for (const auto& [key, value] : Entries(meter, arguments)) {
    if (!key.Is(Kind::kString)) return meter.Fail("a namespace wants names that are strings");
    if (value.Is(Kind::kNamespace)) return meter.FailLimit("puts a namespace into a namespace");
    made->attributes.emplace_back(key.bytes(), value);
  }
  return Value(std::move(made));
}

Value RaiseException(Meter& meter, const Arguments& arguments) {
  std::string message;
  if (!arguments.positional.empty()) message = ToText(meter, arguments.positional[0])->bytes();
  return meter.Fail(absl::StrCat("raised: ", absl::Utf8SafeCHexEscape(message.substr(0, 500))));
}

// One conversion a letter; "%-d" and its like without the leading zero. No widths.
bool IsPlainTimeFormat(absl::string_view format) {
  constexpr absl::string_view kConversions = "aAbBcdDeFHIjklmMpPrRsSTuUVwWxXyYzZnt%";
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') continue;
    if (++i < format.size() && format[i] == '-') ++i;
    if (i >= format.size() || kConversions.find(format[i]) == absl::string_view::npos) return false;
  }
  return format.size() <= 200;
}

Value StrftimeNow(Meter& meter, Arguments arguments) {
  if (!Bind(meter, "strftime_now", "format", &arguments)) return Value();
  const MarkedText* format = TextArgument(meter, arguments.positional[0]);
  if (format == nullptr || !IsPlainTimeFormat(format->bytes())) {
    return meter.Fail("strftime_now wants a format of plain conversions");
  }
  return MakeText(meter,
                  MarkedText(absl::FormatTime(format->bytes(), meter.now(), absl::UTCTimeZone()),
                             format->content().empty() ? Origin::kTemplate : Origin::kContent));
}

constexpr std::pair<absl::string_view, Function> kFunctions[] = {
    {"range", Function::kRange},
    {"dict", Function::kDict},
    {"namespace", Function::kNamespace},
    {"raise_exception", Function::kRaiseException},
    {"strftime_now", Function::kStrftimeNow},
};

}  // namespace

std::span<const std::pair<absl::string_view, Function>> GlobalFunctions() { return kFunctions; }

Value CallFunction(Meter& meter, Function function, Arguments arguments) {
  switch (function) {
    case Function::kRange:
      return Range(meter, std::move(arguments));
    case Function::kDict:
      return MakeDict(meter, Entries(meter, arguments));
    case Function::kNamespace:
      return MakeNamespace(meter, arguments);
    case Function::kRaiseException:
      return RaiseException(meter, arguments);
    case Function::kStrftimeNow:
      return StrftimeNow(meter, std::move(arguments));
  }
  return Value();
}

void SetEntry(Meter& meter, Value key, Value value, std::vector<std::pair<Value, Value>>* entries) {
  if (key.Is(Kind::kDict) || key.Is(Kind::kUndefined) ||
      (key.Is(Kind::kList) && !key.list().is_tuple)) {
    meter.Fail(absl::StrCat("a key may not be ", TypeName(key)));
    return;
  }
  for (auto& [name, held] : *entries) {
    if (!meter.ok()) return;
    if (!Equal(meter, name, key)) continue;
    held = std::move(value);
    return;
  }
  entries->emplace_back(std::move(key), std::move(value));
}

}  // namespace vernier::jinja
