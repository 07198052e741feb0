#include "engine/text/jinja/access.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/text/jinja/methods.h"
#include "engine/text/jinja/operators.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

// What Python's lists and mappings have to change them: the sandbox gives none of it.
bool ChangesItsObject(absl::string_view name) {
  constexpr absl::string_view kNames[] = {"append", "clear",      "extend", "insert",
                                          "pop",    "remove",     "sort",   "reverse",
                                          "update", "setdefault", "popitem"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

Value LoopAttribute(Meter& meter, const Value& value, absl::string_view name) {
  const Loop& loop = *value.As<std::shared_ptr<Loop>>();
  const auto& items = loop.items->items;
  const auto index = static_cast<int64_t>(loop.index);
  const auto length = static_cast<int64_t>(items.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(length - index);
  if (name == "revindex0") return Value(length - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == length);
  if (name == "length") return Value(length);
  if (name == "depth") return Value(int64_t{1});  // it counts recursive loops alone
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem") {
    return index > 0 ? items[loop.index - 1] : MakeUndefined(meter, "there is no previous item");
  }
  if (name == "nextitem") {
    return index + 1 < length ? items[loop.index + 1]
                              : MakeUndefined(meter, "there is no next item");
  }
  return MakeUndefined(meter, absl::StrCat("'loop' has no attribute '", name, "'"));
}

// Attributes proper, without keys; undefined without a reason where there is none.
Value OwnAttribute(Meter& meter, const Value& value, absl::string_view name) {
  if (const MethodRow* row = FindMethod(value.kind(), name)) return MakeMethod(meter, value, row);
  if (value.Is(Kind::kLoop)) return LoopAttribute(meter, value, name);
  if (value.Is(Kind::kNamespace)) {
    for (const auto& [key, held] : value.As<std::shared_ptr<Namespace>>()->attributes) {
      if (key == name) return held;
    }
  }
  return Value();
}

Value Missing(Meter& meter, const Value& value, absl::string_view name) {
  if ((value.Is(Kind::kList) || value.Is(Kind::kDict)) && ChangesItsObject(name)) {
    return MakeUndefined(meter, absl::StrCat("'", name, "' would change a ", TypeName(value),
                                             ", which templates may not"));
  }
  return MakeUndefined(
      meter, absl::StrCat("'", TypeName(value), " object' has no attribute '", name, "'"));
}

}  // namespace

Value MakeUndefined(Meter& meter, absl::string_view why) {
  meter.Work(why.size());
  return Value(Undefined{std::make_shared<const std::string>(why.substr(0, 120))});
}

Value AttributeOf(Meter& meter, const Value& value, absl::string_view name) {
  if (!IsDefined(meter, value)) return Value();
  Value found = OwnAttribute(meter, value, name);
  if (!found.Is(Kind::kUndefined)) return found;
  if (value.Is(Kind::kDict)) {
    meter.Work(value.dict().entries.size());
    if (const Value* entry = value.dict().Find(name)) return *entry;
  }
  return Missing(meter, value, name);
}

Value ItemOf(Meter& meter, const Value& value, const Value& index) {
  if (!IsDefined(meter, value)) return Value();
  if (std::optional<Value> found = ItemAt(meter, value, index)) return *std::move(found);
  if (!index.Is(Kind::kString)) {
    return MakeUndefined(meter, absl::StrCat("'", TypeName(value), " object' has no such element"));
  }
  Value found = OwnAttribute(meter, value, index.bytes());
  return found.Is(Kind::kUndefined) ? Missing(meter, value, index.bytes()) : found;
}

Value PathOf(Meter& meter, const Value& value, const Value& path, const Value& otherwise) {
  const auto found_or_otherwise = [&](Value found) {
    return found.Is(Kind::kUndefined) && !otherwise.Is(Kind::kUndefined) ? otherwise : found;
  };
  if (!path.Is(Kind::kString)) return found_or_otherwise(ItemOf(meter, value, path));
  Value at = value;
  for (const absl::string_view part : absl::StrSplit(path.bytes(), '.')) {
    if (!meter.ok()) return Value();
    int64_t index = 0;
    const bool is_index = !part.empty() && part[0] != '-' && absl::SimpleAtoi(part, &index);
    at = found_or_otherwise(ItemOf(meter, at, is_index ? Value(index) : Value::Text(part)));
  }
  return at;
}

}  // namespace vernier::jinja
