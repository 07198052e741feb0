// What value.name and value[index] find, in the order in which Jinja looks.
#pragma once

#include "absl/strings/string_view.h"
#include "engine/text/jinja/meter.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

// An undefined value that says why when it is used.
Value MakeUndefined(Meter& meter, absl::string_view why);

// value.name: methods before keys. Undefined where there is none; fails of an undefined value.
Value AttributeOf(Meter& meter, const Value& value, absl::string_view name);
// value[index]: keys and positions before methods.
Value ItemOf(Meter& meter, const Value& value, const Value& index);
// "function.name" or "0": ItemOf, step by step, `otherwise` in the place of what is undefined. Of
// filters' `attribute`; a number is a position.
Value PathOf(Meter& meter, const Value& value, const Value& path, const Value& otherwise = Value());

}  // namespace vernier::jinja
