// Filters over lists, mappings and what else has items.
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/text/jinja/access.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/print.h"
#include "engine/text/jinja/tests.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

Value AnyCase(Meter& meter, const Value& value) {
  return value.Is(Kind::kString) ? MakeText(meter, ToCase(value.text(), Case::kLower)) : value;
}

// What an item is compared by: an attribute of it, and letters as lower case ones unless asked.
struct Key {
  Value attribute;
  bool ignores_case = true;

  Value Of(Meter& meter, const Value& item) const {
    const bool whole = attribute.Is(Kind::kUndefined) || attribute.Is(Kind::kNone);
    const Value value = whole ? item : PathOf(meter, item, attribute);
    return ignores_case ? AnyCase(meter, value) : value;
  }
};

// Of sort, where "age,name" compares by one and then by the other.
std::vector<Value> SortKeysOf(Meter& meter, const std::vector<Value>& items, const Key& key) {
  std::vector<Key> parts = {key};
  if (key.attribute.Is(Kind::kString)) {
    parts.clear();
    for (const absl::string_view part : absl::StrSplit(key.attribute.bytes(), ',')) {
      parts.push_back({Value::Text(part), key.ignores_case});
    }
  }
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> values;
    for (const Key& part : parts) {
      if (!meter.ok()) return std::vector<Value>(items.size());
      values.push_back(part.Of(meter, item));
    }
    keys.push_back(MakeTuple(meter, std::move(values)));
  }
  return keys;
}

std::vector<Value> KeysOf(Meter& meter, const std::vector<Value>& items, const Key& key) {
  std::vector<Value> keys;
  keys.reserve(items.size());
  for (const Value& item : items) {
    if (!meter.ok()) break;
    keys.push_back(key.Of(meter, item));
  }
  keys.resize(items.size());
  return keys;
}

// Positions in the order of their keys, equal ones as they came. Merges by itself: std::sort may
// not be given an order that fails half way.
std::vector<size_t> SortedPositions(Meter& meter, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(keys.size()), scratch(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (size_t width = 1; width < order.size() && meter.ok(); width *= 2) {
    for (size_t begin = 0; begin < order.size(); begin += 2 * width) {
      size_t left = begin, right = std::min(begin + width, order.size());
      const size_t middle = right, end = std::min(begin + 2 * width, order.size());
      for (size_t out = begin; out < end; ++out) {
        const bool take_right =
            right < end &&
            (left == middle || (reverse ? Less(meter, keys[order[left]], keys[order[right]])
                                        : Less(meter, keys[order[right]], keys[order[left]])));
        scratch[out] = take_right ? order[right++] : order[left++];
      }
    }
    order.swap(scratch);
  }
  return order;
}

std::vector<Value> Sorted(Meter& meter, const std::vector<Value>& items, const Key& key,
                          bool reverse) {
  const std::vector<Value> keys = SortKeysOf(meter, items, key);
  if (!meter.ok()) return {};
  std::vector<Value> sorted;
  for (const size_t i : SortedPositions(meter, keys, reverse)) sorted.push_back(items[i]);
  return sorted;
}

Value ListFilter(Meter& meter, const Value& value, const Arguments&) {
  return MakeList(meter, ItemsOf(meter, value));
}

template <bool last>
Value End(Meter& meter, const Value& value, const Arguments&) {
  if (value.Is(Kind::kString) && !value.text().empty()) {
    return *ItemAt(meter, value, Value(int64_t{last ? -1 : 0}));
  }
  const auto list = ListOf(meter, value);
  if (list->items.empty()) return MakeUndefined(meter, "the sequence is empty");
  return last ? list->items.back() : list->items.front();
}

Value Join(Meter& meter, const Value& value, const Arguments& arguments) {
  const String between = ToText(meter, arguments.positional[0]);
  const Key key{arguments.positional[1], false};
  const auto list = ListOf(meter, value);
  MarkedText out;
  for (size_t i = 0; i < list->items.size(); ++i) {
    const String item = ToText(meter, key.Of(meter, list->items[i]));
    if (!meter.Work(between->size() + item->size() + 1)) return Value();
    if (i > 0) out.Append(*between);
    out.Append(*item);
  }
  return Value::Text(std::move(out));
}

Value Reverse(Meter& meter, const Value& value, const Arguments&) {
  if (value.Is(Kind::kString)) {
    if (!meter.Work(value.text().size() * sizeof(size_t))) return Value();
    return MakeText(meter, Reversed(value.text()));
  }
  std::vector<Value> items = ItemsOf(meter, value);
  std::reverse(items.begin(), items.end());
  return MakeList(meter, std::move(items));
}

Value Sort(Meter& meter, const Value& value, const Arguments& arguments) {
  const Key key{arguments.positional[2], !IsTrue(arguments.positional[1])};
  const auto list = ListOf(meter, value);
  return MakeList(meter, Sorted(meter, list->items, key, IsTrue(arguments.positional[0])));
}

Value DictSort(Meter& meter, const Value& value, const Arguments& arguments) {
  if (!value.Is(Kind::kDict)) return meter.Fail(absl::StrCat("dictsort of ", TypeName(value)));
  const MarkedText* by = TextArgument(meter, arguments.positional[1]);
  const bool by_value = by != nullptr && by->bytes() == "value";
  std::vector<Value> pairs;
  for (const auto& [name, held] : value.dict().entries) {
    pairs.push_back(MakeTuple(meter, {name, held}));
  }
  const Key key{Value(int64_t{by_value ? 1 : 0}), !IsTrue(arguments.positional[0])};
  if (!meter.ok()) return Value();
  return MakeList(meter, Sorted(meter, pairs, key, IsTrue(arguments.positional[2])));
}

Value Items(Meter& meter, const Value& value, const Arguments&) {
  if (value.Is(Kind::kUndefined)) return MakeList(meter, {});
  if (!value.Is(Kind::kDict)) return meter.Fail("Can only get item pairs from a mapping.");
  std::vector<Value> pairs;
  for (const auto& [name, held] : value.dict().entries) {
    pairs.push_back(MakeTuple(meter, {name, held}));
  }
  return MakeList(meter, std::move(pairs));
}

Value Unique(Meter& meter, const Value& value, const Arguments& arguments) {
  const Key key{arguments.positional[1], !IsTrue(arguments.positional[0])};
  const auto list = ListOf(meter, value);
  std::vector<Value> kept, keys;
  for (const Value& item : list->items) {
    Value own = key.Of(meter, item);
    const bool seen = std::any_of(keys.begin(), keys.end(), [&](const Value& other) {
      return meter.ok() && Equal(meter, own, other);
    });
    if (!meter.ok()) return Value();
    if (seen) continue;
    keys.push_back(std::move(own));
    kept.push_back(item);
  }
  return MakeList(meter, std::move(kept));
}

template <bool most>
Value Extreme(Meter& meter, const Value& value, const Arguments& arguments) {
  const Key key{arguments.positional[1], !IsTrue(arguments.positional[0])};
  const auto list = ListOf(meter, value);
  if (list->items.empty()) return MakeUndefined(meter, "the sequence is empty");
  const std::vector<Value> keys = KeysOf(meter, list->items, key);
  size_t best = 0;
  for (size_t i = 1; i < keys.size() && meter.ok(); ++i) {
    if (most ? Less(meter, keys[best], keys[i]) : Less(meter, keys[i], keys[best])) best = i;
  }
  return list->items[best];
}

Value Sum(Meter& meter, const Value& value, const Arguments& arguments) {
  const Key key{arguments.positional[0], false};
  Value sum =
      arguments.positional[1].Is(Kind::kUndefined) ? Value(int64_t{0}) : arguments.positional[1];
  const auto list = ListOf(meter, value);
  for (const Value& item : list->items) {
    if (!meter.ok()) return Value();
    sum = Arithmetic(meter, Operator::kAdd, sum, key.Of(meter, item));
  }
  return sum;
}

// map(attribute=...), or the name of a filter and its arguments.
Value Map(Meter& meter, const Value& value, const Arguments& arguments) {
  const auto list = ListOf(meter, value);
  std::vector<Value> out;
  if (arguments.positional.empty()) {
    Value attribute, otherwise;
    for (const auto& [name, given] : arguments.named) {
      if (name == "attribute") attribute = given;
      if (name == "default") otherwise = given;
    }
    if (attribute.Is(Kind::kUndefined)) return meter.Fail("map requires a filter argument");
    for (const Value& item : list->items) {
      if (!meter.ok()) return Value();
      out.push_back(PathOf(meter, item, attribute, otherwise));
    }
    return MakeList(meter, std::move(out));
  }
  const Value& name = arguments.positional[0];
  if (!name.Is(Kind::kString)) return meter.Fail("map wants the name of a filter");
  const FilterRow* row = FindFilter(name.bytes());
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  const Nested nested(meter);  // a filter of map may be map
  if (!nested.ok()) return Value();
  for (const Value& item : list->items) {
    if (!meter.ok()) return Value();
    out.push_back(Filtered(meter, row, name.bytes(), item, rest));
  }
  return MakeList(meter, std::move(out));
}

enum class Keep : uint8_t { kHolding, kNotHolding };
enum class Of : uint8_t { kItem, kAttribute };

// The items that pass a test (by name, with its arguments), or that are true.
template <Of of, Keep keep>
Value Select(Meter& meter, const Value& value, const Arguments& arguments) {
  Arguments rest = arguments;
  Key key{Value(), false};
  if (of == Of::kAttribute) {
    if (rest.positional.empty()) return meter.Fail("selectattr wants an attribute");
    key.attribute = rest.positional[0];
    rest.positional.erase(rest.positional.begin());
  }
  std::string name;
  if (!rest.positional.empty()) {
    if (!rest.positional[0].Is(Kind::kString)) return meter.Fail("select wants a test's name");
    name = rest.positional[0].bytes();
    rest.positional.erase(rest.positional.begin());
  }
  const TestRow* test = FindTest(name);
  const auto list = ListOf(meter, value);
  std::vector<Value> kept;
  for (const Value& item : list->items) {
    const Value own = key.Of(meter, item);
    const bool holds = name.empty() ? IsTrue(own) : Holds(meter, test, name, own, rest);
    if (!meter.ok()) return Value();
    if (holds == (keep == Keep::kHolding)) kept.push_back(item);
  }
  return MakeList(meter, std::move(kept));
}

// Lists of `linecount` items, the last one shorter or filled.
Value Batch(Meter& meter, const Value& value, const Arguments& arguments) {
  const int64_t size = IntArgument(meter, arguments.positional[0], 0);
  if (size < 1) return meter.Fail("batch wants a positive size");
  const auto list = ListOf(meter, value);
  std::vector<Value> batches, batch;
  for (const Value& item : list->items) {
    batch.push_back(item);
    if (static_cast<int64_t>(batch.size()) < size) continue;
    batches.push_back(MakeList(meter, std::move(batch)));
    batch.clear();
  }
  if (batch.empty()) return MakeList(meter, std::move(batches));
  const Value& fill = arguments.positional[1];
  if (!fill.Is(Kind::kUndefined) && !fill.Is(Kind::kNone)) {
    if (!meter.Work(static_cast<size_t>(std::min<int64_t>(size, 1 << 30)) * sizeof(Value))) {
      return Value();
    }
    batch.resize(static_cast<size_t>(size), fill);
  }
  batches.push_back(MakeList(meter, std::move(batch)));
  return MakeList(meter, std::move(batches));
}

constexpr FilterRow kSequenceFilters[] = {
    {"list", "", ListFilter},
    {"first", "", End<false>},
    {"last", "", End<true>},
    {"join", "d attribute", Join},
    {"reverse", "", Reverse},
    {"sort", "reverse case_sensitive attribute", Sort},
    {"dictsort", "case_sensitive by reverse", DictSort},
    {"items", "", Items},
    {"unique", "case_sensitive attribute", Unique},
    {"min", "case_sensitive attribute", Extreme<false>},
    {"max", "case_sensitive attribute", Extreme<true>},
    {"sum", "attribute start", Sum},
    {"map", "*", Map},
    {"select", "*", Select<Of::kItem, Keep::kHolding>},
    {"reject", "*", Select<Of::kItem, Keep::kNotHolding>},
    {"selectattr", "*", Select<Of::kAttribute, Keep::kHolding>},
    {"rejectattr", "*", Select<Of::kAttribute, Keep::kNotHolding>},
    {"batch", "linecount fill_with", Batch},
};

}  // namespace

std::span<const FilterRow> SequenceFilters() { return kSequenceFilters; }

}  // namespace vernier::jinja
