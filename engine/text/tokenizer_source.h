// What a checkpoint says of its tokenizer, before it is made into one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vernier {

// GGUF's tokenizer.ggml.* keys.
struct GgufVocabulary {
  std::string model;  // "gpt2" is byte-level BPE
  std::string pre;    // names the pre-tokenizer: "smollm", "llama-bpe", "qwen2"
  std::vector<std::string> tokens;
  std::vector<int32_t> types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<std::string> merges;  // "left right"
  int32_t begin = -1, end = -1;     // ids, -1: none
  bool add_begin = false;
};

struct TokenizerSource {
  enum class Kind { kNone, kHuggingFace, kGguf };
  Kind kind = Kind::kNone;
  std::string reason;                 // for kNone: "no tokenizer.json in the folder"
  std::string tokenizer_json;         // kHuggingFace
  std::string tokenizer_config_json;  // kHuggingFace; may be empty
  GgufVocabulary gguf;                // kGguf
  std::string chat_template;          // Jinja text; empty: none
};

}  // namespace vernier
