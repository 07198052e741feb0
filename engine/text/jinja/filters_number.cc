// Filters that make numbers of a value, and those that only choose.
#include <charconv>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/text/jinja/access.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/operators.h"

namespace vernier::jinja {
namespace {

using Kind = Value::Kind;

Value Default(Meter&, const Value& value, const Arguments& arguments) {
  const bool by_truth = IsTrue(arguments.positional[1]);
  if (by_truth ? IsTrue(value) : !value.Is(Kind::kUndefined)) return value;
  const Value& otherwise = arguments.positional[0];
  return otherwise.Is(Kind::kUndefined) ? Value::Text("") : otherwise;
}

Value Length(Meter& meter, const Value& value, const Arguments&) {
  return Value(LengthOf(meter, value));
}

// A double that an int64 holds, cut towards zero.
std::optional<int64_t> Cut(double value) {
  if (!(std::abs(value) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::optional<double> ReadFloat(const std::string& bytes) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(bytes);
  double value = 0;
  // Python reads no hexadecimal floats.
  if (trimmed.size() > 400 || trimmed.find_first_of("xX") != absl::string_view::npos) {
    return std::nullopt;
  }
  return absl::SimpleAtod(trimmed, &value) ? std::make_optional(value) : std::nullopt;
}

std::optional<int64_t> ReadInt(absl::string_view text, int64_t base) {
  text = absl::StripAsciiWhitespace(text);
  bool negative = false;
  if (absl::ConsumePrefix(&text, "-")) {
    negative = true;
  } else {
    absl::ConsumePrefix(&text, "+");
  }
  if (base == 16 && (absl::StartsWith(text, "0x") || absl::StartsWith(text, "0X"))) {
    text.remove_prefix(2);
  }
  int64_t value = 0;
  const auto end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, value, static_cast<int>(base));
  if (text.empty() || text[0] == '-' || read.ec != std::errc() || read.ptr != end) {
    return std::nullopt;
  }
  return negative ? -value : value;
}

Value Int(Meter& meter, const Value& value, const Arguments& arguments) {
  const Value otherwise =
      arguments.positional[0].Is(Kind::kUndefined) ? Value(int64_t{0}) : arguments.positional[0];
  const int64_t base = IntArgument(meter, arguments.positional[1], 10);
  if (base < 2 || base > 36) return meter.Fail("the base of int must be 2 to 36");
  if (IsInt(value)) return Value(IntOf(value));
  std::optional<int64_t> found;
  if (value.Is(Kind::kFloat)) found = Cut(value.As<double>());
  if (value.Is(Kind::kString)) {
    found = ReadInt(value.bytes(), base);
    const std::optional<double> real = found ? std::nullopt : ReadFloat(value.bytes());
    if (real) found = Cut(*real);
  }
  return found ? Value(*found) : otherwise;
}

Value Float(Meter&, const Value& value, const Arguments& arguments) {
  if (IsNumber(value)) return Value(FloatOf(value));
  if (value.Is(Kind::kString)) {
    if (const std::optional<double> found = ReadFloat(value.bytes())) return Value(*found);
  }
  const Value& otherwise = arguments.positional[0];
  return otherwise.Is(Kind::kUndefined) ? Value(0.0) : otherwise;
}

Value Abs(Meter& meter, const Value& value, const Arguments&) {
  if (!IsNumber(value)) return meter.Fail(absl::StrCat("abs of ", TypeName(value)));
  if (FloatOf(value) >= 0) return value.Is(Kind::kBool) ? Value(IntOf(value)) : value;
  return Negative(meter, value);
}

// Python's round: halves to even; floor and ceil by name.
Value Round(Meter& meter, const Value& value, const Arguments& arguments) {
  if (!IsNumber(value)) return meter.Fail(absl::StrCat("round of ", TypeName(value)));
  const int64_t precision = IntArgument(meter, arguments.positional[0], 0);
  const MarkedText* method = TextArgument(meter, arguments.positional[1]);
  const absl::string_view how = method == nullptr ? "common" : absl::string_view(method->bytes());
  if (precision < -300 || precision > 300) return meter.Fail("round to more than 300 digits");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = FloatOf(value) * scale;
  if (how == "floor") return Value(std::floor(scaled) / scale);
  if (how == "ceil") return Value(std::ceil(scaled) / scale);
  if (how != "common") return meter.Fail("method must be common, ceil or floor");
  if (IsInt(value) && precision >= 0) return Value(IntOf(value));
  if (!std::isfinite(scaled)) return value;
  return Value(std::nearbyint(scaled) / scale);
}

Value Attr(Meter& meter, const Value& value, const Arguments& arguments) {
  const MarkedText* name = TextArgument(meter, arguments.positional[0]);
  if (name == nullptr) return meter.Fail("attr wants a name");
  if (value.Is(Kind::kDict)) return MakeUndefined(meter, "attr does not read keys");
  return AttributeOf(meter, value, name->bytes());
}

constexpr FilterRow kNumberFilters[] = {
    {"default", "default_value boolean", Default},
    {"d", "default_value boolean", Default},
    {"length", "", Length},
    {"count", "", Length},
    {"int", "default base", Int},
    {"float", "default", Float},
    {"abs", "", Abs},
    {"round", "precision method", Round},
    {"attr", "name", Attr},
};

}  // namespace

std::span<const FilterRow> NumberFilters() { return kNumberFilters; }

}  // namespace vernier::jinja
