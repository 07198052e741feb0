// tokenizer.json and tokenizer_config.json of Hugging Face as TokenizerParts.
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/text/tokenizer_parts.h"

namespace vernier {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxJsonBytes = 128 << 20;
constexpr int kMaxDepth = 64;

// Brackets outside strings, so that a parser never sees a deep file.
int Depth(absl::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

absl::StatusOr<Json> ParseObject(absl::string_view name, absl::string_view text) {
  if (text.size() > kMaxJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has ", text.size(), " bytes, limit ", kMaxJsonBytes));
  }
  if (const int depth = Depth(text); depth > kMaxDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is nested ", depth, " deep, limit ", kMaxDepth));
  }
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not a JSON object"));
  }
  return json;
}

// Null where the member is absent or null.
const Json* Member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::Status WrongType(absl::string_view path, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(path, " must be ", expected));
}

absl::StatusOr<bool> BoolMember(const Json& object, const char* key, absl::string_view path,
                                bool absent) {
  const Json* value = Member(object, key);
  if (value == nullptr) return absent;
  const bool* flag = value->get_ptr<const Json::boolean_t*>();
  if (flag == nullptr) return WrongType(absl::StrCat(path, ".", key), "true or false");
  return *flag;
}

absl::StatusOr<std::string> StringMember(const Json& object, const char* key,
                                         absl::string_view path) {
  const Json* value = Member(object, key);
  const std::string* text = value == nullptr ? nullptr : value->get_ptr<const Json::string_t*>();
  if (text == nullptr) return WrongType(absl::StrCat(path, ".", key), "a string");
  return *text;
}

absl::StatusOr<int64_t> Id(const Json& value, absl::string_view path) {
  if (!value.is_number_integer()) return WrongType(path, "an integer");
  if (const auto* id = value.get_ptr<const Json::number_unsigned_t*>(); id != nullptr) {
    return *id > (1u << 30) ? int64_t{1} << 30 : static_cast<int64_t>(*id);
  }
  return *value.get_ptr<const Json::number_integer_t*>();
}

absl::Status Unsupported(absl::string_view path, absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat(path, " ", what, " is not supported"));
}

class JsonReader {
 public:
  JsonReader(const Json& tokenizer, const Json& config)
      : tokenizer_(tokenizer), config_(config), builder_(&parts_) {}

  absl::StatusOr<TokenizerParts> Read() {
    for (const auto step :
         {&JsonReader::ReadModel, &JsonReader::ReadAddedTokens, &JsonReader::ReadConfigAddedTokens,
          &JsonReader::ReadNormalizer, &JsonReader::ReadPreTokenizer, &JsonReader::ReadDecoder,
          &JsonReader::ReadConfigTokens, &JsonReader::ReadPostProcessor}) {
      if (absl::Status status = (this->*step)(); !status.ok()) return status;
    }
    return std::move(parts_);
  }

 private:
  absl::Status ReadModel();
  absl::Status CheckModelOptions(const Json& model);
  absl::Status ReadVocabulary(const Json& vocab);
  absl::Status ReadMerge(const Json& merge);
  absl::Status ReadAddedTokens();
  absl::Status ReadConfigAddedTokens();
  absl::Status ReadAddedToken(const Json& token, int64_t id, absl::string_view path);
  absl::Status ReadNormalizer();
  absl::Status ReadOneNormalizer(const Json& normalizer, int depth);
  absl::Status ReadPreTokenizer();
  absl::Status ReadOnePreTokenizer(const Json& pre_tokenizer, int depth);
  absl::Status ReadSplit(const Json& split);
  absl::Status ReadByteLevel(const Json& byte_level);
  absl::Status ReadDecoder();
  absl::Status ReadConfigTokens();
  absl::StatusOr<int32_t> ConfigToken(const char* key);
  absl::Status ReadPostProcessor();
  absl::Status ReadOnePostProcessor(const Json& processor, int depth);
  absl::Status ReadTemplate(const Json& processor);

  const Json& tokenizer_;
  const Json& config_;
  TokenizerParts parts_;
  PartsBuilder builder_;
  bool byte_level_ = false;
};

absl::Status JsonReader::CheckModelOptions(const Json& model) {
  if (const Json* type = Member(model, "type"); type != nullptr) {
    const auto name = StringMember(model, "type", "model");
    if (!name.ok()) return name.status();
    if (*name != "BPE") return Unsupported("model.type", *name);
  }
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
  const auto byte_fallback = BoolMember(model, "byte_fallback", "model", false);
  if (!byte_fallback.ok()) return byte_fallback.status();
  if (*byte_fallback) return Unsupported("model.byte_fallback", "true");
  const auto ignore_merges = BoolMember(model, "ignore_merges", "model", false);
  if (!ignore_merges.ok()) return ignore_merges.status();
  parts_.ignore_merges = *ignore_merges;
  return absl::OkStatus();
}

absl::Status JsonReader::ReadVocabulary(const Json& vocab) {
  const Json* added = Member(tokenizer_, "added_tokens");
  builder_.ExpectTokens(vocab.size() + (added == nullptr ? 0 : added->size()));
  const auto* entries = vocab.get_ptr<const Json::object_t*>();
  for (const auto& [spelling, value] : *entries) {
    const auto id = Id(value, "an id in model.vocab");
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

absl::Status JsonReader::ReadModel() {
  const Json* model = Member(tokenizer_, "model");
  if (model == nullptr || !model->is_object()) return WrongType("model", "an object");
  if (absl::Status status = CheckModelOptions(*model); !status.ok()) return status;
  const Json* vocab = Member(*model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) return WrongType("model.vocab", "an object");
  const Json* merges = Member(*model, "merges");
  if (merges == nullptr || !merges->is_array()) return WrongType("model.merges", "an array");
  if (absl::Status status = ReadVocabulary(*vocab); !status.ok()) return status;
  for (const Json& merge : *merges) {
    if (absl::Status status = ReadMerge(merge); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status JsonReader::ReadAddedToken(const Json& token, int64_t id, absl::string_view path) {
  if (id < 0 || id >= (1 << 30)) return WrongType(absl::StrCat(path, ".id"), "in [0, 2^30)");
  AddedToken added;
  added.id = static_cast<int32_t>(id);
  auto content = StringMember(token, "content", path);
  if (!content.ok()) return content.status();
  added.content = *std::move(content);
  for (const auto& [key, flag] :
       {std::pair("special", &added.special), std::pair("normalized", &added.normalized),
        std::pair("single_word", &added.single_word), std::pair("lstrip", &added.lstrip),
        std::pair("rstrip", &added.rstrip)}) {
    const auto value = BoolMember(token, key, path, false);
    if (!value.ok()) return value.status();
    *flag = *value;
  }
  return builder_.AddAdded(std::move(added));
}

absl::Status JsonReader::ReadAddedTokens() {
  const Json* added = Member(tokenizer_, "added_tokens");
  if (added == nullptr) return absl::OkStatus();
  if (!added->is_array()) return WrongType("added_tokens", "an array");
  absl::flat_hash_map<int64_t, size_t> seen;
  for (size_t i = 0; i < added->size(); ++i) {
    const Json& token = (*added)[i];
    const std::string path = absl::StrCat("added_tokens[", i, "]");
    const Json* member = Member(token, "id");
    if (member == nullptr) return WrongType(path, "an object with an id");
    const auto id = Id(*member, absl::StrCat(path, ".id"));
    if (!id.ok()) return id.status();
    if (const auto [it, inserted] = seen.emplace(*id, i); !inserted) {
      return absl::InvalidArgumentError(
          absl::StrCat("added_tokens[", it->second, "] and [", i, "] have the same id ", *id));
    }
    if (absl::Status status = ReadAddedToken(token, *id, path); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Flags given here win, as in transformers.
absl::Status JsonReader::ReadConfigAddedTokens() {
  const Json* decoder = Member(config_, "added_tokens_decoder");
  if (decoder == nullptr) return absl::OkStatus();
  const auto* tokens = decoder->get_ptr<const Json::object_t*>();
  if (tokens == nullptr) return WrongType("added_tokens_decoder", "an object");
  for (const auto& [key, token] : *tokens) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(key, &id)) {
      return WrongType("a key of added_tokens_decoder", "an id");
    }
    const std::string path = absl::StrCat("added_tokens_decoder.", id);
    if (absl::Status status = ReadAddedToken(token, id, path); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status JsonReader::ReadOneNormalizer(const Json& normalizer, int depth) {
  const auto type = StringMember(normalizer, "type", "normalizer");
  if (!type.ok()) return type.status();
  if (*type == "NFC") {
    parts_.nfc = true;
    return absl::OkStatus();
  }
  const Json* list = Member(normalizer, "normalizers");
  if (*type != "Sequence" || depth > 4) return Unsupported("normalizer", *type);
  if (list == nullptr || !list->is_array()) return WrongType("normalizer.normalizers", "an array");
  for (const Json& one : *list) {
    if (absl::Status status = ReadOneNormalizer(one, depth + 1); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status JsonReader::ReadNormalizer() {
  const Json* normalizer = Member(tokenizer_, "normalizer");
  return normalizer == nullptr ? absl::OkStatus() : ReadOneNormalizer(*normalizer, 0);
}

absl::Status JsonReader::ReadSplit(const Json& split) {
  constexpr std::pair<absl::string_view, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  SplitRule rule;
  const Json* pattern = Member(split, "pattern");
  if (pattern == nullptr) return WrongType("pre_tokenizer Split.pattern", "an object");
  const bool literal = Member(*pattern, "String") != nullptr;
  rule.syntax = literal ? Pattern::Syntax::kLiteral : Pattern::Syntax::kRegex;
  auto source = StringMember(*pattern, literal ? "String" : "Regex", "pre_tokenizer Split.pattern");
  if (!source.ok()) return source.status();
  rule.pattern = *std::move(source);
  const auto behavior = StringMember(split, "behavior", "pre_tokenizer Split");
  if (!behavior.ok()) return behavior.status();
  const auto* row = std::find_if(std::begin(kBehaviors), std::end(kBehaviors),
                                 [&](const auto& known) { return known.first == *behavior; });
  if (row == std::end(kBehaviors)) return Unsupported("pre_tokenizer Split.behavior", *behavior);
  rule.behavior = row->second;
  const auto invert = BoolMember(split, "invert", "pre_tokenizer Split", false);
  if (!invert.ok()) return invert.status();
  rule.invert = *invert;
  parts_.splits.push_back(std::move(rule));
  return absl::OkStatus();
}

absl::Status JsonReader::ReadByteLevel(const Json& byte_level) {
  if (byte_level_) return Unsupported("pre_tokenizer", "with two ByteLevel");
  byte_level_ = true;
  const auto add_prefix_space = BoolMember(byte_level, "add_prefix_space", "pre_tokenizer", true);
  if (!add_prefix_space.ok()) return add_prefix_space.status();
  if (*add_prefix_space && !parts_.splits.empty()) {
    return Unsupported("pre_tokenizer", "ByteLevel with add_prefix_space behind another split");
  }
  parts_.add_prefix_space = *add_prefix_space;
  const auto use_regex = BoolMember(byte_level, "use_regex", "pre_tokenizer", true);
  if (!use_regex.ok()) return use_regex.status();
  if (*use_regex) parts_.splits.push_back({kGpt2Pattern});
  return absl::OkStatus();
}

absl::Status JsonReader::ReadOnePreTokenizer(const Json& pre_tokenizer, int depth) {
  const auto type = StringMember(pre_tokenizer, "type", "pre_tokenizer");
  if (!type.ok()) return type.status();
  // What follows would see the byte alphabet, not text.
  if (byte_level_) return Unsupported("pre_tokenizer", absl::StrCat(*type, " behind ByteLevel"));
  if (*type == "Split") return ReadSplit(pre_tokenizer);
  if (*type == "ByteLevel") return ReadByteLevel(pre_tokenizer);
  if (*type == "Digits") {
    const auto individual = BoolMember(pre_tokenizer, "individual_digits", "pre_tokenizer", false);
    if (!individual.ok()) return individual.status();
    parts_.splits.push_back({*individual ? R"(\p{N})" : R"(\p{N}+)"});
    return absl::OkStatus();
  }
  const Json* list = Member(pre_tokenizer, "pretokenizers");
  if (*type != "Sequence" || depth > 4) return Unsupported("pre_tokenizer", *type);
  if (list == nullptr || !list->is_array()) {
    return WrongType("pre_tokenizer.pretokenizers", "an array");
  }
  for (const Json& one : *list) {
    if (absl::Status status = ReadOnePreTokenizer(one, depth + 1); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status JsonReader::ReadPreTokenizer() {
  const Json* pre_tokenizer = Member(tokenizer_, "pre_tokenizer");
  if (pre_tokenizer != nullptr) {
    if (absl::Status status = ReadOnePreTokenizer(*pre_tokenizer, 0); !status.ok()) return status;
  }
  if (!byte_level_) return Unsupported("pre_tokenizer", "without ByteLevel");
  return absl::OkStatus();
}

absl::Status JsonReader::ReadDecoder() {
  const Json* decoder = Member(tokenizer_, "decoder");
  if (decoder == nullptr) return Unsupported("decoder", "null");
  const auto type = StringMember(*decoder, "type", "decoder");
  if (!type.ok()) return type.status();
  if (*type == "ByteLevel") return absl::OkStatus();
  const Json* list = Member(*decoder, "decoders");
  if (*type == "Sequence" && list != nullptr && list->is_array() && list->size() == 1) {
    const auto inner = StringMember((*list)[0], "type", "decoder.decoders[0]");
    if (!inner.ok()) return inner.status();
    if (*inner == "ByteLevel") return absl::OkStatus();
  }
  return Unsupported("decoder", *type);
}

// The id of bos_token or eos_token, a string or an object with `content`.
absl::StatusOr<int32_t> JsonReader::ConfigToken(const char* key) {
  const Json* token = Member(config_, key);
  if (token == nullptr) return -1;
  const auto spelling = token->is_object() ? StringMember(*token, "content", key)
                                           : StringMember(config_, key, "tokenizer_config.json");
  if (!spelling.ok()) return spelling.status();
  const int32_t id = builder_.Find(*spelling);
  if (id < 0) {
    return absl::InvalidArgumentError(absl::StrCat(key, " of tokenizer_config.json is no token"));
  }
  return id;
}

absl::Status JsonReader::ReadConfigTokens() {
  for (const auto& [key, id] :
       {std::pair("bos_token", &parts_.begin), std::pair("eos_token", &parts_.end)}) {
    const auto token = ConfigToken(key);
    if (!token.ok()) return token.status();
    *id = *token;
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

absl::Status JsonReader::ReadPostProcessor() {
  if (const Json* processor = Member(tokenizer_, "post_processor"); processor != nullptr) {
    if (absl::Status status = ReadOnePostProcessor(*processor, 0); !status.ok()) return status;
  }
  // Where tokenizer_config.json states it, that counts.
  const auto add_begin =
      BoolMember(config_, "add_bos_token", "tokenizer_config.json", parts_.add_begin);
  if (!add_begin.ok()) return add_begin.status();
  if (*add_begin && parts_.begin < 0) {
    return absl::InvalidArgumentError("add_bos_token is true, but there is no bos_token");
  }
  parts_.add_begin = *add_begin;
  return absl::OkStatus();
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
