#include "engine/text/jinja/evaluator.h"

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/functions.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/print.h"

namespace vernier::jinja {

using Kind = Value::Kind;

Evaluator::Inside::Inside(Evaluator& evaluator, Scope* parent)
    : evaluator_(evaluator), before_(evaluator.scope_), scope_(std::make_unique<Scope>()) {
  scope_->parent = parent;
  evaluator_.scope_ = scope_.get();
}

Evaluator::Inside::~Inside() {
  evaluator_.scope_ = before_;
  if (scope_->kept) evaluator_.kept_.push_back(std::move(scope_));
}

Evaluator::Evaluator(Meter& meter, std::vector<std::pair<std::string, Value>> variables)
    : meter_(meter) {
  root_.kept = true;
  for (const auto& [name, function] : GlobalFunctions()) {
    root_.names[std::string(name)] = Value(function);
  }
  for (auto& [name, value] : variables) root_.names[std::move(name)] = std::move(value);
}

MarkedText Evaluator::Run(const Body& body) {
  Execute(body);
  return std::move(text_);
}

void Evaluator::Write(const MarkedText& text) {
  if (!meter_.Work(text.size() + text.content().size() * sizeof(MarkedText::Run))) return;
  if (text.size() > meter_.limits().output_bytes - out_->size()) {
    meter_.FailLimit(absl::StrCat("writes more than ", meter_.limits().output_bytes, " bytes"));
    return;
  }
  out_->Append(text);
}

Evaluator::Flow Evaluator::Execute(const Body& body) {
  for (const auto& statement : body) {
    const Flow flow = Execute(*statement);
    if (!meter_.ok()) return Flow::kBreak;
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::Execute(const Statement& statement) {
  const Nested nested(meter_);
  if (!nested.ok() || !meter_.Step(statement.line)) return Flow::kBreak;
  switch (statement.kind) {
    case Statement::Kind::kText:
      Write(*statement.text);
      break;
    case Statement::Kind::kOutput:
      Write(*ToText(meter_, Evaluate(*statement.expressions[0])));
      break;
    case Statement::Kind::kIf:
      return If(statement);
    case Statement::Kind::kFor:
      return For(statement);
    case Statement::Kind::kSet:
      Assign(*statement.targets[0], Evaluate(*statement.expressions[0]));
      break;
    case Statement::Kind::kSetBlock: {
      Value value = Captured(statement.bodies[0]);
      if (!statement.expressions.empty()) value = Filter(*statement.expressions[0], &value);
      Assign(*statement.targets[0], value);
      break;
    }
    case Statement::Kind::kMacro:
      scope_->names[statement.name] = MacroHere(statement);
      break;
    case Statement::Kind::kCallBlock:
      CallBlock(statement);
      break;
    case Statement::Kind::kFilterBlock: {
      const Value value = Captured(statement.bodies[0]);
      Write(*ToText(meter_, Filter(*statement.expressions[0], &value)));
      break;
    }
    case Statement::Kind::kWith:
      return With(statement);
    case Statement::Kind::kScope: {
      const Inside inside(*this, scope_);
      return Execute(statement.bodies[0]);
    }
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::If(const Statement& statement) {
  for (size_t i = 0; i < statement.expressions.size(); ++i) {
    const bool taken = IsTrue(Evaluate(*statement.expressions[i]));
    if (!meter_.ok()) return Flow::kBreak;
    if (taken) return Execute(statement.bodies[i]);
  }
  const bool has_else = statement.bodies.size() > statement.expressions.size();
  return has_else ? Execute(statement.bodies.back()) : Flow::kNext;
}

std::shared_ptr<const List> Evaluator::ForItems(const Statement& statement) {
  std::shared_ptr<const List> items = ListOf(meter_, Evaluate(*statement.expressions[0]));
  if (statement.expressions.size() < 2) return items;
  std::vector<Value> kept;
  for (const Value& item : items->items) {
    if (!meter_.Step(statement.line)) return items;
    const Inside inside(*this, scope_);
    Assign(*statement.targets[0], item);
    if (IsTrue(Evaluate(*statement.expressions[1]))) kept.push_back(item);
  }
  return ListOf(meter_, MakeList(meter_, std::move(kept)));
}

Evaluator::Flow Evaluator::For(const Statement& statement) {
  const auto loop = std::make_shared<Loop>();
  loop->items = ForItems(statement);
  if (!meter_.ok()) return Flow::kBreak;
  for (; loop->index < loop->items->items.size(); ++loop->index) {
    if (!meter_.Step(statement.line)) break;
    const Inside inside(*this, scope_);
    scope_->names["loop"] = Value(loop);
    Assign(*statement.targets[0], loop->items->items[loop->index]);
    if (Execute(statement.bodies[0]) == Flow::kBreak) break;
  }
  if (!meter_.ok()) return Flow::kBreak;
  if (loop->items->items.empty() && statement.bodies.size() > 1) {
    return Execute(statement.bodies[1]);
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::With(const Statement& statement) {
  const std::vector<Value> values = EvaluateAll(statement.expressions);
  const Inside inside(*this, scope_);
  for (size_t i = 0; i < values.size(); ++i) Assign(*statement.targets[i], values[i]);
  return Execute(statement.bodies[0]);
}

void Evaluator::CallBlock(const Statement& statement) {
  const Value caller = MacroHere(statement);
  Write(*ToText(meter_, Call(*statement.expressions[0], &caller)));
}

Value Evaluator::Captured(const Body& body) {
  MarkedText text;
  MarkedText* const before = std::exchange(out_, &text);
  {
    const Inside inside(*this, scope_);
    Execute(body);
  }
  out_ = before;
  return Value::Text(std::move(text));
}

Value Evaluator::MacroHere(const Statement& definition) {
  for (Scope* scope = scope_; scope != nullptr && !scope->kept; scope = scope->parent) {
    scope->kept = true;
  }
  return Value(Macro{&definition, scope_});
}

void Evaluator::Assign(const Expression& target, const Value& value) {
  if (!meter_.ok()) return;
  switch (target.kind) {
    case Expression::Kind::kName:
      scope_->names[target.name] = value;
      return;
    case Expression::Kind::kAttribute:
      return AssignAttribute(target, value);
    default:
      break;
  }
  if (!IsDefined(meter_, value)) return;
  const auto list = ListOf(meter_, value);
  if (list->items.size() != target.children.size()) {
    meter_.Fail(absl::StrCat("cannot unpack ", list->items.size(), " values into ",
                             target.children.size(), " names"));
    return;
  }
  for (size_t i = 0; i < target.children.size(); ++i) Assign(*target.children[i], list->items[i]);
}

void Evaluator::AssignAttribute(const Expression& target, const Value& value) {
  const Value object = Evaluate(*target.children[0]);
  if (!meter_.ok()) return;
  if (!object.Is(Kind::kNamespace)) {
    meter_.Fail("cannot assign attribute on non-namespace object");
    return;
  }
  if (value.Is(Kind::kNamespace)) {
    meter_.FailLimit("puts a namespace into a namespace");
    return;
  }
  auto& attributes = object.As<std::shared_ptr<Namespace>>()->attributes;
  meter_.Work(attributes.size());
  for (auto& [name, held] : attributes) {
    if (name != target.name) continue;
    held = value;
    return;
  }
  attributes.emplace_back(target.name, value);
}

}  // namespace vernier::jinja
