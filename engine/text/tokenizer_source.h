// What a checkpoint says of its tokenizer, before it is made into one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vernier {

// GGUF's tokenizer.ggml.* keys.
struct GgufVocabulary {
  std::string model;  // "gpt2" is byte-level BPE, "llama" BPE by scores, "t5" unigram
  std::string pre;    // names the pre-tokenizer: "smollm", "llama-bpe", "qwen2"
  std::vector<std::string> tokens;
  std::vector<int32_t> types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<std::string> merges;  // "left right"; of "gpt2"
  std::vector<float> scores;        // by id; of "llama" and "t5"
  int32_t begin = -1, end = -1;     // ids, -1: none
  int32_t unknown = -1;
  bool add_begin = false;
  bool add_space_prefix = true;           // of "llama" and "t5"
  bool remove_extra_whitespaces = false;  // of "llama" and "t5"
  std::string precompiled_charsmap;       // of "t5"; empty: none
};

struct TokenizerSource {
  enum class Kind { kNone, kHuggingFace, kSentencePiece, kGguf };
  Kind kind = Kind::kNone;
  std::string reason;                 // for kNone: "no tokenizer.json in the folder"
  std::string tokenizer_json;         // kHuggingFace
  std::string sentencepiece_model;    // kSentencePiece: tokenizer.model's bytes
  std::string tokenizer_config_json;  // kHuggingFace, kSentencePiece; may be empty
  GgufVocabulary gguf;                // kGguf
  std::string chat_template;          // Jinja text; empty: none
};

}  // namespace vernier
