// SentencePiece's tokenizer.model as TokenizerParts.
//
// Source: sentencepiece_model.proto of google/sentencepiece.
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/scored_vocabulary.h"
#include "engine/text/tokenizer_config.h"
#include "engine/text/tokenizer_parts.h"
#include "engine/text/wire_reader.h"

namespace vernier {
namespace {

constexpr size_t kMaxModelBytes = 128 << 20;

struct SentencePieceFile {
  ScoredVocabulary vocabulary{.model = ModelKind::kUnigram};
  int64_t model_type = 1;  // the proto's default, unigram
  bool spaces_behind = false;
  int64_t begin = 1;
  int64_t end = 2;
};

// Calls `visit` with every field of `message`; stops at its first error.
template <typename Visit>
absl::Status ForEachField(absl::string_view message, const Visit& visit) {
  WireReader reader(message);
  while (true) {
    const auto field = reader.Next();
    if (!field.ok()) return field.status();
    if (!field->has_value()) return absl::OkStatus();
    if (absl::Status status = visit(**field); !status.ok()) return status;
  }
}

absl::Status CheckType(const WireField& field, WireField::Type type, absl::string_view name) {
  if (field.type == type) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " has the wire type ",
                                                 static_cast<int>(field.type), ", must have ",
                                                 static_cast<int>(type)));
}

// int32 on the wire is a varint of 64 bits, sign and all.
int64_t AsInt32(uint64_t value) { return static_cast<int32_t>(static_cast<uint32_t>(value)); }

absl::Status ReadPiece(absl::string_view message, ScoredPiece* piece) {
  return ForEachField(message, [&](const WireField& field) {
    absl::Status status;
    if (field.number == 1) {
      status = CheckType(field, WireField::Type::kBytes, "pieces.piece");
      piece->text = std::string(field.bytes);
    } else if (field.number == 2) {
      status = CheckType(field, WireField::Type::kFixed32, "pieces.score");
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece->score, &bits, sizeof(piece->score));
    } else if (field.number == 3) {
      status = CheckType(field, WireField::Type::kVarint, "pieces.type");
      piece->type = static_cast<int32_t>(AsInt32(field.value));
    }
    return status;
  });
}

absl::Status ReadTrainer(absl::string_view message, SentencePieceFile* file) {
  return ForEachField(message, [&](const WireField& field) {
    const std::pair<uint32_t, int64_t*> numbers[] = {
        {3, &file->model_type}, {41, &file->begin}, {42, &file->end}};
    const std::pair<uint32_t, bool*> flags[] = {{24, &file->spaces_behind},
                                                {35, &file->vocabulary.byte_fallback}};
    for (const auto& [number, value] : numbers) {
      if (field.number != number) continue;
      *value = AsInt32(field.value);
      return CheckType(field, WireField::Type::kVarint, absl::StrCat("trainer_spec.", number));
    }
    for (const auto& [number, flag] : flags) {
      if (field.number != number) continue;
      *flag = field.value != 0;
      return CheckType(field, WireField::Type::kVarint, absl::StrCat("trainer_spec.", number));
    }
    return absl::OkStatus();
  });
}

absl::Status ReadNormalizerSpec(absl::string_view message, ScoredVocabulary* vocabulary) {
  return ForEachField(message, [&](const WireField& field) {
    const std::pair<uint32_t, bool*> flags[] = {{3, &vocabulary->prepend_space},
                                                {4, &vocabulary->tidy_spaces},
                                                {5, &vocabulary->show_spaces}};
    for (const auto& [number, flag] : flags) {
      if (field.number != number) continue;
      *flag = field.value != 0;
      return CheckType(field, WireField::Type::kVarint, absl::StrCat("normalizer_spec.", number));
    }
    if (field.number != 2) return absl::OkStatus();
    vocabulary->character_map = std::string(field.bytes);
    return CheckType(field, WireField::Type::kBytes, "normalizer_spec.precompiled_charsmap");
  });
}

absl::StatusOr<SentencePieceFile> ReadFile(absl::string_view bytes) {
  SentencePieceFile file;
  const absl::Status status = ForEachField(bytes, [&](const WireField& field) {
    if (field.number < 1 || field.number > 3) return absl::OkStatus();
    constexpr const char* kNames[] = {"pieces", "trainer_spec", "normalizer_spec"};
    const absl::Status type = CheckType(field, WireField::Type::kBytes, kNames[field.number - 1]);
    if (!type.ok()) return type;
    if (field.number == 2) return ReadTrainer(field.bytes, &file);
    if (field.number == 3) return ReadNormalizerSpec(field.bytes, &file.vocabulary);
    return ReadPiece(field.bytes, &file.vocabulary.pieces.emplace_back());
  });
  if (!status.ok()) return status;
  if (file.vocabulary.pieces.empty()) return absl::InvalidArgumentError("no pieces");
  if (file.spaces_behind) {
    return absl::UnimplementedError("treat_whitespace_as_suffix is not supported");
  }
  if (file.model_type != 1 && file.model_type != 2) {
    return absl::UnimplementedError(absl::StrCat("model_type ", file.model_type,
                                                 " is not supported; 1 (unigram), 2 (BPE) are"));
  }
  if (file.model_type == 2) file.vocabulary.model = ModelKind::kCharacterBpe;
  return file;
}

// An id of a control token, -1: none.
int32_t EndOf(const ScoredVocabulary& vocabulary, int64_t id) {
  const bool control = id >= 0 && id < static_cast<int64_t>(vocabulary.pieces.size()) &&
                       vocabulary.pieces[id].type == static_cast<int32_t>(PieceType::kControl);
  return control ? static_cast<int32_t>(id) : -1;
}

absl::Status Fill(absl::string_view model, absl::string_view config_text, TokenizerParts* parts) {
  if (model.size() > kMaxModelBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file has ", model.size(), " bytes, limit ", kMaxModelBytes));
  }
  const auto file = ReadFile(model);
  if (!file.ok()) return file.status();
  PartsBuilder builder(parts);
  absl::Status status = FillFromScored(file->vocabulary, &builder, parts);
  if (!status.ok()) return status;
  parts->begin = EndOf(file->vocabulary, file->begin);
  parts->end = EndOf(file->vocabulary, file->end);
  parts->add_begin = parts->begin >= 0;  // as Llama's tokenizer class, where nothing else is said
  const auto config =
      ParseObject("tokenizer_config.json", config_text.empty() ? "{}" : config_text);
  if (!config.ok()) return config.status();
  status = AddConfigTokens(*config, &builder);
  if (status.ok()) status = ReadConfigEnds(*config, builder, parts);
  return status.ok() ? ReadAddBegin(*config, parts) : status;
}

}  // namespace

absl::StatusOr<TokenizerParts> PartsFromSentencePiece(absl::string_view model,
                                                      absl::string_view tokenizer_config_json) {
  TokenizerParts parts;
  const absl::Status status = Fill(model, tokenizer_config_json, &parts);
  if (status.ok()) return parts;
  return absl::Status(status.code(), absl::StrCat("tokenizer.model: ", status.message()));
}

}  // namespace vernier
