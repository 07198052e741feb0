// The values of a template: Python's, as far as templates use them.
//
// Strings, lists and mappings never change once made (Jinja's immutable sandbox), so a value holds
// nothing that holds it back; a namespace, which does change, may not lie in a list or mapping.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/text/jinja/marked_text.h"

namespace vernier::jinja {

class Meter;
struct Scope;
struct Statement;
struct MethodRow;

class Value;
struct List;
struct Dict;
struct Namespace;
struct Loop;
struct Method;

// What a name, key or index that is not there gives. Empty text, false, no items; anything else is
// an error that says `what`.
struct Undefined {
  std::shared_ptr<const std::string> what;  // null: just "undefined"
};
struct None {};
// A macro and the scope in which it was defined, which the render keeps.
struct Macro {
  const Statement* definition = nullptr;
  Scope* scope = nullptr;
};
enum class Function : uint8_t { kRange, kDict, kNamespace, kRaiseException, kStrftimeNow };

using String = std::shared_ptr<const MarkedText>;

class Value {
 public:
  // In the order of `Data`.
  enum class Kind : uint8_t {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kDict,
    kNamespace,
    kLoop,
    kMethod,
    kMacro,
    kFunction
  };
  using Data =
      std::variant<Undefined, None, bool, int64_t, double, String, std::shared_ptr<const List>,
                   std::shared_ptr<const Dict>, std::shared_ptr<Namespace>, std::shared_ptr<Loop>,
                   std::shared_ptr<const Method>, Macro, Function>;

  Value() = default;
  template <typename T>
  explicit Value(T data) : data_(std::move(data)) {}
  static Value Text(MarkedText text) {
    return Value(String(std::make_shared<const MarkedText>(std::move(text))));
  }
  static Value Text(absl::string_view text) { return Text(MarkedText(text)); }

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool Is(Kind kind) const { return this->kind() == kind; }
  // REQUIRES: the value is of that kind.
  template <typename T>
  const T& As() const {
    return std::get<T>(data_);
  }
  const MarkedText& text() const { return *As<String>(); }
  const std::string& bytes() const { return text().bytes(); }
  const List& list() const { return *As<std::shared_ptr<const List>>(); }
  const Dict& dict() const { return *As<std::shared_ptr<const Dict>>(); }

 private:
  Data data_;
};

struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  int depth = 1;  // 1 + that of the deepest item
};

// In the order of insertion.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;

  // Null when there is no such key. Looks at every entry.
  const Value* Find(absl::string_view key) const;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
};

// A for loop's `loop`: `items` and the place in it.
struct Loop {
  std::shared_ptr<const List> items;
  size_t index = 0;
};

// A method that is bound to its object: `text.strip` before the call.
struct Method {
  Value self;
  const MethodRow* row = nullptr;
  int depth = 1;
};

// Python's name of the type, for messages.
absl::string_view TypeName(const Value& value);
// How deep values lie in each other; 0 for what holds none. Constant time.
int DepthOf(const Value& value);
bool IsTrue(const Value& value);
// bool, int and float, as Python counts them.
bool IsNumber(const Value& value);
// Of a bool or an int. REQUIRES: one of them.
int64_t IntOf(const Value& value);
// REQUIRES: IsNumber.
double FloatOf(const Value& value);
inline bool IsInt(const Value& value) {
  return value.Is(Value::Kind::kInt) || value.Is(Value::Kind::kBool);
}

// Lists and mappings of these. Undefined, with the meter failed, when they would lie too deep.
Value MakeList(Meter& meter, std::vector<Value> items);
Value MakeTuple(Meter& meter, std::vector<Value> items);
Value MakeDict(Meter& meter, std::vector<std::pair<Value, Value>> entries);
Value MakeMethod(Meter& meter, const Value& self, const MethodRow* row);
// Text that the render made: charged to the meter.
Value MakeText(Meter& meter, MarkedText text);

}  // namespace vernier::jinja
