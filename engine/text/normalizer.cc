#include "engine/text/normalizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/text/character_map.h"
#include "engine/text/normalize.h"
#include "engine/text/utf8.h"

namespace vernier {
namespace {

using Kind = NormalizerStep::Kind;
using MaybeText = std::optional<std::string>;

constexpr size_t kMaxGrowth = 32;  // NFKC's is 11
constexpr size_t kMaxGrowthBytes = 64 << 10;
constexpr size_t kMaxBytes = 1 << 28;

absl::Status TooLong(size_t limit_bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the tokenizer's normalizer makes more than ", limit_bytes, " bytes of a text"));
}

absl::StatusOr<MaybeText> ReplaceLiteral(const NormalizerStep& step, absl::string_view text,
                                         size_t limit_bytes) {
  size_t at = text.find(step.pattern);
  if (at == absl::string_view::npos) return MaybeText();
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  size_t done = 0;
  for (; at != absl::string_view::npos; at = text.find(step.pattern, done)) {
    out.append(text.data() + done, at - done);
    out += step.content;
    if (out.size() > limit_bytes) return TooLong(limit_bytes);
    done = at + step.pattern.size();
  }
  out.append(text.data() + done, text.size() - done);
  return MaybeText(std::move(out));
}

absl::StatusOr<MaybeText> ReplaceMatches(const NormalizerStep& step, const Pattern& pattern,
                                         absl::string_view text, size_t limit_bytes) {
  Matcher matcher(&pattern);
  std::string out;
  uint32_t done = 0, from = 0;
  bool changed = false;
  while (from <= text.size()) {
    TextRange found;
    const Matcher::Result result = matcher.Find(text, from, &found);
    if (result == Matcher::Result::kNone) break;
    if (result == Matcher::Result::kLimit) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the tokenizer's normalizer exceeds its limit of steps at byte ", from,
                       " of ", text.size()));
    }
    const bool empty = found.begin == found.end;
    if (!empty || !changed || found.begin > done) {  // an empty match never touches the one before
      changed = true;
      out.append(text.data() + done, found.begin - done);
      out += step.content;
      if (out.size() > limit_bytes) return TooLong(limit_bytes);
      done = found.end;
    }
    from = found.end;
    if (!empty) continue;
    if (from >= text.size()) break;
    from += static_cast<uint32_t>(FirstUtf8Unit(text.substr(from)).bytes);
  }
  if (!changed) return MaybeText();
  out.append(text.data() + done, text.size() - done);
  return MaybeText(std::move(out));
}

std::string TidySpaces(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  absl::string_view kept = out;
  while (absl::ConsumeSuffix(&kept, " ") || absl::ConsumeSuffix(&kept, kSpaceSymbol)) {
  }
  out.resize(kept.size());
  return out;
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Create(const std::vector<NormalizerStep>& steps) {
  Normalizer out;
  for (const NormalizerStep& step : steps) {
    std::shared_ptr<const Pattern> pattern;
    if (step.kind == Kind::kReplace) {
      if (step.pattern.empty()) {
        return absl::InvalidArgumentError("normalizer Replace has an empty pattern");
      }
      if (step.syntax == Pattern::Syntax::kRegex) {
        auto compiled = Pattern::Compile(step.pattern, step.syntax);
        if (!compiled.ok()) return compiled.status();
        pattern = *std::move(compiled);
      }
    }
    if (step.kind == Kind::kCharacterMap) {
      if (absl::Status status = CheckCharacterMap(step.content); !status.ok()) return status;
    } else if (FirstIllFormedByte(step.content) >= 0 || FirstIllFormedByte(step.pattern) >= 0) {
      return absl::InvalidArgumentError("a normalizer's text is not UTF-8");
    }
    out.steps_.push_back({step, std::move(pattern)});
  }
  return out;
}

absl::StatusOr<std::optional<std::string>> Normalizer::Apply(absl::string_view text) const {
  const size_t limit_bytes = std::min(text.size() * kMaxGrowth + kMaxGrowthBytes, kMaxBytes);
  MaybeText kept;  // what `text` shows, once a step changed it
  for (const auto& [step, pattern] : steps_) {
    absl::StatusOr<MaybeText> next = MaybeText();
    switch (step.kind) {
      case Kind::kNfc:
        next = NormalizedIfChanged(text, NormalForm::kNfc);
        break;
      case Kind::kNfkc:
        next = NormalizedIfChanged(text, NormalForm::kNfkc);
        break;
      case Kind::kLowercase:
        next = MaybeText(LowerCase(text));
        break;
      case Kind::kPrepend:
        if (!text.empty()) next = MaybeText(absl::StrCat(step.content, text));
        break;
      case Kind::kReplace:
        next = pattern == nullptr ? ReplaceLiteral(step, text, limit_bytes)
                                  : ReplaceMatches(step, *pattern, text, limit_bytes);
        break;
      case Kind::kTidySpaces:
        next = MaybeText(TidySpaces(text));
        break;
      case Kind::kCharacterMap: {
        std::string mapped;
        if (!AppendMapped(step.content, text, limit_bytes, &mapped)) return TooLong(limit_bytes);
        next = MaybeText(std::move(mapped));
        break;
      }
    }
    if (!next.ok()) return next.status();
    if (!next->has_value()) continue;
    if ((*next)->size() > limit_bytes) return TooLong(limit_bytes);
    kept = *std::move(next);
    text = *kept;
  }
  return kept;
}

}  // namespace vernier
