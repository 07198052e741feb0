// Tokens in order, and the first failure, behind which there is only the end.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/text/jinja/lexer.h"

namespace vernier::jinja {

class TokenReader {
 public:
  // REQUIRES: the last is kEnd.
  explicit TokenReader(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& Peek() const { return tokens_[at_]; }
  // The one behind; the end again at the end.
  const Token& PeekSecond() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token Take();
  int line() const { return Peek().line; }

  bool Is(Token::Kind kind) const { return Peek().kind == kind; }
  bool Is(Token::Kind kind, absl::string_view text) const {
    return Is(kind) && Peek().text == text;
  }
  bool IsOperator(absl::string_view text) const { return Is(Token::Kind::kOperator, text); }
  bool IsName(absl::string_view text) const { return Is(Token::Kind::kName, text); }
  // Takes it if it is next.
  bool AcceptOperator(absl::string_view text);
  bool AcceptName(absl::string_view text);
  // Fails unless it is next.
  void ExpectOperator(absl::string_view text);
  void ExpectName(absl::string_view text);
  void Expect(Token::Kind kind, absl::string_view what);
  // Any name; "" after failing.
  std::string TakeName();

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  void Fail(absl::string_view what);
  void FailUnsupported(absl::string_view what);

 private:
  void Fail(absl::StatusCode code, absl::string_view what);
  void FailExpecting(absl::string_view what);

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  absl::Status status_;
};

}  // namespace vernier::jinja
