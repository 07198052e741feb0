// tokenizer.json's decoder: a chain of steps on tokens, from Fuse on on the whole text.
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/tokenizer_json_steps.h"

namespace vernier {
namespace {

class DecoderReader {
 public:
  explicit DecoderReader(Decoding* decoding) : decoding_(decoding) {}

  absl::Status Read(const Json& decoder, int depth) {
    const auto type = StringMember(decoder, "type", "decoder");
    if (!type.ok()) return type.status();
    if (*type == "Replace") return ReadReplace(decoder);
    if (*type == "Strip") return ReadStrip(decoder);
    if (*type == "Metaspace") return ReadMetaspace(decoder);
    if (*type == "ByteFallback") {
      if (fused_) return Unsupported("decoder", "ByteFallback behind Fuse");
      decoding_->token_steps.push_back({DecodeStep::Kind::kByteFallback});
      return absl::OkStatus();
    }
    if (*type == "Fuse") {
      fused_ = true;
      return absl::OkStatus();
    }
    if (*type != "Sequence" || depth > 4) return Unsupported("decoder", *type);
    const auto list = ArrayMember(decoder, "decoders", "decoder");
    if (!list.ok()) return list.status();
    for (const Json& one : **list) {
      if (absl::Status status = Read(one, depth + 1); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

 private:
  absl::Status ReadReplace(const Json& decoder) {
    if (fused_) return Unsupported("decoder", "Replace behind Fuse");
    DecodeStep step;
    const Json* pattern = Member(decoder, "pattern");
    if (pattern == nullptr || Member(*pattern, "String") == nullptr) {
      return Unsupported("decoder Replace.pattern", "that is no String");
    }
    auto from = StringMember(*pattern, "String", "decoder Replace.pattern");
    if (!from.ok()) return from.status();
    auto to = StringMember(decoder, "content", "decoder Replace");
    if (!to.ok()) return to.status();
    if (from->empty())
      return WrongType("decoder Replace.pattern.String", "a string of some length");
    // So that a file's chain of them cannot grow without bound.
    if (to->size() > from->size()) return Unsupported("decoder", "Replace by something longer");
    step.from = *std::move(from);
    step.to = *std::move(to);
    decoding_->token_steps.push_back(std::move(step));
    return absl::OkStatus();
  }

  absl::Status ReadStrip(const Json& decoder) {
    DecodeStep step;
    step.kind = DecodeStep::Kind::kStrip;
    auto content = StringMember(decoder, "content", "decoder Strip");
    if (!content.ok()) return content.status();
    if (content->empty()) return WrongType("decoder Strip.content", "a character");
    step.from = *std::move(content);
    for (const auto& [key, count] :
         {std::pair("start", &step.left), std::pair("stop", &step.right)}) {
      const std::string path = absl::StrCat("decoder Strip.", key);
      const Json* value = Member(decoder, key);
      if (value == nullptr) return WrongType(path, "an integer");
      const auto number = Integer(*value, path);
      if (!number.ok()) return number.status();
      if (*number < 0) return WrongType(path, "at least 0");
      *count = static_cast<int>(std::min(*number, kMaxId));
    }
    (fused_ ? decoding_->text_steps : decoding_->token_steps).push_back(std::move(step));
    return absl::OkStatus();
  }

  absl::Status ReadMetaspace(const Json& decoder) {
    if (fused_ || !decoding_->token_steps.empty()) {
      return Unsupported("decoder", "Metaspace behind another step");
    }
    auto metaspace = ReadMetaspaceMembers(decoder, "decoder Metaspace");
    if (!metaspace.ok()) return metaspace.status();
    if (metaspace->prepend != Metaspace::Prepend::kNever) {
      decoding_->dropped_from_first = metaspace->symbol;
    }
    DecodeStep step;
    step.from = metaspace->symbol;
    step.to = std::string(1, ' ');
    decoding_->token_steps.push_back(std::move(step));
    return absl::OkStatus();
  }

  Decoding* const decoding_;
  bool fused_ = false;
};

// Also where it is a sequence's only step.
bool IsByteLevel(const Json& decoder) {
  const Json* type = Member(decoder, "type");
  if (type != nullptr && *type == "ByteLevel") return true;
  const Json* list = Member(decoder, "decoders");
  if (list == nullptr || !list->is_array() || list->size() != 1) return false;
  const Json* inner = Member((*list)[0], "type");
  return inner != nullptr && *inner == "ByteLevel";
}

}  // namespace

absl::Status ReadDecoder(const Json& tokenizer, TokenizerParts* parts) {
  const Json* decoder = Member(tokenizer, "decoder");
  if (decoder == nullptr) return Unsupported("decoder", "null");
  const bool over_bytes = parts->model == ModelKind::kByteLevelBpe;
  if (IsByteLevel(*decoder)) {
    return over_bytes ? absl::OkStatus()
                      : Unsupported("decoder", "ByteLevel without such a pre_tokenizer");
  }
  if (over_bytes) {
    const auto type = StringMember(*decoder, "type", "decoder");
    return type.ok() ? Unsupported("decoder", absl::StrCat(*type, " behind ByteLevel"))
                     : type.status();
  }
  return DecoderReader(&parts->decoding).Read(*decoder, 0);
}

}  // namespace vernier
