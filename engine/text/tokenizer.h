// Byte-level BPE as tokenizer.json or GGUF metadata states it: text to token ids and back.
//
// Linear in the text's length. Immutable after Create, so any thread may call it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/tokenizer_source.h"

namespace vernier {

// A run of a prompt. Special tokens are recognised in `kTemplate` text alone: what a user wrote can
// never become one.
struct PromptSpan {
  enum class Kind : uint8_t { kTemplate, kContent };
  Kind kind = Kind::kContent;
  std::string text;
};

class Tokenizer {
 public:
  // INVALID_ARGUMENT for a broken file, naming what is wrong; UNIMPLEMENTED naming a model,
  // normalizer, pre-tokenizer or decoder that is not supported; FAILED_PRECONDITION with the reason
  // when the source has none.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const TokenizerSource& source);
  virtual ~Tokenizer() = default;

  enum class Special : uint8_t { kRecognise, kAsText };
  enum class Begin : uint8_t { kAsConfigured, kNever };
  // `text` is UTF-8 (ill-formed bytes: INVALID_ARGUMENT with the offset). RESOURCE_EXHAUSTED when
  // the pattern exceeds its limits.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text, Special special,
                                                      Begin begin) const = 0;
  // One prompt of several spans, tokenized as one text but for special tokens inside or across
  // content.
  virtual absl::StatusOr<std::vector<int32_t>> EncodeSpans(std::span<const PromptSpan> spans,
                                                           Begin begin) const = 0;

  // The bytes a token stands for; empty for special tokens unless `special_as_text`, and for ids
  // outside [0, vocab_size()), which a model with a larger vocabulary may draw.
  virtual std::string TokenBytes(int32_t id, bool special_as_text) const = 0;
  // The bytes of all `ids` as whole UTF-8: ill-formed ones become U+FFFD.
  virtual std::string Decode(std::span<const int32_t> ids, bool special_as_text) const = 0;

  virtual int32_t vocab_size()
      const = 0;  // ids that decode; a model's own vocabulary may be larger
  virtual bool IsSpecial(int32_t id) const = 0;
  // -1 when no token is spelled so.
  virtual int32_t FindToken(absl::string_view spelling) const = 0;
  virtual int32_t begin_token() const = 0;  // -1: none
  virtual int32_t end_token() const = 0;    // -1: none
  virtual bool adds_begin() const = 0;
  virtual int64_t bytes() const = 0;  // memory held, estimated
};

}  // namespace vernier
