// A tokenizer whose tokens are bytes: id = byte, then three special ones.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace vernier::testing {

class ByteTokenizer : public Tokenizer {
 public:
  static constexpr int32_t kBegin = 256, kEnd = 257, kTurn = 258, kVocab = 259;

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text, Special special,
                                              Begin begin) const override {
    std::vector<int32_t> ids;
    if (begin == Begin::kAsConfigured) ids.push_back(kBegin);
    while (!text.empty()) {
      if (special == Special::kRecognise && text.substr(0, 6) == "<turn>") {
        ids.push_back(kTurn);
        text.remove_prefix(6);
      } else {
        ids.push_back(static_cast<uint8_t>(text[0]));
        text.remove_prefix(1);
      }
    }
    return ids;
  }
  absl::StatusOr<std::vector<int32_t>> EncodeSpans(std::span<const PromptSpan> spans,
                                                   Begin begin) const override {
    std::vector<int32_t> ids;
    for (const PromptSpan& span : spans) {
      const auto part =
          Encode(span.text,
                 span.kind == PromptSpan::Kind::kTemplate ? Special::kRecognise : Special::kAsText,
                 Begin::kNever);
      ids.insert(ids.end(), part->begin(), part->end());
    }
    return ids;
  }
  std::string TokenBytes(int32_t id, bool special_as_text) const override {
    if (id < 256) return std::string(1, static_cast<char>(id));
    return special_as_text ? "<" + std::to_string(id) + ">" : "";
  }
  std::string Decode(std::span<const int32_t> ids, bool special_as_text) const override {
    std::string text;
    for (const int32_t id : ids) text += TokenBytes(id, special_as_text);
    return text;
  }
  int32_t vocab_size() const override { return kVocab; }
  bool IsSpecial(int32_t id) const override { return id >= 256; }
  int32_t FindToken(absl::string_view spelling) const override {
    return spelling == "<turn>" ? kTurn : -1;
  }
  int32_t begin_token() const override { return kBegin; }
  int32_t end_token() const override { return kEnd; }
  bool adds_begin() const override { return true; }
  int64_t bytes() const override { return 0; }
};

// "<turn>ROLE\nCONTENT" a message.
class TurnTemplate : public ChatTemplate {
 public:
  absl::StatusOr<std::vector<PromptSpan>> Render(std::span<const ChatMessage> messages,
                                                 bool add_generation_prompt,
                                                 const TemplateInputs&) const override {
    std::vector<PromptSpan> spans;
    for (const ChatMessage& message : messages) {
      spans.push_back({PromptSpan::Kind::kTemplate, "<turn>" + message.role + "\n"});
      spans.push_back({PromptSpan::Kind::kContent, message.content});
    }
    if (add_generation_prompt) spans.push_back({PromptSpan::Kind::kTemplate, "<turn>assistant\n"});
    return spans;
  }
};

}  // namespace vernier::testing
