// Methods of strings, mappings, lists and loops: a row each. What would change its object is not
// among them.
#pragma once

#include "absl/strings/string_view.h"
#include "engine/text/jinja/arguments.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

struct MethodRow {
  Value::Kind of;
  absl::string_view name;
  ParameterNames parameters;
  // `arguments` as Bind leaves them. REQUIRES: self is of kind `of`.
  Value (*call)(Meter& meter, const Value& self, const Arguments& arguments);
};

// Null when there is none.
const MethodRow* FindMethod(Value::Kind of, absl::string_view name);

}  // namespace vernier::jinja
