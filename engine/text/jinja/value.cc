#include "engine/text/jinja/value.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/meter.h"

namespace vernier::jinja {

using Kind = Value::Kind;

const Value* Dict::Find(absl::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name.Is(Kind::kString) && name.bytes() == key) return &value;
  }
  return nullptr;
}

absl::string_view TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return value.list().is_tuple ? "tuple" : "list";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "namespace";
    case Kind::kLoop:
      return "loop";
    case Kind::kMethod:
      return "method";
    case Kind::kMacro:
      return "macro";
    case Kind::kFunction:
      return "function";
  }
  return "";
}

int DepthOf(const Value& value) {
  switch (value.kind()) {
    case Kind::kList:
      return value.list().depth;
    case Kind::kDict:
      return value.dict().depth;
    case Kind::kLoop:
      return 1 + value.As<std::shared_ptr<Loop>>()->items->depth;
    case Kind::kMethod:
      return value.As<std::shared_ptr<const Method>>()->depth;
    case Kind::kNamespace:
      return kMaxValueDepth;  // it changes: nothing may hold it
    default:
      return 0;
  }
}

bool IsTrue(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.As<bool>();
    case Kind::kInt:
      return value.As<int64_t>() != 0;
    case Kind::kFloat:
      return value.As<double>() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
      return !value.list().items.empty();
    case Kind::kDict:
      return !value.dict().entries.empty();
    case Kind::kLoop:  // Python asks for its length
      return !value.As<std::shared_ptr<Loop>>()->items->items.empty();
    default:
      return true;
  }
}

bool IsNumber(const Value& value) { return IsInt(value) || value.Is(Kind::kFloat); }

int64_t IntOf(const Value& value) {
  return value.Is(Kind::kBool) ? value.As<bool>() : value.As<int64_t>();
}

double FloatOf(const Value& value) {
  return value.Is(Kind::kFloat) ? value.As<double>() : static_cast<double>(IntOf(value));
}

namespace {

bool FitsDepth(Meter& meter, int depth) {
  if (depth <= kMaxValueDepth) return true;
  meter.FailLimit(absl::StrCat("makes a value that holds a namespace or lies more than ",
                               kMaxValueDepth, " levels deep"));
  return false;
}

Value MakeSequence(Meter& meter, std::vector<Value> items, bool is_tuple) {
  int depth = 1;
  for (const Value& item : items) depth = std::max(depth, 1 + DepthOf(item));
  if (!FitsDepth(meter, depth) || !meter.Work(items.size() * sizeof(Value))) return Value();
  return Value(std::make_shared<const List>(List{std::move(items), is_tuple, depth}));
}

}  // namespace

Value MakeList(Meter& meter, std::vector<Value> items) {
  return MakeSequence(meter, std::move(items), false);
}

Value MakeTuple(Meter& meter, std::vector<Value> items) {
  return MakeSequence(meter, std::move(items), true);
}

Value MakeDict(Meter& meter, std::vector<std::pair<Value, Value>> entries) {
  int depth = 1;
  for (const auto& [key, value] : entries) {
    depth = std::max({depth, 1 + DepthOf(key), 1 + DepthOf(value)});
  }
  if (!FitsDepth(meter, depth) || !meter.Work(2 * entries.size() * sizeof(Value))) return Value();
  return Value(std::make_shared<const Dict>(Dict{std::move(entries), depth}));
}

Value MakeMethod(Meter& meter, const Value& self, const MethodRow* row) {
  const int depth = 1 + DepthOf(self);
  if (!FitsDepth(meter, depth)) return Value();
  return Value(std::make_shared<const Method>(Method{self, row, depth}));
}

Value MakeText(Meter& meter, MarkedText text) {
  if (!meter.Work(text.size() + text.content().size() * sizeof(MarkedText::Run))) return Value();
  return Value::Text(std::move(text));
}

}  // namespace vernier::jinja
