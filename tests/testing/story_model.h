// stories260K as a Hugging Face folder with a tokenizer: real text out of a model that fits into a
// test.
//
// llama2.c's vocabulary is spelled as byte-level BPE without merges, so that ids mean the text that
// they were trained to mean; a text is encoded as single characters. The bytes 0xfe and 0xff, which
// no UTF-8 has, give their ids to ChatML's marks.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/testing/test_data.h"

namespace vernier::testing {

inline constexpr int32_t kStoryBegin = 1, kStoryEnd = 2, kStoryTurn = 257, kStoryTurnEnd = 258;

// tok512.bin: the longest piece's length, then score, length and bytes of each piece.
inline std::vector<std::string> StoryPieces() {
  std::ifstream file(TestDataPath("stories260K/tok512.bin"), std::ios::binary);
  int32_t length = 0;
  float score = 0;
  file.read(reinterpret_cast<char*>(&length), sizeof(length));
  std::vector<std::string> pieces;
  while (file.read(reinterpret_cast<char*>(&score), sizeof(score)) &&
         file.read(reinterpret_cast<char*>(&length), sizeof(length)) && length >= 0 &&
         length < 256) {
    std::string piece(static_cast<size_t>(length), '\0');
    file.read(piece.data(), length);
    pieces.push_back(piece);
  }
  return pieces;
}

// In GPT-2's alphabet: printable Latin-1 stands for itself, what is left for U+0100 on.
inline std::string AlphabetSpelling(const std::string& bytes) {
  const auto printable = [](int b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  };
  std::string out;
  for (const char c : bytes) {
    const int byte = static_cast<uint8_t>(c);
    int code = byte;
    if (!printable(byte)) {
      code = 256;
      for (int b = 0; b < byte; ++b) code += !printable(b);
    }
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else {
      out += static_cast<char>(0xc0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3f));
    }
  }
  return out;
}

inline nlohmann::json StoryTokenizerJson() {
  const std::vector<std::string> pieces = StoryPieces();
  const std::set<std::string> known(pieces.begin(), pieces.end());
  nlohmann::json vocab = nlohmann::json::object();
  for (int32_t id = 3; id < static_cast<int32_t>(pieces.size()); ++id) {
    if (id == kStoryTurn || id == kStoryTurnEnd) continue;
    std::string piece = pieces[static_cast<size_t>(id)];
    // "<0x41>" is the byte, unless the vocabulary has the letter as well.
    if (id < 259) {
      const std::string byte(1, static_cast<char>(id - 3));
      if (known.count(byte) == 0) piece = byte;
    }
    vocab[AlphabetSpelling(piece)] = id;
  }
  nlohmann::json added = nlohmann::json::array();
  const std::pair<int32_t, const char*> special[] = {{0, "<unk>"},
                                                     {kStoryBegin, "<s>"},
                                                     {kStoryEnd, "</s>"},
                                                     {kStoryTurn, "<|im_start|>"},
                                                     {kStoryTurnEnd, "<|im_end|>"}};
  for (const auto& [id, content] : special) {
    added.push_back({{"id", id}, {"content", content}, {"special", true}});
  }
  const nlohmann::json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  return {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}},
          {"added_tokens", added},
          {"pre_tokenizer", byte_level},
          {"decoder", byte_level}};
}

// A folder of its own, removed with the object.
class StoryModel {
 public:
  StoryModel()
      : path_(std::filesystem::temp_directory_path() /
              ("vernier-stories-" + std::to_string(getpid()) + "-" + std::to_string(count_++))) {
    std::filesystem::create_directories(path_);
    for (const char* file : {"config.json", "model.safetensors"}) {
      std::filesystem::copy_file(TestDataPath(std::string("stories260K/hf/") + file), path_ / file);
    }
    std::ofstream(path_ / "tokenizer.json") << StoryTokenizerJson().dump();
    std::ofstream(path_ / "tokenizer_config.json") << nlohmann::json(
        {{"bos_token", "<s>"},
         {"eos_token", "</s>"},
         {"add_bos_token", true},
         {"chat_template",
          "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
          "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|im_start|>assistant\n' }}{% endif %}"}});
  }
  ~StoryModel() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  StoryModel(const StoryModel&) = delete;
  StoryModel& operator=(const StoryModel&) = delete;

  std::string path() const { return path_.string(); }

 private:
  static inline int count_ = 0;
  const std::filesystem::path path_;
};

}  // namespace vernier::testing
