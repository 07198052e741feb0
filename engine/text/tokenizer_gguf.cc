// GGUF's tokenizer.ggml.* keys as TokenizerParts. GGUF names its pre-tokenizer instead of stating
// it; the names are llama.cpp's, the patterns those of the models' own tokenizer.json.
#include "absl/strings/str_cat.h"
#include "engine/text/scored_vocabulary.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {
namespace {

enum class Digits : uint8_t { kAsPattern, kOneByOne };
enum class Base : uint8_t { kGpt2, kLlama3, kQwen2 };

struct PreTokenizerRow {
  absl::string_view name;
  Base base;
  Digits digits = Digits::kAsPattern;  // kOneByOne: cut out first
  bool ignore_merges = false;
  bool nfc = false;
};

constexpr PreTokenizerRow kPreTokenizers[] = {
    {"gpt-2", Base::kGpt2},
    {"smollm", Base::kGpt2, Digits::kOneByOne},
    {"starcoder", Base::kGpt2, Digits::kOneByOne},
    {"refact", Base::kGpt2, Digits::kOneByOne},
    {"codeshell", Base::kGpt2, Digits::kOneByOne},
    {"llama-bpe", Base::kLlama3, Digits::kAsPattern, true},
    {"llama3", Base::kLlama3, Digits::kAsPattern, true},
    {"llama-v3", Base::kLlama3, Digits::kAsPattern, true},
    {"qwen2", Base::kQwen2, Digits::kAsPattern, false, true},
    {"deepseek-r1-qwen", Base::kQwen2, Digits::kAsPattern, false, true},
};

absl::StatusOr<PreTokenizerRow> RowOf(const std::string& name) {
  std::string known;
  for (const PreTokenizerRow& row : kPreTokenizers) {
    if (row.name == name) return row;
    absl::StrAppend(&known, known.empty() ? "" : ", ", row.name);
  }
  return absl::UnimplementedError(
      absl::StrCat("tokenizer.ggml.pre is \"", name, "\"; supported: ", known));
}

void ApplyRow(const PreTokenizerRow& row, TokenizerParts* parts) {
  if (row.digits == Digits::kOneByOne) parts->splits.push_back({R"(\p{N})"});
  switch (row.base) {
    case Base::kGpt2:
      parts->splits.push_back({kGpt2Pattern});
      break;
    case Base::kLlama3:
      parts->splits.push_back({Llama3Pattern(3)});
      break;
    case Base::kQwen2:
      parts->splits.push_back({Llama3Pattern(1)});
      break;
  }
  parts->ignore_merges = row.ignore_merges;
  if (row.nfc) parts->normalizers.push_back({NormalizerStep::Kind::kNfc});
}

absl::Status CheckId(const char* key, int32_t id, size_t count) {
  if (id >= -1 && id < static_cast<int64_t>(count)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(key, " is ", id, ", must be below the ", count, " tokens"));
}

absl::Status AddToken(const GgufVocabulary& vocabulary, size_t id, PartsBuilder* builder) {
  const std::string& spelling = vocabulary.tokens[id];
  const int32_t type = vocabulary.types.empty() ? 1 : vocabulary.types[id];
  switch (static_cast<PieceType>(type)) {
    case PieceType::kNormal:
    case PieceType::kUnused:
      return builder->AddVocabulary(static_cast<int64_t>(id), spelling);
    case PieceType::kUnknown:
    case PieceType::kControl:
    case PieceType::kUserDefined:
      return builder->AddAdded({.id = static_cast<int32_t>(id),
                                .content = spelling,
                                .special = type != static_cast<int32_t>(PieceType::kUserDefined)});
    default:
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.token_type[", id, "] is ",
                                                     type, ", which byte-level BPE has not"));
  }
}

absl::Status FillByteLevel(const GgufVocabulary& vocabulary, PartsBuilder* builder,
                           TokenizerParts* parts) {
  const auto row = RowOf(vocabulary.pre);
  if (!row.ok()) return row.status();
  ApplyRow(*row, parts);
  builder->ExpectTokens(vocabulary.tokens.size());
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (absl::Status status = AddToken(vocabulary, id, builder); !status.ok()) return status;
  }
  for (const std::string& merge : vocabulary.merges) {
    if (absl::Status status = builder->AddMerge(merge); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status FillScored(const GgufVocabulary& vocabulary, PartsBuilder* builder,
                        TokenizerParts* parts) {
  const size_t count = vocabulary.tokens.size();
  if (vocabulary.scores.size() != count) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tokenizer.ggml.scores has ", vocabulary.scores.size(), " entries for ", count, " tokens"));
  }
  ScoredVocabulary scored;
  scored.model = vocabulary.model == "t5" ? ModelKind::kUnigram : ModelKind::kCharacterBpe;
  scored.prepend_space = vocabulary.add_space_prefix;
  scored.tidy_spaces = vocabulary.remove_extra_whitespaces;
  scored.character_map = vocabulary.precompiled_charsmap;
  for (size_t id = 0; id < count; ++id) {
    const int32_t type = vocabulary.types.empty() ? 1 : vocabulary.types[id];
    scored.byte_fallback = scored.byte_fallback || type == static_cast<int32_t>(PieceType::kByte);
    scored.pieces.push_back({vocabulary.tokens[id], vocabulary.scores[id], type});
  }
  if (absl::Status status = FillFromScored(scored, builder, parts); !status.ok()) return status;
  if (vocabulary.unknown >= 0) parts->unknown = vocabulary.unknown;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerParts> PartsFromGguf(const GgufVocabulary& vocabulary) {
  const bool scored = vocabulary.model == "llama" || vocabulary.model == "t5";
  if (!scored && vocabulary.model != "gpt2") {
    return absl::UnimplementedError(
        absl::StrCat("tokenizer.ggml.model is \"", vocabulary.model,
                     "\"; supported: gpt2 (byte-level BPE), llama (BPE by scores), t5 (unigram)"));
  }
  const size_t count = vocabulary.tokens.size();
  if (!vocabulary.types.empty() && vocabulary.types.size() != count) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.token_type has ",
                                                   vocabulary.types.size(), " entries for ", count,
                                                   " tokens"));
  }
  if (count > (1 << 24)) {
    return absl::InvalidArgumentError(absl::StrCat(count, " tokens, limit ", 1 << 24));
  }
  TokenizerParts parts;
  PartsBuilder builder(&parts);
  const absl::Status filled = scored ? FillScored(vocabulary, &builder, &parts)
                                     : FillByteLevel(vocabulary, &builder, &parts);
  if (!filled.ok()) return filled;
  for (const auto& [key, id] : {std::pair("tokenizer.ggml.bos_token_id", vocabulary.begin),
                                std::pair("tokenizer.ggml.eos_token_id", vocabulary.end),
                                std::pair("tokenizer.ggml.unknown_token_id", vocabulary.unknown)}) {
    if (absl::Status status = CheckId(key, id, count); !status.ok()) return status;
  }
  if (vocabulary.add_begin && vocabulary.begin < 0) {
    return absl::InvalidArgumentError(
        "tokenizer.ggml.add_bos_token is set, but there is no tokenizer.ggml.bos_token_id");
  }
  parts.begin = vocabulary.begin;
  parts.end = vocabulary.end;
  parts.add_begin = vocabulary.add_begin;
  return parts;
}

}  // namespace vernier
