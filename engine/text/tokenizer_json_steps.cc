// tokenizer.json's normalizer and pre_tokenizer.
#include "engine/text/tokenizer_json_steps.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/text/utf8.h"

namespace vernier {
namespace {

constexpr int kMaxNesting = 4;
constexpr size_t kMaxSteps = 64;

struct JsonPattern {
  std::string source;
  Pattern::Syntax syntax = Pattern::Syntax::kRegex;
};

// {"String": "..."} or {"Regex": "..."}.
absl::StatusOr<JsonPattern> PatternMember(const Json& object, absl::string_view path) {
  const Json* pattern = Member(object, "pattern");
  if (pattern == nullptr) return WrongType(absl::StrCat(path, ".pattern"), "an object");
  const bool literal = Member(*pattern, "String") != nullptr;
  auto source =
      StringMember(*pattern, literal ? "String" : "Regex", absl::StrCat(path, ".pattern"));
  if (!source.ok()) return source.status();
  return JsonPattern{*std::move(source),
                     literal ? Pattern::Syntax::kLiteral : Pattern::Syntax::kRegex};
}

absl::Status AddNormalizer(const Json& normalizer, absl::string_view type,
                           std::vector<NormalizerStep>* steps) {
  using Kind = NormalizerStep::Kind;
  NormalizerStep step;
  absl::StatusOr<std::string> content = std::string();
  if (type == "NFC") {
    step.kind = Kind::kNfc;
  } else if (type == "NFKC") {
    step.kind = Kind::kNfkc;
  } else if (type == "Lowercase") {
    step.kind = Kind::kLowercase;
  } else if (type == "Prepend") {
    step.kind = Kind::kPrepend;
    content = StringMember(normalizer, "prepend", "normalizer Prepend");
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    auto pattern = PatternMember(normalizer, "normalizer Replace");
    if (!pattern.ok()) return pattern.status();
    step.pattern = std::move(pattern->source);
    step.syntax = pattern->syntax;
    content = StringMember(normalizer, "content", "normalizer Replace");
  } else if (type == "Precompiled") {
    step.kind = Kind::kCharacterMap;
    content = StringMember(normalizer, "precompiled_charsmap", "normalizer Precompiled");
    std::string blob;
    if (content.ok() && !absl::Base64Unescape(*content, &blob)) {
      return WrongType("normalizer Precompiled.precompiled_charsmap", "base64");
    }
    if (content.ok()) content = std::move(blob);
  } else {
    return Unsupported("normalizer", type);
  }
  if (!content.ok()) return content.status();
  step.content = *std::move(content);
  steps->push_back(std::move(step));
  return absl::OkStatus();
}

absl::Status AddNormalizers(const Json& normalizer, int depth, std::vector<NormalizerStep>* steps) {
  const auto type = StringMember(normalizer, "type", "normalizer");
  if (!type.ok()) return type.status();
  if (steps->size() >= kMaxSteps) {
    return Unsupported("normalizer", absl::StrCat("of more than ", kMaxSteps, " steps"));
  }
  if (*type != "Sequence" || depth > kMaxNesting) return AddNormalizer(normalizer, *type, steps);
  const auto list = ArrayMember(normalizer, "normalizers", "normalizer");
  if (!list.ok()) return list.status();
  for (const Json& one : **list) {
    if (absl::Status status = AddNormalizers(one, depth + 1, steps); !status.ok()) return status;
  }
  return absl::OkStatus();
}

class PreTokenizerReader {
 public:
  explicit PreTokenizerReader(TokenizerParts* parts) : parts_(parts) {}

  absl::Status Read(const Json& pre_tokenizer, int depth);
  bool byte_level() const { return byte_level_; }

 private:
  absl::Status ReadSplit(const Json& split);
  absl::Status ReadByteLevel(const Json& byte_level);
  absl::Status ReadMetaspace(const Json& metaspace);

  TokenizerParts* const parts_;
  bool byte_level_ = false;
};

absl::Status PreTokenizerReader::ReadSplit(const Json& split) {
  constexpr std::pair<absl::string_view, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  SplitRule rule;
  auto pattern = PatternMember(split, "pre_tokenizer Split");
  if (!pattern.ok()) return pattern.status();
  rule.pattern = std::move(pattern->source);
  rule.syntax = pattern->syntax;
  const auto behavior = StringMember(split, "behavior", "pre_tokenizer Split");
  if (!behavior.ok()) return behavior.status();
  const auto* row = std::find_if(std::begin(kBehaviors), std::end(kBehaviors),
                                 [&](const auto& known) { return known.first == *behavior; });
  if (row == std::end(kBehaviors)) return Unsupported("pre_tokenizer Split.behavior", *behavior);
  rule.behavior = row->second;
  const auto invert = BoolMember(split, "invert", "pre_tokenizer Split", false);
  if (!invert.ok()) return invert.status();
  rule.invert = *invert;
  parts_->splits.push_back(std::move(rule));
  return absl::OkStatus();
}

absl::Status PreTokenizerReader::ReadByteLevel(const Json& byte_level) {
  if (byte_level_) return Unsupported("pre_tokenizer", "with two ByteLevel");
  byte_level_ = true;
  const auto add_prefix_space = BoolMember(byte_level, "add_prefix_space", "pre_tokenizer", true);
  if (!add_prefix_space.ok()) return add_prefix_space.status();
  if (parts_->metaspace.has_value())
    return Unsupported("pre_tokenizer", "Metaspace with ByteLevel");
  if (*add_prefix_space && !parts_->splits.empty()) {
    return Unsupported("pre_tokenizer", "ByteLevel with add_prefix_space behind another split");
  }
  parts_->add_prefix_space = *add_prefix_space;
  const auto use_regex = BoolMember(byte_level, "use_regex", "pre_tokenizer", true);
  if (!use_regex.ok()) return use_regex.status();
  if (*use_regex) parts_->splits.push_back({kGpt2Pattern});
  return absl::OkStatus();
}

absl::Status PreTokenizerReader::ReadMetaspace(const Json& json) {
  if (parts_->metaspace.has_value() || !parts_->splits.empty()) {
    return Unsupported("pre_tokenizer", "Metaspace behind another split");
  }
  auto metaspace = ReadMetaspaceMembers(json, "pre_tokenizer Metaspace");
  if (!metaspace.ok()) return metaspace.status();
  const auto split = BoolMember(json, "split", "pre_tokenizer Metaspace", true);
  if (!split.ok()) return split.status();
  if (*split) {
    parts_->splits.push_back(
        {metaspace->symbol, Pattern::Syntax::kLiteral, SplitBehavior::kMergedWithNext});
  }
  parts_->metaspace = *std::move(metaspace);
  return absl::OkStatus();
}

absl::Status PreTokenizerReader::Read(const Json& pre_tokenizer, int depth) {
  const auto type = StringMember(pre_tokenizer, "type", "pre_tokenizer");
  if (!type.ok()) return type.status();
  // What follows would see the byte alphabet, not text.
  if (byte_level_) return Unsupported("pre_tokenizer", absl::StrCat(*type, " behind ByteLevel"));
  if (*type == "Split") return ReadSplit(pre_tokenizer);
  if (parts_->splits.size() >= kMaxSteps) {
    return Unsupported("pre_tokenizer", absl::StrCat("of more than ", kMaxSteps, " steps"));
  }
  if (*type == "Metaspace") return ReadMetaspace(pre_tokenizer);
  if (*type == "ByteLevel") return ReadByteLevel(pre_tokenizer);
  if (*type == "Digits") {
    const auto individual = BoolMember(pre_tokenizer, "individual_digits", "pre_tokenizer", false);
    if (!individual.ok()) return individual.status();
    parts_->splits.push_back({*individual ? R"(\p{N})" : R"(\p{N}+)"});
    return absl::OkStatus();
  }
  if (*type != "Sequence" || depth > kMaxNesting) return Unsupported("pre_tokenizer", *type);
  const auto list = ArrayMember(pre_tokenizer, "pretokenizers", "pre_tokenizer");
  if (!list.ok()) return list.status();
  for (const Json& one : **list) {
    if (absl::Status status = Read(one, depth + 1); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Metaspace> ReadMetaspaceMembers(const Json& json, absl::string_view path) {
  using Prepend = Metaspace::Prepend;
  Metaspace out;
  auto symbol = StringMember(json, "replacement", path);
  if (!symbol.ok()) return symbol.status();
  if (symbol->empty() || static_cast<size_t>(FirstUtf8Unit(*symbol).bytes) != symbol->size()) {
    return WrongType(absl::StrCat(path, ".replacement"), "one character");
  }
  out.symbol = *std::move(symbol);
  // Files older than prepend_scheme have the flag alone.
  const auto add_prefix_space = BoolMember(json, "add_prefix_space", path, true);
  if (!add_prefix_space.ok()) return add_prefix_space.status();
  out.prepend = *add_prefix_space ? Prepend::kAlways : Prepend::kNever;
  if (Member(json, "prepend_scheme") == nullptr) return out;
  const auto scheme = StringMember(json, "prepend_scheme", path);
  if (!scheme.ok()) return scheme.status();
  for (const auto& [name, prepend] :
       {std::pair("always", Prepend::kAlways), std::pair("first", Prepend::kFirst),
        std::pair("never", Prepend::kNever)}) {
    if (*scheme != name) continue;
    out.prepend = prepend;
    return out;
  }
  return Unsupported(absl::StrCat(path, ".prepend_scheme"), *scheme);
}

absl::Status ReadNormalizer(const Json& tokenizer, TokenizerParts* parts) {
  const Json* normalizer = Member(tokenizer, "normalizer");
  return normalizer == nullptr ? absl::OkStatus()
                               : AddNormalizers(*normalizer, 0, &parts->normalizers);
}

absl::Status ReadPreTokenizer(const Json& tokenizer, TokenizerParts* parts) {
  PreTokenizerReader reader(parts);
  if (const Json* json = Member(tokenizer, "pre_tokenizer"); json != nullptr) {
    if (absl::Status status = reader.Read(*json, 0); !status.ok()) return status;
  }
  if (!reader.byte_level()) return absl::OkStatus();
  if (parts->model == ModelKind::kUnigram) {
    return Unsupported("pre_tokenizer", "ByteLevel for a Unigram model");
  }
  if (parts->byte_fallback) {
    return Unsupported("model.byte_fallback", "true with ByteLevel");
  }
  parts->model = ModelKind::kByteLevelBpe;
  return absl::OkStatus();
}

}  // namespace vernier
