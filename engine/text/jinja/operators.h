// Python's operators on values. Every failure is the meter's, and the result then undefined.
#pragma once

#include <optional>

#include "engine/text/jinja/meter.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

// The first seven.
Value Arithmetic(Meter& meter, Operator op, const Value& a, const Value& b);
// The others.
bool Compare(Meter& meter, Operator op, const Value& a, const Value& b);
Value Negative(Meter& meter, const Value& value);

bool Equal(Meter& meter, const Value& a, const Value& b);
// a < b; fails for types without an order.
bool Less(Meter& meter, const Value& a, const Value& b);
bool Contains(Meter& meter, const Value& all, const Value& item);

// Every item, key or character in order; nothing of undefined. Fails for what has no items.
std::vector<Value> ItemsOf(Meter& meter, const Value& value);
// The same as a list, without a copy where it is one.
std::shared_ptr<const List> ListOf(Meter& meter, const Value& value);
// len(). Fails for what has none.
int64_t LengthOf(Meter& meter, const Value& value);

// value[index] for positions and keys; absent when there is none.
std::optional<Value> ItemAt(Meter& meter, const Value& value, const Value& index);
// value[begin:end:step]; none or undefined: left out.
Value SliceOf(Meter& meter, const Value& value, const Value& begin, const Value& end,
              const Value& step);

// Fails, as Python does, when `value` is undefined and must not be. True: go on.
bool IsDefined(Meter& meter, const Value& value);

}  // namespace vernier::jinja
