// Jinja's tests, what stands behind `is`: a row each.
#pragma once

#include "absl/strings/string_view.h"
#include "engine/text/jinja/arguments.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

struct TestRow {
  absl::string_view name;
  ParameterNames parameters;
  bool (*holds)(Meter& meter, const Value& value, const Arguments& arguments);
};

// Null when there is none.
const TestRow* FindTest(absl::string_view name);
// False, with the meter failed, when `row` is null or the arguments do not fit.
bool Holds(Meter& meter, const TestRow* row, absl::string_view name, const Value& value,
           Arguments arguments);

}  // namespace vernier::jinja
