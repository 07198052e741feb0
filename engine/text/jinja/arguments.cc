#include "engine/text/jinja/arguments.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace vernier::jinja {

bool Bind(Meter& meter, absl::string_view function, ParameterNames names, Arguments* arguments) {
  if (names == "*") return true;
  const std::vector<absl::string_view> declared = absl::StrSplit(names, ' ', absl::SkipEmpty());
  if (arguments->positional.size() > declared.size()) {
    meter.Fail(absl::StrCat(function, " takes at most ", declared.size(), " arguments, has ",
                            arguments->positional.size()));
    return false;
  }
  arguments->positional.resize(declared.size());
  for (auto& [name, value] : arguments->named) {
    const auto at = std::find(declared.begin(), declared.end(), name);
    if (at == declared.end()) {
      meter.Fail(absl::StrCat(function, " has no argument '", name, "'"));
      return false;
    }
    arguments->positional[static_cast<size_t>(at - declared.begin())] = std::move(value);
  }
  arguments->named.clear();
  return true;
}

int64_t IntArgument(Meter& meter, const Value& value, int64_t otherwise) {
  if (value.Is(Value::Kind::kUndefined) || value.Is(Value::Kind::kNone)) return otherwise;
  if (IsInt(value)) return IntOf(value);
  meter.Fail(absl::StrCat("an argument is ", TypeName(value), ", must be int"));
  return otherwise;
}

const MarkedText* TextArgument(Meter& meter, const Value& value) {
  if (value.Is(Value::Kind::kUndefined) || value.Is(Value::Kind::kNone)) return nullptr;
  if (value.Is(Value::Kind::kString)) return &value.text();
  meter.Fail(absl::StrCat("an argument is ", TypeName(value), ", must be str"));
  return nullptr;
}

}  // namespace vernier::jinja
