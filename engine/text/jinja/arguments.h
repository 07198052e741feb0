// What a call passes, and how it is matched with the names that a function declares.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/text/jinja/meter.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Parameter names, separated by spaces: "width first blank". "*": as many as one likes, the
// function reads them itself.
using ParameterNames = absl::string_view;

// One value a parameter, undefined where the call has none, behind each other in `positional`.
// Fails for too many arguments and unknown names; `function` is for the message.
bool Bind(Meter& meter, absl::string_view function, ParameterNames names, Arguments* arguments);

// Readers of bound values: `otherwise` where undefined; fail for another type.
int64_t IntArgument(Meter& meter, const Value& value, int64_t otherwise);
// Null where undefined or none.
const MarkedText* TextArgument(Meter& meter, const Value& value);

}  // namespace vernier::jinja
