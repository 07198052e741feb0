// Any bytes as a tokenizer.json, or as a tokenizer.model where they do not begin with '{': refused
// with a reason, or text is encoded to ids of the vocabulary, that decode.
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "kernels/base/check.h"

namespace {

constexpr const char* kTexts[] = {
    "", " ", "abc a  b abcd", "\xC3\x9F \xF0\x9F\x99\x82 <s> 12345 \xE2\x96\x81\n\t",
    "A\xCC\x8A\xEF\xAC\x81 it's aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vernier::TokenizerSource source;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] == '{') {
    source.kind = vernier::TokenizerSource::Kind::kHuggingFace;
    source.tokenizer_json = bytes;
  } else {
    source.kind = vernier::TokenizerSource::Kind::kSentencePiece;
    source.sentencepiece_model = bytes;
  }
  const auto made = vernier::Tokenizer::Create(source);
  if (!made.ok()) {
    VERNIER_CHECK(!made.status().message().empty());
    return 0;
  }
  const vernier::Tokenizer& tokenizer = **made;
  for (const char* text : kTexts) {
    for (const auto special :
         {vernier::Tokenizer::Special::kAsText, vernier::Tokenizer::Special::kRecognise}) {
      const auto ids = tokenizer.Encode(text, special, vernier::Tokenizer::Begin::kAsConfigured);
      if (!ids.ok()) continue;  // a pattern's or a normalizer's limit
      for (const int32_t id : *ids) VERNIER_CHECK(id >= 0 && id < tokenizer.vocab_size());
      VERNIER_CHECK(vernier::FirstIllFormedByte(tokenizer.Decode(*ids, true)) < 0);
    }
  }
  return 0;
}
