// Jinja's filters, what stands behind `|`: a row each.
//
// `safe`, `string` and `escape` give plain strings: nothing is escaped by itself, as transformers
// sets it. `tojson` is transformers', which is json.dumps.
#pragma once

#include <span>

#include "absl/strings/string_view.h"
#include "engine/text/jinja/arguments.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

struct FilterRow {
  absl::string_view name;
  ParameterNames parameters;
  // `arguments` as Bind leaves them.
  Value (*apply)(Meter& meter, const Value& value, const Arguments& arguments);
};

// Null when there is none.
const FilterRow* FindFilter(absl::string_view name);
// Undefined, with the meter failed, when `row` is null or the arguments do not fit.
Value Filtered(Meter& meter, const FilterRow* row, absl::string_view name, const Value& value,
               Arguments arguments);

// The rows of the three files of filters.
std::span<const FilterRow> TextFilters();
std::span<const FilterRow> SequenceFilters();
std::span<const FilterRow> NumberFilters();

}  // namespace vernier::jinja
