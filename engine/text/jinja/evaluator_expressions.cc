// The evaluator's expressions and calls.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/access.h"
#include "engine/text/jinja/evaluator.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/functions.h"
#include "engine/text/jinja/methods.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/print.h"
#include "engine/text/jinja/tests.h"

namespace vernier::jinja {

using Kind = Value::Kind;

Value Evaluator::Evaluate(const Expression& expression) {
  const Nested nested(meter_);
  if (!nested.ok() || !meter_.Step(expression.line)) return Value();
  return EvaluateKind(expression);
}

Value Evaluator::EvaluateKind(const Expression& expression) {
  using ExpressionKind = Expression::Kind;
  const auto child = [&](size_t i) { return Evaluate(*expression.children[i]); };
  switch (expression.kind) {
    case ExpressionKind::kConstant:
      return expression.constant;
    case ExpressionKind::kName:
      return Lookup(expression.name);
    case ExpressionKind::kList:
      return MakeList(meter_, EvaluateAll(expression.children));
    case ExpressionKind::kTuple:
      return MakeTuple(meter_, EvaluateAll(expression.children));
    case ExpressionKind::kDict:
      return DictOf(expression);
    case ExpressionKind::kNot:
      return Value(!IsTrue(child(0)));
    case ExpressionKind::kNegative:
      return Negative(meter_, child(0));
    case ExpressionKind::kPositive: {
      const Value value = child(0);
      return IsNumber(value) ? value : meter_.Fail(absl::StrCat("unary + of ", TypeName(value)));
    }
    case ExpressionKind::kArithmetic: {
      const Value left = child(0);
      return Arithmetic(meter_, expression.operators[0], left, child(1));
    }
    case ExpressionKind::kAnd:
    case ExpressionKind::kOr:
      return AndOr(expression);
    case ExpressionKind::kCompare:
      return Comparison(expression);
    case ExpressionKind::kConcat:
      return Concatenation(expression);
    case ExpressionKind::kConditional:
      return Conditional(expression);
    case ExpressionKind::kAttribute:
      return AttributeOf(meter_, child(0), expression.name);
    case ExpressionKind::kSubscript: {
      const Value value = child(0);
      return ItemOf(meter_, value, child(1));
    }
    case ExpressionKind::kSlice:
      return Slice(expression);
    case ExpressionKind::kCall:
      return Call(expression, nullptr);
    case ExpressionKind::kFilter:
      return Filter(expression, nullptr);
    case ExpressionKind::kTest: {
      const Value value = child(0);
      return Value(
          Holds(meter_, expression.test, expression.name, value, EvaluateArguments(expression)));
    }
  }
  return Value();
}

std::vector<Value> Evaluator::EvaluateAll(const std::vector<ExpressionPtr>& expressions) {
  std::vector<Value> values;
  values.reserve(expressions.size());
  for (const auto& one : expressions) values.push_back(Evaluate(*one));
  return values;
}

Value Evaluator::Lookup(const std::string& name) {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    if (const auto found = scope->names.find(name); found != scope->names.end()) {
      return found->second;
    }
  }
  return MakeUndefined(meter_, absl::StrCat("'", name, "' is undefined"));
}

Value Evaluator::DictOf(const Expression& expression) {
  std::vector<std::pair<Value, Value>> entries;
  for (size_t i = 0; i + 1 < expression.children.size(); i += 2) {
    Value key = Evaluate(*expression.children[i]);
    Value value = Evaluate(*expression.children[i + 1]);
    if (!meter_.ok()) return Value();
    SetEntry(meter_, std::move(key), std::move(value), &entries);
  }
  return MakeDict(meter_, std::move(entries));
}

Value Evaluator::AndOr(const Expression& expression) {
  const bool ends = expression.kind == Expression::Kind::kOr;  // the truth that decides
  Value value;
  for (const auto& child : expression.children) {
    value = Evaluate(*child);
    if (!meter_.ok() || IsTrue(value) == ends) break;
  }
  return value;
}

Value Evaluator::Comparison(const Expression& expression) {
  Value left = Evaluate(*expression.children[0]);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = Evaluate(*expression.children[i + 1]);
    if (!meter_.ok() || !Compare(meter_, expression.operators[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Evaluator::Concatenation(const Expression& expression) {
  MarkedText text;
  for (const auto& child : expression.children) {
    const String part = ToText(meter_, Evaluate(*child));
    if (!meter_.Work(part->size() + part->content().size() * sizeof(MarkedText::Run))) {
      return Value();
    }
    text.Append(*part);
  }
  return Value::Text(std::move(text));
}

Value Evaluator::Conditional(const Expression& expression) {
  if (IsTrue(Evaluate(*expression.children[1]))) return Evaluate(*expression.children[0]);
  if (expression.children.size() > 2) return Evaluate(*expression.children[2]);
  return MakeUndefined(meter_, "an inline if without else was false");
}

Value Evaluator::Slice(const Expression& expression) {
  Value parts[4];  // the value, begin, end, step
  for (size_t i = 0; i < 4; ++i) {
    if (expression.children[i] != nullptr) parts[i] = Evaluate(*expression.children[i]);
  }
  return meter_.ok() ? SliceOf(meter_, parts[0], parts[1], parts[2], parts[3]) : Value();
}

Value Evaluator::Filter(const Expression& expression, const Value* block) {
  const Expression* inner = expression.children[0].get();
  Value value;
  if (inner == nullptr) {
    value = *block;
  } else if (block != nullptr) {
    value = Filter(*inner, block);
  } else {
    value = Evaluate(*inner);
  }
  Arguments arguments = EvaluateArguments(expression);
  if (!meter_.ok()) return Value();
  return Filtered(meter_, expression.filter, expression.name, value, std::move(arguments));
}

Arguments Evaluator::EvaluateArguments(const Expression& expression) {
  Arguments arguments;
  for (const Argument& one : expression.arguments) {
    Value value = Evaluate(*one.value);
    switch (one.kind) {
      case Argument::Kind::kPositional:
        arguments.positional.push_back(std::move(value));
        break;
      case Argument::Kind::kNamed:
        arguments.named.emplace_back(one.name, std::move(value));
        break;
      case Argument::Kind::kItems:
        for (Value& item : ItemsOf(meter_, value)) arguments.positional.push_back(std::move(item));
        break;
      case Argument::Kind::kEntries:
        UnpackEntries(value, &arguments);
        break;
    }
  }
  return arguments;
}

void Evaluator::UnpackEntries(const Value& value, Arguments* arguments) {
  if (!value.Is(Kind::kDict)) {
    meter_.Fail(absl::StrCat("** wants a mapping, found ", TypeName(value)));
    return;
  }
  for (const auto& [name, held] : value.dict().entries) {
    if (!name.Is(Kind::kString)) {
      meter_.Fail("** wants names that are strings");
      return;
    }
    if (!meter_.Work(name.text().size() + sizeof(Value))) return;
    arguments->named.emplace_back(name.bytes(), held);
  }
}

Value Evaluator::Call(const Expression& expression, const Value* caller) {
  const Value callee = Evaluate(*expression.children[0]);
  Arguments arguments = EvaluateArguments(expression);
  if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
  if (!meter_.ok() || !IsDefined(meter_, callee)) return Value();
  switch (callee.kind()) {
    case Kind::kMethod: {
      const Method& method = *callee.As<std::shared_ptr<const Method>>();
      if (!Bind(meter_, method.row->name, method.row->parameters, &arguments)) return Value();
      return method.row->call(meter_, method.self, arguments);
    }
    case Kind::kMacro:
      return CallMacro(callee.As<Macro>(), std::move(arguments));
    case Kind::kFunction:
      return CallFunction(meter_, callee.As<Function>(), std::move(arguments));
    default:
      return meter_.Fail(absl::StrCat("'", TypeName(callee), "' object is not callable"));
  }
}

Value Evaluator::CallMacro(const Macro& macro, Arguments arguments) {
  const Nested nested(meter_);
  if (!nested.ok()) return Value();
  MarkedText text;
  MarkedText* const out = std::exchange(out_, &text);
  {
    const Inside inside(*this, macro.scope);
    BindParameters(*macro.definition, std::move(arguments));
    if (meter_.ok()) Execute(macro.definition->bodies[0]);
  }
  out_ = out;
  return Value::Text(std::move(text));
}

// Gives the macro's parameters their values, in the present scope.
void Evaluator::BindParameters(const Statement& definition, Arguments arguments) {
  const auto& parameters = definition.parameters;
  auto& names = scope_->names;
  std::vector<Value> more;
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    if (i < parameters.size()) {
      names[parameters[i].name] = std::move(arguments.positional[i]);
    } else {
      more.push_back(std::move(arguments.positional[i]));
    }
  }
  std::vector<std::pair<Value, Value>> named;
  for (auto& [name, value] : arguments.named) {
    const bool declared = name == "caller" || std::any_of(parameters.begin(), parameters.end(),
                                                          [&wanted = name](const Parameter& one) {
                                                            return one.name == wanted;
                                                          });
    if (declared) {
      names[name] = std::move(value);
    } else {
      named.emplace_back(Value::Text(name), std::move(value));
    }
  }
  if (!definition.takes_more && (!more.empty() || !named.empty())) {
    meter_.Fail(absl::StrCat("macro '", definition.name, "' takes ", parameters.size(),
                             " arguments, was given others"));
    return;
  }
  if (definition.takes_more) {
    names["varargs"] = MakeTuple(meter_, std::move(more));
    names["kwargs"] = MakeDict(meter_, std::move(named));
  }
  for (const Parameter& one : parameters) {
    if (names.contains(one.name)) continue;
    Value value =
        one.otherwise == nullptr
            ? MakeUndefined(meter_, absl::StrCat("parameter '", one.name, "' was not provided"))
            : Evaluate(*one.otherwise);
    names[one.name] = std::move(value);
  }
}

}  // namespace vernier::jinja
