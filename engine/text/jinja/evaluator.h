// Walks a template's tree and writes its text.
//
// One object a render, used by one thread. Recursion is bounded by the meter's depth.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/text/jinja/arguments.h"
#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/meter.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

// Names of the template, a loop pass or a macro call; those of `parent` are seen through it.
struct Scope {
  Scope* parent = nullptr;
  absl::flat_hash_map<std::string, Value> names;
  bool kept = false;  // a macro refers to it: it lives as long as the render
};

class Evaluator {
 public:
  Evaluator(Meter& meter, std::vector<std::pair<std::string, Value>> variables);

  // The text up to the meter's first failure, if any.
  MarkedText Run(const Body& body);

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  // A scope inside the present one while it lives.
  class Inside {
   public:
    Inside(Evaluator& evaluator, Scope* parent);
    ~Inside();
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    Evaluator& evaluator_;
    Scope* const before_;
    std::unique_ptr<Scope> scope_;
  };

  Flow Execute(const Body& body);
  Flow Execute(const Statement& statement);
  Flow If(const Statement& statement);
  Flow For(const Statement& statement);
  Flow With(const Statement& statement);
  void CallBlock(const Statement& statement);
  // What a body writes, in a scope of its own.
  Value Captured(const Body& body);
  // What a loop walks over, without what its condition leaves out.
  std::shared_ptr<const List> ForItems(const Statement& statement);
  void Assign(const Expression& target, const Value& value);
  void AssignAttribute(const Expression& target, const Value& value);
  void Write(const MarkedText& text);
  Value MacroHere(const Statement& definition);

  Value Evaluate(const Expression& expression);
  Value EvaluateKind(const Expression& expression);
  std::vector<Value> EvaluateAll(const std::vector<ExpressionPtr>& expressions);
  Value Lookup(const std::string& name);
  Value DictOf(const Expression& expression);
  Value AndOr(const Expression& expression);
  Value Comparison(const Expression& expression);
  Value Concatenation(const Expression& expression);
  Value Conditional(const Expression& expression);
  Value Slice(const Expression& expression);
  // A chain of filters, `block` in the place of the innermost's missing value.
  Value Filter(const Expression& expression, const Value* block);
  Value Call(const Expression& expression, const Value* caller);
  Arguments EvaluateArguments(const Expression& expression);
  void UnpackEntries(const Value& value, Arguments* arguments);
  Value CallMacro(const Macro& macro, Arguments arguments);
  void BindParameters(const Statement& definition, Arguments arguments);

  Meter& meter_;
  std::vector<std::unique_ptr<Scope>> kept_;
  Scope root_;
  Scope* scope_ = &root_;
  MarkedText text_;
  MarkedText* out_ = &text_;
};

}  // namespace vernier::jinja
