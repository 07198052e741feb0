// tokenizer.json and tokenizer_config.json of Hugging Face as TokenizerParts.
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/json_value.h"
#include "engine/text/normalizer.h"
#include "engine/text/tokenizer_config.h"
#include "engine/text/tokenizer_json_steps.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {
namespace {

class JsonReader {
 public:
  JsonReader(const Json& tokenizer, const Json& config)
      : tokenizer_(tokenizer), config_(config), builder_(&parts_) {}

  absl::StatusOr<TokenizerParts> Read() {
    for (const auto step : {&JsonReader::ReadModel, &JsonReader::ReadAddedTokens,
                            &JsonReader::ReadSteps, &JsonReader::ReadEnds}) {
      if (absl::Status status = (this->*step)(); !status.ok()) return status;
    }
    return std::move(parts_);
  }

 private:
  absl::Status ReadModel();
  absl::Status ReadBpe(const Json& model);
  absl::Status ReadBpeOptions(const Json& model);
  absl::Status ReadUnigram(const Json& model);
  void ExpectTokens(const Json& vocab);
  absl::Status ReadVocabulary(const Json& vocab);
  absl::Status ReadMerge(const Json& merge);
  absl::Status ReadAddedTokens();
  absl::Status ReadSteps();
  absl::Status NormalizeAddedTokens();
  absl::Status ReadEnds();
  absl::Status ReadOnePostProcessor(const Json& processor, int depth);
  absl::Status ReadTemplate(const Json& processor);

  const Json& tokenizer_;
  const Json& config_;
  TokenizerParts parts_;
  PartsBuilder builder_;
};

absl::Status JsonReader::ReadModel() {
  const Json* model = Member(tokenizer_, "model");
  if (model == nullptr || !model->is_object()) return WrongType("model", "an object");
  std::string type = "BPE";  // old files have no type
  if (Member(*model, "type") != nullptr) {
    auto name = StringMember(*model, "type", "model");
    if (!name.ok()) return name.status();
    type = *std::move(name);
  }
  const auto byte_fallback = BoolMember(*model, "byte_fallback", "model", false);
  if (!byte_fallback.ok()) return byte_fallback.status();
  parts_.byte_fallback = *byte_fallback;
  if (type == "BPE") return ReadBpe(*model);
  if (type == "Unigram") return ReadUnigram(*model);
  return Unsupported("model.type", type);
}

absl::Status JsonReader::ReadBpeOptions(const Json& model) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (Member(model, key) == nullptr) continue;
    const auto affix = StringMember(model, key, "model");
    if (!affix.ok()) return affix.status();
    if (!affix->empty()) return Unsupported(absl::StrCat("model.", key), *affix);
  }
  if (const Json* dropout = Member(model, "dropout"); dropout != nullptr) {
    const auto* value = dropout->get_ptr<const Json::number_float_t*>();
    if (value == nullptr || *value != 0) return Unsupported("model.dropout", dropout->dump());
  }
  for (const auto& [key, flag] : {std::pair("ignore_merges", &parts_.ignore_merges),
                                  std::pair("fuse_unk", &parts_.fuse_unknown)}) {
    const auto value = BoolMember(model, key, "model", false);
    if (!value.ok()) return value.status();
    *flag = *value;
  }
  return absl::OkStatus();
}

absl::Status JsonReader::ReadBpe(const Json& model) {
  parts_.model = ModelKind::kCharacterBpe;
  if (absl::Status status = ReadBpeOptions(model); !status.ok()) return status;
  const Json* vocab = Member(model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) return WrongType("model.vocab", "an object");
  const auto merges = ArrayMember(model, "merges", "model");
  if (!merges.ok()) return merges.status();
  if (absl::Status status = ReadVocabulary(*vocab); !status.ok()) return status;
  for (const Json& merge : **merges) {
    if (absl::Status status = ReadMerge(merge); !status.ok()) return status;
  }
  if (Member(model, "unk_token") == nullptr) return absl::OkStatus();
  const auto unknown = StringMember(model, "unk_token", "model");
  if (!unknown.ok()) return unknown.status();
  // Only where it is in the vocabulary: files name one that they lack, and never need it.
  parts_.unknown = builder_.Find(*unknown);
  return absl::OkStatus();
}

absl::Status JsonReader::ReadUnigram(const Json& model) {
  parts_.model = ModelKind::kUnigram;
  parts_.fuse_unknown = true;
  const auto vocab = ArrayMember(model, "vocab", "model");
  if (!vocab.ok()) return vocab.status();
  ExpectTokens(**vocab);
  for (size_t id = 0; id < (*vocab)->size(); ++id) {
    const Json& entry = (**vocab)[id];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      return WrongType(absl::StrCat("model.vocab[", id, "]"), "a piece and its score");
    }
    const absl::Status status =
        builder_.AddVocabulary(static_cast<int64_t>(id), *entry[0].get_ptr<const std::string*>());
    if (!status.ok()) return status;
    parts_.scores.push_back(entry[1].get<double>());
  }
  const Json* unknown = Member(model, "unk_id");
  if (unknown == nullptr) return absl::OkStatus();
  const auto id = Integer(*unknown, "model.unk_id");
  if (!id.ok()) return id.status();
  if (*id < 0 || *id >= static_cast<int64_t>((*vocab)->size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.unk_id is ", *id, ", must be below the ", (*vocab)->size(), " pieces"));
  }
  parts_.unknown = static_cast<int32_t>(*id);
  parts_.scores[*id] = -std::numeric_limits<double>::infinity();
  return absl::OkStatus();
}

void JsonReader::ExpectTokens(const Json& vocab) {
  const Json* added = Member(tokenizer_, "added_tokens");
  builder_.ExpectTokens(vocab.size() + (added == nullptr ? 0 : added->size()));
}

absl::Status JsonReader::ReadVocabulary(const Json& vocab) {
  ExpectTokens(vocab);
  const auto* entries = vocab.get_ptr<const Json::object_t*>();
  for (const auto& [spelling, value] : *entries) {
    const auto id = Integer(value, "an id in model.vocab");
    if (!id.ok()) return id.status();
    if (absl::Status status = builder_.AddVocabulary(*id, spelling); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status JsonReader::ReadMerge(const Json& merge) {
  if (const auto* pair = merge.get_ptr<const Json::string_t*>(); pair != nullptr) {
    return builder_.AddMerge(*pair);
  }
  const auto* sides = merge.get_ptr<const Json::array_t*>();
  if (sides == nullptr || sides->size() != 2 || !(*sides)[0].is_string() ||
      !(*sides)[1].is_string()) {
    return WrongType(absl::StrCat("model.merges[", parts_.merges.size(), "]"),
                     "\"left right\" or [\"left\", \"right\"]");
  }
  return builder_.AddMerge(*(*sides)[0].get_ptr<const Json::string_t*>(),
                           *(*sides)[1].get_ptr<const Json::string_t*>());
}

absl::Status JsonReader::ReadAddedTokens() {
  const Json* added = Member(tokenizer_, "added_tokens");
  if (added == nullptr) return AddConfigTokens(config_, &builder_);
  if (!added->is_array()) return WrongType("added_tokens", "an array");
  absl::flat_hash_map<int64_t, size_t> seen;
  for (size_t i = 0; i < added->size(); ++i) {
    const Json& token = (*added)[i];
    const std::string path = absl::StrCat("added_tokens[", i, "]");
    const Json* member = Member(token, "id");
    if (member == nullptr) return WrongType(path, "an object with an id");
    const auto id = Integer(*member, absl::StrCat(path, ".id"));
    if (!id.ok()) return id.status();
    if (const auto [it, inserted] = seen.emplace(*id, i); !inserted) {
      return absl::InvalidArgumentError(
          absl::StrCat("added_tokens[", it->second, "] and [", i, "] have the same id ", *id));
    }
    if (absl::Status status = AddJsonToken(token, *id, path, &builder_); !status.ok()) {
      return status;
    }
  }
  return AddConfigTokens(config_, &builder_);
}

absl::Status JsonReader::ReadSteps() {
  for (const auto read : {&ReadNormalizer, &ReadPreTokenizer, &ReadDecoder}) {
    if (absl::Status status = read(tokenizer_, &parts_); !status.ok()) return status;
  }
  return NormalizeAddedTokens();
}

absl::Status JsonReader::NormalizeAddedTokens() {
  const auto normalizer = Normalizer::Create(parts_.normalizers);
  if (!normalizer.ok()) return normalizer.status();
  for (AddedToken& token : parts_.added) {
    if (!token.normalized) continue;
    auto normal = normalizer->Apply(token.content);
    if (!normal.ok()) return normal.status();
    if (normal->has_value()) token.content = **std::move(normal);
    if (token.content.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("added token ", token.id, " is empty behind the normalizer"));
    }
  }
  return absl::OkStatus();
}

// {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}: a token before the
// text.
absl::Status JsonReader::ReadTemplate(const Json& processor) {
  const Json* single = Member(processor, "single");
  if (single == nullptr || !single->is_array())
    return WrongType("post_processor.single", "an array");
  bool text_seen = false;
  for (const Json& part : *single) {
    const Json* special = Member(part, "SpecialToken");
    if (special == nullptr) {
      if (Member(part, "Sequence") == nullptr || text_seen) {
        return WrongType("post_processor.single", "special tokens and one sequence");
      }
      text_seen = true;
      continue;
    }
    if (text_seen) return Unsupported("post_processor", "TemplateProcessing that appends a token");
    if (parts_.add_begin) {
      return Unsupported("post_processor", "TemplateProcessing that prepends two tokens");
    }
    const auto spelling = StringMember(*special, "id", "post_processor.single.SpecialToken");
    if (!spelling.ok()) return spelling.status();
    parts_.begin = builder_.Find(*spelling);
    if (parts_.begin < 0) {
      return absl::InvalidArgumentError(
          "post_processor prepends a token that the vocabulary lacks");
    }
    parts_.add_begin = true;
  }
  return absl::OkStatus();
}

absl::Status JsonReader::ReadOnePostProcessor(const Json& processor, int depth) {
  const auto type = StringMember(processor, "type", "post_processor");
  if (!type.ok()) return type.status();
  if (*type == "ByteLevel") return absl::OkStatus();  // trims offsets, which we have not
  if (*type == "TemplateProcessing") return ReadTemplate(processor);
  const Json* list = Member(processor, "processors");
  if (*type != "Sequence" || depth > 4) return Unsupported("post_processor", *type);
  if (list == nullptr || !list->is_array())
    return WrongType("post_processor.processors", "an array");
  for (const Json& one : *list) {
    if (absl::Status status = ReadOnePostProcessor(one, depth + 1); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status JsonReader::ReadEnds() {
  if (absl::Status status = ReadConfigEnds(config_, builder_, &parts_); !status.ok()) return status;
  if (const Json* processor = Member(tokenizer_, "post_processor"); processor != nullptr) {
    if (absl::Status status = ReadOnePostProcessor(*processor, 0); !status.ok()) return status;
  }
  // Where tokenizer_config.json states it, that counts.
  return ReadAddBegin(config_, &parts_);
}

}  // namespace

absl::StatusOr<TokenizerParts> PartsFromTokenizerJson(absl::string_view tokenizer_json,
                                                      absl::string_view tokenizer_config_json) {
  const auto tokenizer = ParseObject("tokenizer.json", tokenizer_json);
  if (!tokenizer.ok()) return tokenizer.status();
  const auto config = ParseObject("tokenizer_config.json",
                                  tokenizer_config_json.empty() ? "{}" : tokenizer_config_json);
  if (!config.ok()) return config.status();
  return JsonReader(*tokenizer, *config).Read();
}

}  // namespace vernier
