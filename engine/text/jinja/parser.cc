#include "engine/text/jinja/parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/expression_parser.h"
#include "engine/text/jinja/lexer.h"
#include "engine/text/jinja/token_reader.h"

namespace vernier::jinja {
namespace {

class Parser {
 public:
  Parser(std::vector<Token> tokens, const Limits& limits)
      : reader_(std::move(tokens)), expressions_(reader_, limits) {}
  absl::StatusOr<Body> Run();

 private:
  using Kind = Statement::Kind;
  using StatementPtr = std::unique_ptr<Statement>;

  StatementPtr Make(Kind kind) const;
  // Up to a tag of one of these names, whose name is next; to the end for none.
  Body Statements(std::initializer_list<absl::string_view> ends);
  Body StatementsWithin(std::initializer_list<absl::string_view> ends);
  // The body up to {% name %}, which it takes.
  Body BodyUpTo(absl::string_view name);
  void EndBlock() { reader_.Expect(Token::Kind::kBlockEnd, "'%}'"); }

  StatementPtr Output();
  StatementPtr Block();
  StatementPtr If();
  StatementPtr For();
  StatementPtr Set();
  StatementPtr Macro();
  StatementPtr CallBlock();
  StatementPtr FilterBlock();
  StatementPtr With();
  StatementPtr Scope();
  StatementPtr Jump(Kind kind);
  std::vector<Parameter> Parameters();
  // A body that is a function of its own: loops around it do not count.
  void FunctionBody(Statement* statement, absl::string_view end);

  TokenReader reader_;
  ExpressionParser expressions_;
  int loops_ = 0;
};

Parser::StatementPtr Parser::Make(Kind kind) const {
  auto made = std::make_unique<Statement>();
  made->kind = kind;
  made->line = reader_.line();
  return made;
}

absl::StatusOr<Body> Parser::Run() {
  Body body = Statements({});
  if (!reader_.ok()) return reader_.status();
  return body;
}

Body Parser::Statements(std::initializer_list<absl::string_view> ends) {
  if (!expressions_.Enter()) return {};
  Body body = StatementsWithin(ends);
  expressions_.Leave();
  return body;
}

Body Parser::StatementsWithin(std::initializer_list<absl::string_view> ends) {
  Body body;
  while (!reader_.Is(Token::Kind::kEnd)) {
    if (reader_.Is(Token::Kind::kData)) {
      body.push_back(Make(Kind::kText));
      body.back()->text = std::make_shared<const MarkedText>(reader_.Take().text);
      continue;
    }
    if (reader_.Is(Token::Kind::kVariableBegin)) {
      body.push_back(Output());
      continue;
    }
    reader_.Expect(Token::Kind::kBlockBegin, "a tag");
    const bool at_end = reader_.Is(Token::Kind::kName) &&
                        std::find(ends.begin(), ends.end(), reader_.Peek().text) != ends.end();
    if (at_end) return body;
    body.push_back(Block());
  }
  if (ends.size() > 0) reader_.Fail(absl::StrCat("the template ends before '", *ends.begin(), "'"));
  return body;
}

Body Parser::BodyUpTo(absl::string_view name) {
  Body body = Statements({name});
  reader_.ExpectName(name);
  EndBlock();
  return body;
}

Parser::StatementPtr Parser::Output() {
  StatementPtr output = Make(Kind::kOutput);
  reader_.Take();
  output->expressions.push_back(expressions_.Tuple());
  reader_.Expect(Token::Kind::kVariableEnd, "'}}'");
  return output;
}

Parser::StatementPtr Parser::Block() {
  constexpr std::pair<absl::string_view, StatementPtr (Parser::*)()> kBlocks[] = {
      {"if", &Parser::If},       {"for", &Parser::For},         {"set", &Parser::Set},
      {"macro", &Parser::Macro}, {"call", &Parser::CallBlock},  {"filter", &Parser::FilterBlock},
      {"with", &Parser::With},   {"generation", &Parser::Scope}};
  for (const auto& [name, parse] : kBlocks) {
    if (reader_.IsName(name)) return (this->*parse)();
  }
  if (reader_.IsName("break")) return Jump(Kind::kBreak);
  if (reader_.IsName("continue")) return Jump(Kind::kContinue);
  const std::string name = reader_.TakeName();
  if (name.substr(0, 3) == "end" || name == "else" || name == "elif") {
    reader_.Fail(absl::StrCat("unexpected tag '", name, "'"));
  } else {
    reader_.FailUnsupported(absl::StrCat("the tag '", name.substr(0, 40), "'"));
  }
  return Make(Kind::kText);
}

Parser::StatementPtr Parser::If() {
  StatementPtr made = Make(Kind::kIf);
  reader_.Take();
  while (reader_.ok()) {
    made->expressions.push_back(expressions_.Tuple());
    EndBlock();
    made->bodies.push_back(Statements({"endif", "elif", "else"}));
    if (!reader_.AcceptName("elif")) break;
  }
  if (reader_.AcceptName("else")) {
    EndBlock();
    made->bodies.push_back(Statements({"endif"}));
  }
  reader_.ExpectName("endif");
  EndBlock();
  return made;
}

Parser::StatementPtr Parser::For() {
  StatementPtr made = Make(Kind::kFor);
  reader_.Take();
  made->targets.push_back(expressions_.Target());
  reader_.ExpectName("in");
  made->expressions.push_back(expressions_.TupleWithoutCondition());
  if (reader_.AcceptName("if")) made->expressions.push_back(expressions_.Expression());
  if (reader_.IsName("recursive")) reader_.FailUnsupported("a recursive loop");
  EndBlock();
  ++loops_;
  made->bodies.push_back(Statements({"endfor", "else"}));
  --loops_;
  if (reader_.AcceptName("else")) {
    EndBlock();
    made->bodies.push_back(Statements({"endfor"}));
  }
  reader_.ExpectName("endfor");
  EndBlock();
  return made;
}

Parser::StatementPtr Parser::Set() {
  StatementPtr made = Make(Kind::kSet);
  reader_.Take();
  made->targets.push_back(expressions_.Target());
  if (reader_.AcceptOperator("=")) {
    made->expressions.push_back(expressions_.Tuple());
    EndBlock();
    return made;
  }
  made->kind = Kind::kSetBlock;
  if (reader_.AcceptOperator("|")) made->expressions.push_back(expressions_.FilterChain());
  EndBlock();
  made->bodies.push_back(BodyUpTo("endset"));
  return made;
}

std::vector<Parameter> Parser::Parameters() {
  std::vector<Parameter> parameters;
  reader_.ExpectOperator("(");
  while (reader_.ok() && !reader_.IsOperator(")")) {
    Parameter parameter;
    parameter.name = reader_.TakeName();
    if (reader_.AcceptOperator("=")) {
      parameter.otherwise = expressions_.Expression();
    } else if (!parameters.empty() && parameters.back().otherwise != nullptr) {
      reader_.Fail("a parameter without a default behind one with it");
    }
    parameters.push_back(std::move(parameter));
    if (!reader_.IsOperator(")")) reader_.ExpectOperator(",");
  }
  reader_.ExpectOperator(")");
  return parameters;
}

void Parser::FunctionBody(Statement* statement, absl::string_view end) {
  EndBlock();
  const int loops = std::exchange(loops_, 0);
  const bool spoke = expressions_.spoke_of_more();
  expressions_.set_spoke_of_more(false);
  statement->bodies.push_back(BodyUpTo(end));
  statement->takes_more = expressions_.spoke_of_more();
  expressions_.set_spoke_of_more(spoke);
  loops_ = loops;
}

Parser::StatementPtr Parser::Macro() {
  StatementPtr made = Make(Kind::kMacro);
  reader_.Take();
  made->name = reader_.TakeName();
  made->parameters = Parameters();
  FunctionBody(made.get(), "endmacro");
  return made;
}

Parser::StatementPtr Parser::CallBlock() {
  StatementPtr made = Make(Kind::kCallBlock);
  reader_.Take();
  if (reader_.IsOperator("(")) made->parameters = Parameters();
  made->name = "caller";
  made->expressions.push_back(expressions_.Expression());
  if (made->expressions[0]->kind != Expression::Kind::kCall) reader_.Fail("expected a call");
  FunctionBody(made.get(), "endcall");
  return made;
}

Parser::StatementPtr Parser::FilterBlock() {
  StatementPtr made = Make(Kind::kFilterBlock);
  reader_.Take();
  made->expressions.push_back(expressions_.FilterChain());
  EndBlock();
  made->bodies.push_back(BodyUpTo("endfilter"));
  return made;
}

Parser::StatementPtr Parser::With() {
  StatementPtr made = Make(Kind::kWith);
  reader_.Take();
  while (reader_.ok() && !reader_.Is(Token::Kind::kBlockEnd)) {
    if (!made->targets.empty()) reader_.ExpectOperator(",");
    auto name = std::make_unique<Expression>();
    name->kind = Expression::Kind::kName;
    name->line = reader_.line();
    name->name = reader_.TakeName();
    reader_.ExpectOperator("=");
    made->targets.push_back(std::move(name));
    made->expressions.push_back(expressions_.Expression());
  }
  EndBlock();
  made->bodies.push_back(BodyUpTo("endwith"));
  return made;
}

Parser::StatementPtr Parser::Scope() {
  StatementPtr made = Make(Kind::kScope);
  reader_.Take();
  EndBlock();
  made->bodies.push_back(BodyUpTo("endgeneration"));
  return made;
}

Parser::StatementPtr Parser::Jump(Kind kind) {
  StatementPtr made = Make(kind);
  reader_.Take();
  if (loops_ == 0) reader_.Fail("break or continue outside of a loop");
  EndBlock();
  return made;
}

}  // namespace

absl::StatusOr<Body> Parse(absl::string_view source, const Limits& limits) {
  if (source.size() > limits.source_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("template has ", source.size(), " bytes, limit ", limits.source_bytes));
  }
  absl::StatusOr<std::vector<Token>> tokens = Tokens(source);
  if (!tokens.ok()) return tokens.status();
  return Parser(*std::move(tokens), limits).Run();
}

}  // namespace vernier::jinja
