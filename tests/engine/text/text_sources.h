// Tokenizers for tests: GPT-2's, and small ones written down in place.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "engine/text/tokenizer.h"
#include "tests/testing/test_data.h"

namespace vernier::testing {

inline std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Empty when the shared data is not there.
inline std::string SharedPath(const std::string& relative) {
  const std::string path = PathFrom("VERNIER_SHARED_DATA", relative);
  return std::filesystem::exists(path) ? path : "";
}

inline TokenizerSource FolderSource(const std::string& folder) {
  TokenizerSource source;
  source.kind = TokenizerSource::Kind::kHuggingFace;
  source.tokenizer_json = ReadText(folder + "/tokenizer.json");
  source.tokenizer_config_json = ReadText(folder + "/tokenizer_config.json");
  return source;
}

inline TokenizerSource ModelFileSource(const std::string& path) {
  TokenizerSource source;
  source.kind = TokenizerSource::Kind::kSentencePiece;
  source.sentencepiece_model = ReadText(path);
  return source;
}

inline TokenizerSource JsonSource(std::string tokenizer_json, std::string config = "") {
  TokenizerSource source;
  source.kind = TokenizerSource::Kind::kHuggingFace;
  source.tokenizer_json = std::move(tokenizer_json);
  source.tokenizer_config_json = std::move(config);
  return source;
}

// GPT-2's, loaded once.
inline const Tokenizer& Gpt2() {
  static const auto* const tokenizer = [] {
    auto created = Tokenizer::Create(FolderSource(TestDataPath("tokenizers/gpt2")));
    return new std::unique_ptr<Tokenizer>(created.ok() ? *std::move(created) : nullptr);
  }();
  return **tokenizer;
}

// A tokenizer.json over the letters a to d, space and '<', '>', '|': every part but the vocabulary
// can be replaced, and tokens and merges added.
struct SmallJson {
  nlohmann::json json = nlohmann::json::parse(R"({
    "added_tokens": [],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE",
      "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "Ġ": 4, "<": 5, ">": 6, "|": 7,
                "ab": 8, "abc": 9, "Ġa": 10, "cd": 11, "bc": 12},
      "merges": ["a b", "c d", "ab c", "Ġ a", "b c"]}})");

  SmallJson& Add(int id, const std::string& content, nlohmann::json flags) {
    nlohmann::json token = {{"id", id}, {"content", content}};
    if (flags.is_object()) token.update(flags);
    json["added_tokens"].push_back(token);
    return *this;
  }
  TokenizerSource Source(std::string config = "") const {
    return JsonSource(json.dump(), std::move(config));
  }
  std::unique_ptr<Tokenizer> Make(std::string config = "") const {
    auto created = Tokenizer::Create(Source(std::move(config)));
    return created.ok() ? *std::move(created) : nullptr;
  }
};

}  // namespace vernier::testing
