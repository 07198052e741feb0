#include "engine/text/jinja/token_reader.h"

#include "absl/strings/str_cat.h"

namespace vernier::jinja {

Token TokenReader::Take() {
  Token token = Peek();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool TokenReader::AcceptOperator(absl::string_view text) {
  const bool found = IsOperator(text);
  if (found) Take();
  return found;
}

bool TokenReader::AcceptName(absl::string_view text) {
  const bool found = IsName(text);
  if (found) Take();
  return found;
}

void TokenReader::ExpectOperator(absl::string_view text) {
  if (!AcceptOperator(text)) FailExpecting(absl::StrCat("'", text, "'"));
}

void TokenReader::ExpectName(absl::string_view text) {
  if (!AcceptName(text)) FailExpecting(absl::StrCat("'", text, "'"));
}

void TokenReader::Expect(Token::Kind kind, absl::string_view what) {
  if (!Is(kind)) return FailExpecting(what);
  Take();
}

std::string TokenReader::TakeName() {
  if (Is(Token::Kind::kName)) return Take().text;
  FailExpecting("a name");
  return "";
}

void TokenReader::Fail(absl::string_view what) { Fail(absl::StatusCode::kInvalidArgument, what); }

void TokenReader::FailUnsupported(absl::string_view what) {
  Fail(absl::StatusCode::kUnimplemented, absl::StrCat(what, " is not supported"));
}

void TokenReader::FailExpecting(absl::string_view what) {
  Fail(absl::StrCat("expected ", what, ", found '", Peek().text.substr(0, 40), "'"));
}

void TokenReader::Fail(absl::StatusCode code, absl::string_view what) {
  if (ok()) status_ = absl::Status(code, absl::StrCat("template line ", line(), ": ", what));
  at_ = tokens_.size() - 1;
}

}  // namespace vernier::jinja
