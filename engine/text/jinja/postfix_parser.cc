// What stands behind a value: attributes, indices, calls, filters and tests; and targets.
#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/text/jinja/expression_parser.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/tests.h"

namespace vernier::jinja {

ExpressionPtr ExpressionParser::Postfix(ExpressionPtr value) {
  while (reader_.ok()) {
    if (reader_.IsOperator(".")) {
      value = AttributeOf(std::move(value));
    } else if (reader_.IsOperator("[")) {
      value = SubscriptOf(std::move(value));
    } else if (reader_.IsOperator("(")) {
      value = CallOf(std::move(value));
    } else {
      break;
    }
  }
  return value;
}

ExpressionPtr ExpressionParser::AttributeOf(ExpressionPtr value) {
  const int line = reader_.Take().line;
  if (reader_.Is(Token::Kind::kInteger)) {
    ExpressionPtr index = Number();
    return Make(Kind::kSubscript, line, std::move(value), std::move(index));
  }
  ExpressionPtr made = Make(Kind::kAttribute, line, std::move(value));
  made->name = reader_.TakeName();
  return made;
}

ExpressionPtr ExpressionParser::SubscriptOf(ExpressionPtr value) {
  const int line = reader_.Take().line;
  ExpressionPtr first;
  if (!reader_.IsOperator(":")) first = Tuple();
  if (!reader_.IsOperator(":")) {
    reader_.ExpectOperator("]");
    return Make(Kind::kSubscript, line, std::move(value), std::move(first));
  }
  ExpressionPtr slice = Make(Kind::kSlice, line, std::move(value), std::move(first));
  for (int i = 0; i < 2; ++i) {  // end, step
    ExpressionPtr bound;
    if (reader_.AcceptOperator(":") && !reader_.IsOperator(":") && !reader_.IsOperator("]")) {
      bound = Expression();
    }
    slice = Adopt(std::move(slice), std::move(bound));
  }
  reader_.ExpectOperator("]");
  return slice;
}

std::vector<Argument> ExpressionParser::CallArguments() {
  std::vector<Argument> arguments;
  reader_.ExpectOperator("(");
  while (reader_.ok() && !reader_.IsOperator(")")) {
    Argument argument;
    const Token& second = reader_.PeekSecond();
    if (reader_.AcceptOperator("*")) {
      argument.kind = Argument::Kind::kItems;
    } else if (reader_.AcceptOperator("**")) {
      argument.kind = Argument::Kind::kEntries;
    } else if (reader_.Is(Token::Kind::kName) && second.kind == Token::Kind::kOperator &&
               second.text == "=") {
      argument.kind = Argument::Kind::kNamed;
      argument.name = reader_.TakeName();
      reader_.Take();
    } else if (!arguments.empty() && arguments.back().kind == Argument::Kind::kNamed) {
      reader_.Fail("a positional argument behind a named one");
    }
    argument.value = Expression();
    arguments.push_back(std::move(argument));
    if (!reader_.IsOperator(")")) reader_.ExpectOperator(",");
  }
  reader_.ExpectOperator(")");
  return arguments;
}

void ExpressionParser::AddArguments(vernier::jinja::Expression* call,
                                    std::vector<Argument> arguments) {
  for (const Argument& argument : arguments) {
    call->depth = std::max(call->depth, 1 + argument.value->depth);
  }
  if (call->depth > 2 * limits_.nesting) {
    reader_.Fail(absl::StrCat("an expression of more than ", 2 * limits_.nesting, " levels"));
  }
  call->arguments = std::move(arguments);
}

ExpressionPtr ExpressionParser::CallOf(ExpressionPtr value) {
  ExpressionPtr call = Make(Kind::kCall, reader_.line(), std::move(value));
  AddArguments(call.get(), CallArguments());
  return call;
}

ExpressionPtr ExpressionParser::FiltersOf(ExpressionPtr value) {
  while (reader_.ok()) {
    if (reader_.AcceptOperator("|")) {
      value = FilterOf(std::move(value));
    } else if (reader_.AcceptName("is")) {
      value = TestOf(std::move(value));
    } else if (reader_.IsOperator("(")) {
      value = CallOf(std::move(value));
    } else {
      break;
    }
  }
  return value;
}

ExpressionPtr ExpressionParser::FilterChain() {
  ExpressionPtr chain = FilterOf(nullptr);
  while (reader_.AcceptOperator("|")) chain = FilterOf(std::move(chain));
  return chain;
}

ExpressionPtr ExpressionParser::FilterOf(ExpressionPtr value) {
  ExpressionPtr filter = Make(Kind::kFilter, reader_.line(), std::move(value));
  filter->name = reader_.TakeName();
  filter->filter = FindFilter(filter->name);
  if (reader_.IsOperator("(")) AddArguments(filter.get(), CallArguments());
  return filter;
}

// Behind "is".
ExpressionPtr ExpressionParser::TestOf(ExpressionPtr value) {
  const int line = reader_.line();
  const bool negated = reader_.AcceptName("not");
  ExpressionPtr test = Make(Kind::kTest, line, std::move(value));
  test->name = reader_.TakeName();
  test->test = FindTest(test->name);
  const Token::Kind next = reader_.Peek().kind;
  const bool has_value = next == Token::Kind::kString || next == Token::Kind::kInteger ||
                         next == Token::Kind::kFloat || reader_.IsOperator("[") ||
                         reader_.IsOperator("{") ||
                         (next == Token::Kind::kName && !reader_.IsName("else") &&
                          !reader_.IsName("or") && !reader_.IsName("and") && !reader_.IsName("if"));
  if (reader_.IsOperator("(")) {
    AddArguments(test.get(), CallArguments());
  } else if (reader_.IsName("is")) {
    reader_.Fail("tests cannot be chained");
  } else if (has_value) {
    std::vector<Argument> arguments(1);
    arguments[0].value = Postfix(Primary());
    AddArguments(test.get(), std::move(arguments));
  }
  return negated ? Make(Kind::kNot, line, std::move(test)) : std::move(test);
}

ExpressionPtr ExpressionParser::SingleTarget() {
  const int line = reader_.line();
  if (reader_.AcceptOperator("(")) {
    if (!Enter()) return Constant(Value());
    ExpressionPtr inside = Target();
    Leave();
    reader_.ExpectOperator(")");
    return inside;
  }
  ExpressionPtr name = Make(Kind::kName, line);
  name->name = reader_.TakeName();
  if (name->name == "true" || name->name == "false" || name->name == "none" ||
      name->name == "loop") {
    reader_.Fail(absl::StrCat("cannot assign to ", name->name));
  }
  if (!reader_.AcceptOperator(".")) return name;
  ExpressionPtr attribute = Make(Kind::kAttribute, line, std::move(name));
  attribute->name = reader_.TakeName();
  return attribute;
}

ExpressionPtr ExpressionParser::Target() {
  const int line = reader_.line();
  ExpressionPtr first = SingleTarget();
  if (!reader_.IsOperator(",")) return first;
  ExpressionPtr tuple = Make(Kind::kTuple, line, std::move(first));
  while (reader_.AcceptOperator(",")) {
    if (!reader_.Is(Token::Kind::kName) && !reader_.IsOperator("(")) break;
    if (reader_.IsName("in")) break;
    tuple = Adopt(std::move(tuple), SingleTarget());
  }
  return tuple;
}

}  // namespace vernier::jinja
