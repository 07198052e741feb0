// Values as text: str(), repr() and JSON, as Python writes them.
#pragma once

#include <string>

#include "engine/text/jinja/meter.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

// str(): a string is itself (no copy), the rest as Python prints it; undefined is "".
String ToText(Meter& meter, const Value& value);
// repr(), as within printed lists.
MarkedText Repr(Meter& meter, const Value& value);
// repr of a float: the shortest digits that read back as the same value.
std::string FloatText(double value);

struct JsonStyle {
  Value indent;      // none: one line; a number of spaces, or a string
  Value separators;  // none, or the two strings between items and behind keys
  bool sort_keys = false;
  bool ascii = false;
};
// json.dumps. Fails for what JSON does not have.
MarkedText ToJson(Meter& meter, const Value& value, const JsonStyle& style);

}  // namespace vernier::jinja
