#include "engine/text/jinja/lexer.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/string_literal.h"
#include "engine/text/utf8.h"

namespace vernier::jinja {
namespace {

constexpr size_t kNone = absl::string_view::npos;

bool IsNameStart(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsNameCharacter(char c) { return IsNameStart(c) || IsDigit(c); }

class Lexer {
 public:
  explicit Lexer(absl::string_view source) : source_(source) {}
  absl::StatusOr<std::vector<Token>> Run();

 private:
  using Kind = Token::Kind;

  absl::string_view Rest() const { return source_.substr(at_); }
  absl::Status Error(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("template line ", line_, ": ", what));
  }
  void Add(Kind kind, absl::string_view text) {
    tokens_.push_back({kind, std::string(text), line_});
  }
  // Moves on by `bytes`, counting lines.
  void Skip(size_t bytes) {
    line_ += static_cast<int>(std::count(Rest().begin(), Rest().begin() + bytes, '\n'));
    at_ += bytes;
  }
  void SkipSpace() {
    while (at_ < source_.size()) {
      const Utf8Unit unit = FirstUtf8Unit(Rest());
      if (unit.kind != Utf8Kind::kWhole || !IsSpace(unit.code_point)) return;
      Skip(static_cast<size_t>(unit.bytes));
    }
  }
  // Behind the end of a tag: what '-' and trim_blocks take away.
  void TrimBehind(char sign, bool trims_line) {
    if (sign == '-') {
      SkipSpace();
    } else if (sign != '+' && trims_line && absl::StartsWith(Rest(), "\n")) {
      Skip(1);
    }
  }

  size_t FindTag() const;
  void AddData(absl::string_view data, char sign, bool is_variable);
  absl::Status Comment();
  absl::StatusOr<bool> Raw();
  absl::Status Tag(bool is_variable);
  bool EndTag(bool is_variable);
  absl::Status ExpressionToken();
  absl::Status StringToken();
  void NumberToken();
  absl::Status OperatorToken();

  const absl::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
  std::string brackets_;  // open ones
};

size_t Lexer::FindTag() const {
  for (size_t i = at_; (i = source_.find('{', i)) != kNone; ++i) {
    if (i + 1 < source_.size() && absl::string_view("{%#").find(source_[i + 1]) != kNone) return i;
  }
  return kNone;
}

// `data` ends at a tag with `sign` behind its opening. lstrip_blocks: white space between the
// beginning of a line and a tag that is not a variable goes, unless the sign is '+'.
void Lexer::AddData(absl::string_view data, char sign, bool is_variable) {
  const bool starts_line = at_ == 0 || source_[at_ - 1] == '\n';
  const size_t bytes = data.size();
  if (sign == '-') {
    data = data.substr(0, Strip(MarkedText(data), std::nullopt, Sides::kRight).size());
  } else if (sign != '+' && !is_variable) {
    const size_t feed = data.rfind('\n');
    const size_t line_begin = feed == kNone ? 0 : feed + 1;
    if ((line_begin > 0 || starts_line) && IsAllSpace(data.substr(line_begin))) {
      data = data.substr(0, line_begin);
    }
  }
  if (!data.empty()) Add(Kind::kData, data);
  Skip(bytes);
}

absl::Status Lexer::Comment() {
  const size_t end = Rest().find("#}", 2);
  if (end == kNone) return Error("a comment does not end");
  const char sign = end > 2 ? Rest()[end - 1] : ' ';
  Skip(end + 2);
  TrimBehind(sign, true);
  return absl::OkStatus();
}

// {% raw %} to {% endraw %}, as data; false, and nothing done, where another tag stands.
absl::StatusOr<bool> Lexer::Raw() {
  const auto tag_end = [&](absl::string_view text, absl::string_view name) -> size_t {
    size_t i = 2;
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    while (i < text.size() && absl::ascii_isspace(static_cast<unsigned char>(text[i]))) ++i;
    if (!absl::StartsWith(text.substr(i), name)) return kNone;
    i += name.size();
    while (i < text.size() && absl::ascii_isspace(static_cast<unsigned char>(text[i]))) ++i;
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    return absl::StartsWith(text.substr(i), "%}") ? i + 2 : kNone;
  };
  const size_t open = tag_end(Rest(), "raw");
  if (open == kNone) return false;
  Skip(open);
  if (source_[at_ - 3] == '-') SkipSpace();
  for (size_t i = at_; (i = source_.find("{%", i)) != kNone; i += 2) {
    const size_t close = tag_end(source_.substr(i), "endraw");
    if (close == kNone) continue;
    AddData(source_.substr(at_, i - at_), source_[i + 2], /*is_variable=*/false);
    Skip(close);
    TrimBehind(source_[at_ - 3], true);
    return true;
  }
  return Error("a raw block does not end");
}

bool Lexer::EndTag(bool is_variable) {
  if (!brackets_.empty()) return false;
  const absl::string_view close = is_variable ? "}}" : "%}";
  char sign = ' ';
  if (absl::StartsWith(Rest(), "-") || (!is_variable && absl::StartsWith(Rest(), "+"))) {
    sign = Rest()[0];
  }
  const size_t signs = sign == ' ' ? 0 : 1;
  if (!absl::StartsWith(Rest().substr(signs), close)) return false;
  Add(is_variable ? Kind::kVariableEnd : Kind::kBlockEnd, close);
  Skip(signs + 2);
  TrimBehind(sign, !is_variable);
  return true;
}

absl::Status Lexer::Tag(bool is_variable) {
  Add(is_variable ? Kind::kVariableBegin : Kind::kBlockBegin, Rest().substr(0, 2));
  Skip(2);
  if (absl::StartsWith(Rest(), "-") || absl::StartsWith(Rest(), "+")) Skip(1);
  brackets_.clear();
  while (true) {
    SkipSpace();
    if (at_ == source_.size()) return Error("a tag does not end");
    if (EndTag(is_variable)) return absl::OkStatus();
    if (absl::Status status = ExpressionToken(); !status.ok()) return status;
  }
}

absl::Status Lexer::ExpressionToken() {
  const char c = Rest()[0];
  if (IsNameStart(c)) {
    size_t size = 1;
    while (size < Rest().size() && IsNameCharacter(Rest()[size])) ++size;
    Add(Kind::kName, Rest().substr(0, size));
    Skip(size);
    return absl::OkStatus();
  }
  if (IsDigit(c)) {
    NumberToken();
    return absl::OkStatus();
  }
  return c == '\'' || c == '"' ? StringToken() : OperatorToken();
}

absl::Status Lexer::StringToken() {
  const char quote = Rest()[0];
  size_t end = 1;
  while (end < Rest().size() && Rest()[end] != quote) end += Rest()[end] == '\\' ? 2 : 1;
  if (end >= Rest().size()) return Error("a string does not end");
  absl::StatusOr<std::string> value = StringLiteral(Rest().substr(1, end - 1));
  if (!value.ok()) {
    return absl::Status(value.status().code(),
                        absl::StrCat("template line ", line_, ": ", value.status().message()));
  }
  Add(Kind::kString, *value);
  Skip(end + 1);
  return absl::OkStatus();
}

// Digits with underscores between them; a fraction or an exponent makes it a float.
void Lexer::NumberToken() {
  const absl::string_view rest = Rest();
  size_t i = 0;
  const auto digits = [&] {
    while (i < rest.size() &&
           (IsDigit(rest[i]) || (rest[i] == '_' && i + 1 < rest.size() && IsDigit(rest[i + 1])))) {
      ++i;
    }
  };
  const auto digit_at = [&](size_t at) { return at < rest.size() && IsDigit(rest[at]); };
  digits();
  bool is_float = false;
  // In `x.0.1` the numbers are indices, not a fraction.
  const bool is_index =
      !tokens_.empty() && tokens_.back().kind == Kind::kOperator && tokens_.back().text == ".";
  if (!is_index && i < rest.size() && rest[i] == '.' && digit_at(i + 1)) {
    is_float = true;
    ++i;
    digits();
  }
  if (!is_index && i < rest.size() && (rest[i] == 'e' || rest[i] == 'E')) {
    const size_t sign = i + 1 < rest.size() && (rest[i + 1] == '+' || rest[i + 1] == '-') ? 1 : 0;
    if (digit_at(i + 1 + sign)) {
      is_float = true;
      i += 1 + sign;
      digits();
    }
  }
  Add(is_float ? Kind::kFloat : Kind::kInteger,
      absl::StrReplaceAll(rest.substr(0, i), {{"_", ""}}));
  Skip(i);
}

absl::Status Lexer::OperatorToken() {
  constexpr absl::string_view kPairs[] = {"//", "**", "==", "!=", ">=", "<="};
  const absl::string_view rest = Rest();
  size_t size = 1;
  for (const absl::string_view pair : kPairs) {
    if (absl::StartsWith(rest, pair)) size = 2;
  }
  const char c = rest[0];
  if (size == 1 && absl::string_view("+-/*%~[](){}><=.:|,").find(c) == kNone) {
    return Error(
        absl::StrCat("unexpected character '", rest.substr(0, FirstUtf8Unit(rest).bytes), "'"));
  }
  if (c == '(' || c == '[' || c == '{') brackets_ += c;
  if (c == ')' || c == ']' || c == '}') {
    const char open = c == ')' ? '(' : c == ']' ? '[' : '{';
    if (brackets_.empty() || brackets_.back() != open) {
      return Error(absl::StrCat("unexpected '", absl::string_view(&c, 1), "'"));
    }
    brackets_.pop_back();
  }
  Add(Kind::kOperator, rest.substr(0, size));
  Skip(size);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Token>> Lexer::Run() {
  while (at_ < source_.size()) {
    const size_t tag = FindTag();
    if (tag == kNone) {
      Add(Kind::kData, Rest());
      Skip(Rest().size());
      break;
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    AddData(source_.substr(at_, tag - at_), sign, kind == '{');
    if (kind == '#') {
      if (absl::Status status = Comment(); !status.ok()) return status;
      continue;
    }
    if (kind == '%') {
      const absl::StatusOr<bool> raw = Raw();
      if (!raw.ok()) return raw.status();
      if (*raw) continue;
    }
    if (absl::Status status = Tag(kind == '{'); !status.ok()) return status;
  }
  Add(Kind::kEnd, "end of template");
  return std::move(tokens_);
}

}  // namespace

absl::StatusOr<std::vector<Token>> Tokens(absl::string_view source) {
  if (FirstIllFormedByte(source) >= 0) {
    return absl::InvalidArgumentError("template is not UTF-8");
  }
  std::string lines = absl::StrReplaceAll(source, {{"\r\n", "\n"}, {"\r", "\n"}});
  if (!lines.empty() && lines.back() == '\n') lines.pop_back();
  return Lexer(lines).Run();
}

}  // namespace vernier::jinja
