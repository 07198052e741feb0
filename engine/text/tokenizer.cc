// Tokenizer over TokenizerParts: added tokens, normalizer, pieces, model; and Create.
#include "engine/text/tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/text/added_tokens.h"
#include "engine/text/decoding.h"
#include "engine/text/metaspace.h"
#include "engine/text/normalizer.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/token_model.h"
#include "engine/text/tokenizer_parts.h"
#include "engine/text/utf8.h"

namespace vernier {
namespace {

constexpr size_t kMaxTextBytes = 1 << 28;

// What `ranges` of a text look like from `part` of it.
TemplateRanges Within(const TemplateRanges& ranges, TextRange part) {
  TemplateRanges out;
  auto it = std::lower_bound(ranges.begin(), ranges.end(), part.begin,
                             [](const TextRange& a, uint32_t begin) { return a.end <= begin; });
  for (; it != ranges.end() && it->begin < part.end; ++it) {
    out.push_back(
        {std::max(it->begin, part.begin) - part.begin, std::min(it->end, part.end) - part.begin});
  }
  return out;
}

PartPlace PlaceOf(TextRange range) {
  return range.begin == 0 ? PartPlace::kFirst : PartPlace::kLater;
}

class TokenizerOfParts final : public Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(TokenizerParts parts);

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text, Special special,
                                              Begin begin) const override;
  absl::StatusOr<std::vector<int32_t>> EncodeSpans(std::span<const PromptSpan> spans,
                                                   Begin begin) const override;
  std::string TokenBytes(int32_t id, bool special_as_text) const override;
  std::string Decode(std::span<const int32_t> ids, bool special_as_text) const override;
  int32_t vocab_size() const override { return model_.size(); }
  bool IsSpecial(int32_t id) const override { return id >= 0 && id < vocab_size() && special_[id]; }
  int32_t FindToken(absl::string_view spelling) const override;
  int32_t begin_token() const override { return parts_.begin; }
  int32_t end_token() const override { return parts_.end; }
  bool adds_begin() const override { return parts_.add_begin; }
  int64_t bytes() const override;

 private:
  // One call's scratch memory and result.
  struct Run {
    explicit Run(const PreTokenizer* pre_tokenizer) : pieces(pre_tokenizer) {}
    PreTokenizerRun pieces;
    TokenModelScratch model;
    std::string prefixed;
    std::vector<int32_t> ids;
  };

  TokenizerOfParts(TokenizerParts parts, Normalizer normalizer, PreTokenizer pre_tokenizer,
                   TokenModel model);
  absl::StatusOr<std::vector<int32_t>> EncodeText(absl::string_view text,
                                                  const TemplateRanges& ranges, Begin begin) const;
  absl::Status EncodePart(absl::string_view text, const TemplateRanges& ranges, PartPlace place,
                          Run* run) const;
  absl::Status EncodePlain(absl::string_view text, PartPlace place, Run* run) const;

  const TokenizerParts parts_;  // without what the members below have
  const Normalizer normalizer_;
  const PreTokenizer pre_tokenizer_;
  const TokenModel model_;
  AddedTokenFinder raw_added_;                           // looked for in the text as it comes
  AddedTokenFinder normalized_added_;                    // and behind the normalizer
  std::vector<bool> special_;                            // by id
  absl::flat_hash_map<absl::string_view, int32_t> ids_;  // by spelling, which lie in parts_
};

std::vector<AddedToken> Select(const TokenizerParts& parts, bool normalized) {
  std::vector<AddedToken> out;
  for (const AddedToken& token : parts.added) {
    if (token.normalized == normalized) out.push_back(token);
  }
  return out;
}

TokenizerParts WithoutLists(TokenizerParts parts) {
  parts.merges = {};
  parts.added = {};
  parts.scores = {};
  parts.normalizers = {};
  return parts;
}

TokenizerOfParts::TokenizerOfParts(TokenizerParts parts, Normalizer normalizer,
                                   PreTokenizer pre_tokenizer, TokenModel model)
    : parts_(WithoutLists(parts)),
      normalizer_(std::move(normalizer)),
      pre_tokenizer_(std::move(pre_tokenizer)),
      model_(std::move(model)),
      raw_added_(Select(parts, false)),
      normalized_added_(Select(parts, true)),
      special_(parts.spellings.size()) {
  for (const AddedToken& token : parts.added) special_[token.id] = token.special;
  for (size_t id = 0; id < parts_.spellings.size(); ++id) {
    if (parts_.used[id]) ids_.emplace(parts_.spellings[id], static_cast<int32_t>(id));
  }
}

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerOfParts::Make(TokenizerParts parts) {
  auto pre_tokenizer = PreTokenizer::Create(parts.splits);
  if (!pre_tokenizer.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("pre_tokenizer: ", pre_tokenizer.status().message()));
  }
  auto normalizer = Normalizer::Create(parts.normalizers);
  if (!normalizer.ok()) return normalizer.status();
  auto model = TokenModel::Create(parts);
  if (!model.ok()) return model.status();
  return std::unique_ptr<Tokenizer>(new TokenizerOfParts(
      std::move(parts), *std::move(normalizer), *std::move(pre_tokenizer), *std::move(model)));
}

absl::StatusOr<std::vector<int32_t>> TokenizerOfParts::Encode(absl::string_view text,
                                                              Special special, Begin begin) const {
  TemplateRanges ranges;
  if (special == Special::kRecognise && text.size() <= kMaxTextBytes) {
    ranges.push_back({0, static_cast<uint32_t>(text.size())});
  }
  return EncodeText(text, ranges, begin);
}

absl::StatusOr<std::vector<int32_t>> TokenizerOfParts::EncodeSpans(
    std::span<const PromptSpan> spans, Begin begin) const {
  std::string text;
  TemplateRanges ranges;
  for (const PromptSpan& span : spans) {
    if (span.text.size() > kMaxTextBytes - text.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("prompt has more than ", kMaxTextBytes, " bytes"));
    }
    const auto from = static_cast<uint32_t>(text.size());
    text += span.text;
    if (span.kind != PromptSpan::Kind::kTemplate || span.text.empty()) continue;
    if (!ranges.empty() && ranges.back().end == from) {
      ranges.back().end = static_cast<uint32_t>(text.size());
    } else {
      ranges.push_back({from, static_cast<uint32_t>(text.size())});
    }
  }
  return EncodeText(text, ranges, begin);
}

absl::StatusOr<std::vector<int32_t>> TokenizerOfParts::EncodeText(absl::string_view text,
                                                                  const TemplateRanges& ranges,
                                                                  Begin begin) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("text has ", text.size(), " bytes, limit ", kMaxTextBytes));
  }
  if (const int64_t offset = FirstIllFormedByte(text); offset >= 0) {
    return absl::InvalidArgumentError(absl::StrCat("text is not UTF-8 at byte ", offset));
  }
  Run run(&pre_tokenizer_);
  run.ids.reserve(text.size() / 3 + 1);
  if (begin == Begin::kAsConfigured && parts_.add_begin) run.ids.push_back(parts_.begin);
  for (const AddedSplit& split : raw_added_.Split(text, ranges)) {
    if (split.id >= 0) {
      run.ids.push_back(split.id);
      continue;
    }
    const absl::Status status =
        EncodePart(text.substr(split.range.begin, split.range.end - split.range.begin),
                   Within(ranges, split.range), PlaceOf(split.range), &run);
    if (!status.ok()) return status;
  }
  return std::move(run.ids);
}

absl::Status TokenizerOfParts::EncodePart(absl::string_view text, const TemplateRanges& ranges,
                                          PartPlace place, Run* run) const {
  const auto normal = normalizer_.Apply(text);
  if (!normal.ok()) return normal.status();
  const bool changed = normal->has_value();
  const absl::string_view whole = changed ? absl::string_view(**normal) : text;
  if (normalized_added_.empty()) return EncodePlain(whole, place, run);
  // Where the normalizer moved bytes, nothing says any more which of them are template text: no
  // special token is recognised there.
  for (const AddedSplit& split :
       normalized_added_.Split(whole, changed ? TemplateRanges() : ranges)) {
    if (split.id >= 0) {
      run->ids.push_back(split.id);
      continue;
    }
    const absl::Status status =
        EncodePlain(whole.substr(split.range.begin, split.range.end - split.range.begin),
                    PlaceOf(split.range) == PartPlace::kFirst ? place : PartPlace::kLater, run);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status TokenizerOfParts::EncodePlain(absl::string_view text, PartPlace place,
                                           Run* run) const {
  if (parts_.add_prefix_space && !text.empty() && text[0] != ' ') {
    run->prefixed = absl::StrCat(" ", text);
    text = run->prefixed;
  }
  if (parts_.metaspace.has_value()) {
    run->prefixed = WithMetaspace(*parts_.metaspace, text, place);
    text = run->prefixed;
  }
  const auto pieces = run->pieces.Split(text);
  if (!pieces.ok()) return pieces.status();
  for (const TextRange piece : **pieces) {
    model_.Encode(text.substr(piece.begin, piece.end - piece.begin), &run->model, &run->ids);
  }
  return absl::OkStatus();
}

std::string TokenizerOfParts::TokenBytes(int32_t id, bool special_as_text) const {
  if (id < 0 || id >= vocab_size()) return "";
  if (special_[id] && !special_as_text) return "";
  return std::string(model_.Bytes(id));
}

std::string TokenizerOfParts::Decode(std::span<const int32_t> ids, bool special_as_text) const {
  std::string bytes;
  bool first = true;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size() || (special_[id] && !special_as_text)) continue;
    if (first && !parts_.decoding.dropped_from_first.empty()) {
      bytes += DecodedToken(
          parts_.decoding.token_steps,
          absl::StrReplaceAll(parts_.spellings[id], {{parts_.decoding.dropped_from_first, ""}}));
    } else {
      const absl::string_view token = model_.Bytes(id);
      bytes.append(token.data(), token.size());
    }
    first = false;
  }
  const absl::string_view text = DecodedText(parts_.decoding.text_steps, bytes);
  return FirstIllFormedByte(text) < 0 ? std::string(text) : MendUtf8(text);
}

int32_t TokenizerOfParts::FindToken(absl::string_view spelling) const {
  const auto it = ids_.find(spelling);
  return it == ids_.end() ? -1 : it->second;
}

int64_t TokenizerOfParts::bytes() const {
  int64_t total = model_.bytes() + raw_added_.bytes() + normalized_added_.bytes();
  for (const std::string& spelling : parts_.spellings) {
    total += static_cast<int64_t>(sizeof(spelling));
    if (spelling.capacity() >= sizeof(spelling) / 2) {
      total += static_cast<int64_t>(spelling.capacity()) + 1;
    }
  }
  return total + static_cast<int64_t>(ids_.capacity() * (sizeof(decltype(ids_)::value_type) + 1));
}

absl::StatusOr<TokenizerParts> PartsFrom(const TokenizerSource& source) {
  if (source.kind == TokenizerSource::Kind::kHuggingFace) {
    return PartsFromTokenizerJson(source.tokenizer_json, source.tokenizer_config_json);
  }
  if (source.kind == TokenizerSource::Kind::kSentencePiece) {
    return PartsFromSentencePiece(source.sentencepiece_model, source.tokenizer_config_json);
  }
  return PartsFromGguf(source.gguf);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(const TokenizerSource& source) {
  if (source.kind == TokenizerSource::Kind::kNone) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the model has no tokenizer: ", source.reason.empty() ? "none found" : source.reason));
  }
  auto parts = PartsFrom(source);
  if (!parts.ok()) return parts.status();
  return TokenizerOfParts::Make(*std::move(parts));
}

}  // namespace vernier
