// Reads expressions. After a failure of the reader it returns constants, which nobody sees.
#pragma once

#include <initializer_list>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/token_reader.h"

namespace vernier::jinja {

class ExpressionParser {
 public:
  ExpressionParser(TokenReader& reader, const Limits& limits) : reader_(reader), limits_(limits) {}

  // One expression, its inline if included.
  ExpressionPtr Expression();
  // One, or a tuple of several with commas between them.
  ExpressionPtr Tuple();
  // What a for loop walks over: its own if is no inline if.
  ExpressionPtr TupleWithoutCondition();
  // name, name.attribute or several with commas, as `set` and `for` assign to.
  ExpressionPtr Target();
  // "upper | trim": filters behind each other; the innermost has no value to filter.
  ExpressionPtr FilterChain();
  std::vector<Argument> CallArguments();

  // Whether a name was varargs or kwargs since this was last set to false.
  bool spoke_of_more() const { return spoke_of_more_; }
  void set_spoke_of_more(bool spoke) { spoke_of_more_ = spoke; }

  // One level deeper: false, with the reader failed, beyond the limit.
  bool Enter();
  void Leave() { --nesting_; }

 private:
  using Kind = vernier::jinja::Expression::Kind;

  ExpressionPtr Make(Kind kind, int line);
  ExpressionPtr Adopt(ExpressionPtr parent, ExpressionPtr child);
  ExpressionPtr Make(Kind kind, int line, ExpressionPtr child);
  ExpressionPtr Make(Kind kind, int line, ExpressionPtr first, ExpressionPtr second);
  ExpressionPtr Constant(Value value);

  ExpressionPtr Conditional();
  ExpressionPtr Or();
  ExpressionPtr And();
  ExpressionPtr Not();
  ExpressionPtr Comparison();
  bool TakeComparison(Operator* op);
  ExpressionPtr Sum();
  ExpressionPtr Concatenation();
  ExpressionPtr Product();
  ExpressionPtr Power();
  ExpressionPtr Unary();
  ExpressionPtr UnaryWithFilters();
  ExpressionPtr Primary();
  ExpressionPtr Name();
  ExpressionPtr Strings();
  ExpressionPtr Number();
  ExpressionPtr Parenthesized();
  ExpressionPtr ListLiteral();
  ExpressionPtr DictLiteral();
  ExpressionPtr Postfix(ExpressionPtr value);
  ExpressionPtr AttributeOf(ExpressionPtr value);
  ExpressionPtr SubscriptOf(ExpressionPtr value);
  ExpressionPtr CallOf(ExpressionPtr value);
  ExpressionPtr FiltersOf(ExpressionPtr value);
  ExpressionPtr FilterOf(ExpressionPtr value);
  ExpressionPtr TestOf(ExpressionPtr value);
  ExpressionPtr SingleTarget();
  void AddArguments(vernier::jinja::Expression* call, std::vector<Argument> arguments);
  ExpressionPtr BinaryChain(std::initializer_list<std::pair<absl::string_view, Operator>> operators,
                            ExpressionPtr (ExpressionParser::*operand)());

  TokenReader& reader_;
  const Limits& limits_;
  int nesting_ = 0;
  bool spoke_of_more_ = false;
};

}  // namespace vernier::jinja
