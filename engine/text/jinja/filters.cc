#include "engine/text/jinja/filters.h"

#include "absl/strings/str_cat.h"

namespace vernier::jinja {

const FilterRow* FindFilter(absl::string_view name) {
  for (const auto rows : {TextFilters(), SequenceFilters(), NumberFilters()}) {
    for (const FilterRow& row : rows) {
      if (row.name == name) return &row;
    }
  }
  return nullptr;
}

Value Filtered(Meter& meter, const FilterRow* row, absl::string_view name, const Value& value,
               Arguments arguments) {
  if (row == nullptr) {
    return meter.Fail(absl::StrCat("the filter '", name.substr(0, 40), "' is not supported"));
  }
  if (!Bind(meter, name, row->parameters, &arguments)) return Value();
  return row->apply(meter, value, arguments);
}

}  // namespace vernier::jinja
