// The functions that every template has: range, dict, namespace, raise_exception, strftime_now.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/text/jinja/arguments.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

std::span<const std::pair<absl::string_view, Function>> GlobalFunctions();

Value CallFunction(Meter& meter, Function function, Arguments arguments);

// Adds or replaces a mapping's entry; fails for a key that cannot be one.
void SetEntry(Meter& meter, Value key, Value value, std::vector<std::pair<Value, Value>>* entries);

}  // namespace vernier::jinja
