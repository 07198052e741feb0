#include "engine/text/scored_vocabulary.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/text/normalizer.h"
#include "engine/text/utf8.h"

namespace vernier {
namespace {

constexpr size_t kMaxPieceBytes = 512;
constexpr size_t kMaxPieces = 1 << 24;

absl::Status CheckPiece(const ScoredPiece& piece, size_t id) {
  if (piece.text.empty() || piece.text.size() > kMaxPieceBytes) {
    return absl::InvalidArgumentError(absl::StrCat("token ", id, " has ", piece.text.size(),
                                                   " bytes, must have 1 to ", kMaxPieceBytes));
  }
  if (FirstIllFormedByte(piece.text) >= 0) {
    return absl::InvalidArgumentError(absl::StrCat("token ", id, " is not UTF-8"));
  }
  if (!std::isfinite(piece.score)) {
    return absl::InvalidArgumentError(absl::StrCat("the score of token ", id, " is not finite"));
  }
  return absl::OkStatus();
}

absl::Status AddPiece(const ScoredPiece& piece, int32_t id, PartsBuilder* builder,
                      TokenizerParts* parts) {
  switch (static_cast<PieceType>(piece.type)) {
    case PieceType::kNormal:
    case PieceType::kUnused:
    case PieceType::kByte:
      return builder->AddVocabulary(id, piece.text);
    case PieceType::kUnknown:
      parts->unknown = id;
      [[fallthrough]];
    case PieceType::kControl:
      return builder->AddAdded({.id = id, .content = piece.text, .special = true});
    case PieceType::kUserDefined:  // found in the text as the model sees it, with its spaces shown
      return builder->AddAdded({.id = id, .content = piece.text, .normalized = true});
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the type of token ", id, " is ", piece.type, ", must be 1 to 6"));
}

bool IsNormal(const ScoredPiece& piece) {
  return piece.type == static_cast<int32_t>(PieceType::kNormal);
}

// By id of a normal piece: how many scores are better. Equal scores have one rank.
std::vector<uint32_t> Ranks(const std::vector<ScoredPiece>& pieces) {
  std::vector<float> scores;
  for (const ScoredPiece& piece : pieces) {
    if (IsNormal(piece)) scores.push_back(piece.score);
  }
  std::sort(scores.begin(), scores.end(), std::greater<>());
  std::vector<uint32_t> ranks(pieces.size());
  for (size_t id = 0; id < pieces.size(); ++id) {
    const auto at =
        std::lower_bound(scores.begin(), scores.end(), pieces[id].score, std::greater<>());
    ranks[id] = static_cast<uint32_t>(at - scores.begin());
  }
  return ranks;
}

absl::Status AddMerges(const std::vector<ScoredPiece>& pieces, const PartsBuilder& builder,
                       TokenizerParts* parts) {
  const size_t limit = pieces.size() * 16 + (64 << 10);
  const std::vector<uint32_t> ranks = Ranks(pieces);
  const auto find = [&](absl::string_view text) {
    const int32_t id = builder.Find(text);
    return id >= 0 && IsNormal(pieces[id]) ? id : -1;
  };
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (!IsNormal(pieces[id])) continue;
    const absl::string_view text = pieces[id].text;
    for (size_t cut = FirstUtf8Unit(text).bytes; cut < text.size();
         cut += FirstUtf8Unit(text.substr(cut)).bytes) {
      const int32_t left = find(text.substr(0, cut));
      const int32_t right = left < 0 ? -1 : find(text.substr(cut));
      if (right < 0) continue;
      parts->merges.push_back({left, right, static_cast<int32_t>(id), ranks[id]});
    }
    if (parts->merges.size() > limit) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the first ", id, " tokens make ", parts->merges.size(), " merges, limit ", limit));
    }
  }
  return absl::OkStatus();
}

void FillSteps(const ScoredVocabulary& vocabulary, TokenizerParts* parts) {
  using Kind = NormalizerStep::Kind;
  auto& steps = parts->normalizers;
  const std::string space(vocabulary.show_spaces ? kSpaceSymbol : " ");
  if (!vocabulary.character_map.empty()) {
    steps.push_back({.kind = Kind::kCharacterMap, .content = vocabulary.character_map});
  }
  if (vocabulary.tidy_spaces) steps.push_back({.kind = Kind::kTidySpaces});
  if (vocabulary.prepend_space) steps.push_back({.kind = Kind::kPrepend, .content = space});
  if (vocabulary.show_spaces) {
    steps.push_back({.kind = Kind::kReplace, .pattern = " ", .content = space});
  }
  auto& decoding = parts->decoding;
  decoding.token_steps = {
      {.kind = DecodeStep::Kind::kReplace, .from = std::string(kSpaceSymbol), .to = " "},
      {.kind = DecodeStep::Kind::kByteFallback}};
  if (vocabulary.prepend_space || vocabulary.tidy_spaces) {
    const int left = vocabulary.tidy_spaces ? std::numeric_limits<int>::max() : 1;
    decoding.text_steps = {{.kind = DecodeStep::Kind::kStrip, .from = " ", .left = left}};
  }
}

}  // namespace

absl::Status FillFromScored(const ScoredVocabulary& vocabulary, PartsBuilder* builder,
                            TokenizerParts* parts) {
  const std::vector<ScoredPiece>& pieces = vocabulary.pieces;
  if (pieces.size() > kMaxPieces) {
    return absl::InvalidArgumentError(absl::StrCat(pieces.size(), " tokens, limit ", kMaxPieces));
  }
  parts->model = vocabulary.model;
  parts->byte_fallback = vocabulary.byte_fallback;
  parts->fuse_unknown = true;
  builder->ExpectTokens(pieces.size());
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (absl::Status status = CheckPiece(pieces[id], id); !status.ok()) return status;
    const absl::Status status = AddPiece(pieces[id], static_cast<int32_t>(id), builder, parts);
    if (!status.ok()) return status;
  }
  FillSteps(vocabulary, parts);
  if (vocabulary.model == ModelKind::kCharacterBpe) return AddMerges(pieces, *builder, parts);
  for (const ScoredPiece& piece : pieces) {
    parts->scores.push_back(IsNormal(piece) ? static_cast<double>(piece.score)
                                            : -std::numeric_limits<double>::infinity());
  }
  return absl::OkStatus();
}

}  // namespace vernier
