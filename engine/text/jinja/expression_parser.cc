#include "engine/text/jinja/expression_parser.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/tests.h"

namespace vernier::jinja {

using Node = Expression;

bool ExpressionParser::Enter() {
  if (nesting_ >= limits_.nesting) {
    reader_.Fail(absl::StrCat("more than ", limits_.nesting, " levels inside each other"));
    return false;
  }
  ++nesting_;
  return true;
}

ExpressionPtr ExpressionParser::Make(Kind kind, int line) {
  auto made = std::make_unique<Node>();
  made->kind = kind;
  made->line = line;
  return made;
}

ExpressionPtr ExpressionParser::Adopt(ExpressionPtr parent, ExpressionPtr child) {
  if (child != nullptr) parent->depth = std::max(parent->depth, 1 + child->depth);
  if (parent->depth > 2 * limits_.nesting) {
    reader_.Fail(absl::StrCat("an expression of more than ", 2 * limits_.nesting, " levels"));
  }
  parent->children.push_back(std::move(child));
  return parent;
}

ExpressionPtr ExpressionParser::Make(Kind kind, int line, ExpressionPtr child) {
  return Adopt(Make(kind, line), std::move(child));
}

ExpressionPtr ExpressionParser::Make(Kind kind, int line, ExpressionPtr first,
                                     ExpressionPtr second) {
  return Adopt(Make(kind, line, std::move(first)), std::move(second));
}

ExpressionPtr ExpressionParser::Constant(Value value) {
  ExpressionPtr made = Make(Kind::kConstant, reader_.line());
  made->constant = std::move(value);
  return made;
}

ExpressionPtr ExpressionParser::Expression() {
  if (!Enter()) return Constant(Value());
  ExpressionPtr made = Conditional();
  Leave();
  return made;
}

ExpressionPtr ExpressionParser::Tuple() {
  const int line = reader_.line();
  ExpressionPtr first = Expression();
  if (!reader_.IsOperator(",")) return first;
  ExpressionPtr tuple = Make(Kind::kTuple, line, std::move(first));
  while (reader_.AcceptOperator(",")) {
    if (reader_.Is(Token::Kind::kBlockEnd) || reader_.Is(Token::Kind::kVariableEnd)) break;
    if (reader_.IsOperator(")") || reader_.IsOperator("]")) break;
    tuple = Adopt(std::move(tuple), Expression());
  }
  return tuple;
}

ExpressionPtr ExpressionParser::TupleWithoutCondition() {
  const int line = reader_.line();
  ExpressionPtr first = Or();
  if (!reader_.IsOperator(",")) return first;
  ExpressionPtr tuple = Make(Kind::kTuple, line, std::move(first));
  while (reader_.AcceptOperator(",")) tuple = Adopt(std::move(tuple), Or());
  return tuple;
}

ExpressionPtr ExpressionParser::Conditional() {
  ExpressionPtr value = Or();
  while (reader_.IsName("if")) {
    const int line = reader_.Take().line;
    ExpressionPtr made = Make(Kind::kConditional, line, std::move(value), Or());
    if (reader_.AcceptName("else")) made = Adopt(std::move(made), Expression());
    value = std::move(made);
  }
  return value;
}

ExpressionPtr ExpressionParser::Or() {
  ExpressionPtr first = And();
  if (!reader_.IsName("or")) return first;
  ExpressionPtr made = Make(Kind::kOr, reader_.line(), std::move(first));
  while (reader_.AcceptName("or")) made = Adopt(std::move(made), And());
  return made;
}

ExpressionPtr ExpressionParser::And() {
  ExpressionPtr first = Not();
  if (!reader_.IsName("and")) return first;
  ExpressionPtr made = Make(Kind::kAnd, reader_.line(), std::move(first));
  while (reader_.AcceptName("and")) made = Adopt(std::move(made), Not());
  return made;
}

ExpressionPtr ExpressionParser::Not() {
  if (!reader_.IsName("not")) return Comparison();
  const int line = reader_.Take().line;
  if (!Enter()) return Constant(Value());
  ExpressionPtr made = Make(Kind::kNot, line, Not());
  Leave();
  return made;
}

bool ExpressionParser::TakeComparison(Operator* op) {
  constexpr std::pair<absl::string_view, Operator> kOperators[] = {
      {"==", Operator::kEqual},     {"!=", Operator::kNotEqual}, {"<", Operator::kLess},
      {"<=", Operator::kLessEqual}, {">", Operator::kGreater},   {">=", Operator::kGreaterEqual}};
  for (const auto& [spelling, found] : kOperators) {
    if (!reader_.AcceptOperator(spelling)) continue;
    *op = found;
    return true;
  }
  *op = Operator::kIn;
  if (reader_.AcceptName("in")) return true;
  const Token& second = reader_.PeekSecond();
  if (!reader_.IsName("not") || second.kind != Token::Kind::kName || second.text != "in") {
    return false;
  }
  reader_.Take();
  reader_.Take();
  *op = Operator::kNotIn;
  return true;
}

ExpressionPtr ExpressionParser::Comparison() {
  const int line = reader_.line();
  ExpressionPtr first = Sum();
  Operator op;
  if (!TakeComparison(&op)) return first;
  ExpressionPtr chain = Make(Kind::kCompare, line, std::move(first));
  do {
    chain->operators.push_back(op);
    chain = Adopt(std::move(chain), Sum());
  } while (TakeComparison(&op));
  return chain;
}

ExpressionPtr ExpressionParser::BinaryChain(
    std::initializer_list<std::pair<absl::string_view, Operator>> operators,
    ExpressionPtr (ExpressionParser::*operand)()) {
  ExpressionPtr left = (this->*operand)();
  while (true) {
    const int line = reader_.line();
    const auto found = std::find_if(operators.begin(), operators.end(), [&](const auto& one) {
      return reader_.AcceptOperator(one.first);
    });
    if (found == operators.end()) return left;
    left = Make(Kind::kArithmetic, line, std::move(left), (this->*operand)());
    left->operators.push_back(found->second);
  }
}

ExpressionPtr ExpressionParser::Sum() {
  return BinaryChain({{"+", Operator::kAdd}, {"-", Operator::kSubtract}},
                     &ExpressionParser::Concatenation);
}

ExpressionPtr ExpressionParser::Concatenation() {
  const int line = reader_.line();
  ExpressionPtr first = Product();
  if (!reader_.IsOperator("~")) return first;
  ExpressionPtr made = Make(Kind::kConcat, line, std::move(first));
  while (reader_.AcceptOperator("~")) made = Adopt(std::move(made), Product());
  return made;
}

ExpressionPtr ExpressionParser::Product() {
  return BinaryChain({{"*", Operator::kMultiply},
                      {"/", Operator::kDivide},
                      {"//", Operator::kFloorDivide},
                      {"%", Operator::kModulo}},
                     &ExpressionParser::Power);
}

ExpressionPtr ExpressionParser::Power() {
  return BinaryChain({{"**", Operator::kPower}}, &ExpressionParser::UnaryWithFilters);
}

ExpressionPtr ExpressionParser::UnaryWithFilters() { return FiltersOf(Unary()); }

ExpressionPtr ExpressionParser::Unary() {
  const bool minus = reader_.IsOperator("-");
  if (!minus && !reader_.IsOperator("+")) return Postfix(Primary());
  const int line = reader_.Take().line;
  if (!Enter()) return Constant(Value());
  ExpressionPtr made = Make(minus ? Kind::kNegative : Kind::kPositive, line, Unary());
  Leave();
  return made;
}

ExpressionPtr ExpressionParser::Primary() {
  switch (reader_.Peek().kind) {
    case Token::Kind::kName:
      return Name();
    case Token::Kind::kString:
      return Strings();
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      return Number();
    default:
      break;
  }
  if (reader_.IsOperator("(")) return Parenthesized();
  if (reader_.IsOperator("[")) return ListLiteral();
  if (reader_.IsOperator("{")) return DictLiteral();
  reader_.Fail(absl::StrCat("unexpected '", reader_.Peek().text.substr(0, 40), "'"));
  return Constant(Value());
}

ExpressionPtr ExpressionParser::Name() {
  const Token token = reader_.Take();
  if (token.text == "true" || token.text == "True") return Constant(Value(true));
  if (token.text == "false" || token.text == "False") return Constant(Value(false));
  if (token.text == "none" || token.text == "None") return Constant(Value(None{}));
  if (token.text == "varargs" || token.text == "kwargs") spoke_of_more_ = true;
  ExpressionPtr made = Make(Kind::kName, token.line);
  made->name = token.text;
  return made;
}

ExpressionPtr ExpressionParser::Strings() {
  std::string text = reader_.Take().text;
  while (reader_.Is(Token::Kind::kString)) text += reader_.Take().text;
  return Constant(Value::Text(text));
}

ExpressionPtr ExpressionParser::Number() {
  const Token token = reader_.Take();
  int64_t integer = 0;
  double real = 0;
  if (token.kind == Token::Kind::kInteger && absl::SimpleAtoi(token.text, &integer)) {
    return Constant(Value(integer));
  }
  if (token.kind == Token::Kind::kFloat && absl::SimpleAtod(token.text, &real)) {
    return Constant(Value(real));
  }
  reader_.Fail(absl::StrCat("the number ", token.text.substr(0, 40), " exceeds 64 bits"));
  return Constant(Value());
}

ExpressionPtr ExpressionParser::Parenthesized() {
  const int line = reader_.Take().line;
  if (reader_.AcceptOperator(")")) return Make(Kind::kTuple, line);
  ExpressionPtr inside = Tuple();
  reader_.ExpectOperator(")");
  return inside;
}

ExpressionPtr ExpressionParser::ListLiteral() {
  ExpressionPtr list = Make(Kind::kList, reader_.Take().line);
  while (reader_.ok() && !reader_.IsOperator("]")) {
    list = Adopt(std::move(list), Expression());
    if (!reader_.IsOperator("]")) reader_.ExpectOperator(",");
  }
  reader_.ExpectOperator("]");
  return list;
}

ExpressionPtr ExpressionParser::DictLiteral() {
  ExpressionPtr dict = Make(Kind::kDict, reader_.Take().line);
  while (reader_.ok() && !reader_.IsOperator("}")) {
    dict = Adopt(std::move(dict), Expression());
    reader_.ExpectOperator(":");
    dict = Adopt(std::move(dict), Expression());
    if (!reader_.IsOperator("}")) reader_.ExpectOperator(",");
  }
  reader_.ExpectOperator("}");
  return dict;
}

}  // namespace vernier::jinja
