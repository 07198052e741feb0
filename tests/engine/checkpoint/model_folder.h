// A small Hugging Face folder on disk whose config, tensors and bytes a test can change.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace vernier::testing {

// The bytes of a safetensors file: `header` as it stands, then `data_bytes` of data.
inline std::string SafetensorsBytes(const std::string& header, size_t data_bytes) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + std::string(data_bytes, '\0');
}

// Tensors in order, F32, one after the other; value i of each is i.
class SafetensorsWriter {
 public:
  void Add(const std::string& name, const std::vector<int64_t>& shape) {
    int64_t size = 1;
    for (const int64_t dim : shape) size *= dim;
    const size_t begin = data_.size();
    for (int64_t i = 0; i < size; ++i) {
      const float value = static_cast<float>(i);
      data_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    header_[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }
  std::string Bytes() const {
    std::string bytes = SafetensorsBytes(header_.dump(), 0);
    return bytes + data_;
  }

 private:
  nlohmann::ordered_json header_ = nlohmann::ordered_json::object();
  std::string data_;
};

// A folder of this test's own, removed with the object.
class ModelFolder {
 public:
  ModelFolder() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    // Test binaries of several builds may run at once.
    static int number = 0;
    path_ = ::testing::TempDir() + "vernier_" + test->test_suite_name() + "_" + test->name() + "_" +
            std::to_string(::getpid()) + "_" + std::to_string(number++);
    std::filesystem::create_directories(path_);
  }
  ~ModelFolder() { std::filesystem::remove_all(path_); }
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  const std::string& path() const { return path_; }
  void Write(const std::string& file, const std::string& bytes) const {
    std::ofstream(path_ + "/" + file, std::ios::binary) << bytes;
  }

 private:
  std::string path_;
};

// A Llama of one layer: hidden 8, 2 heads of 4, 1 KV head, intermediate 12, vocabulary 16.
inline nlohmann::json SmallLlamaConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 8},
          {"intermediate_size", 12},
          {"num_hidden_layers", 1},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"vocab_size", 16},
          {"max_position_embeddings", 32},
          {"rms_norm_eps", 1e-5},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", true},
          {"bos_token_id", 1},
          {"eos_token_id", 2}};
}

inline std::vector<std::pair<std::string, std::vector<int64_t>>> SmallLlamaTensors() {
  return {{"model.embed_tokens.weight", {16, 8}},
          {"model.layers.0.input_layernorm.weight", {8}},
          {"model.layers.0.self_attn.q_proj.weight", {8, 8}},
          {"model.layers.0.self_attn.k_proj.weight", {4, 8}},
          {"model.layers.0.self_attn.v_proj.weight", {4, 8}},
          {"model.layers.0.self_attn.o_proj.weight", {8, 8}},
          {"model.layers.0.post_attention_layernorm.weight", {8}},
          {"model.layers.0.mlp.gate_proj.weight", {12, 8}},
          {"model.layers.0.mlp.up_proj.weight", {12, 8}},
          {"model.layers.0.mlp.down_proj.weight", {8, 12}},
          {"model.norm.weight", {8}}};
}

// config.json and model.safetensors of the small Llama.
inline void WriteSmallLlama(const ModelFolder& folder) {
  folder.Write("config.json", SmallLlamaConfig().dump());
  SafetensorsWriter writer;
  for (const auto& [name, shape] : SmallLlamaTensors()) writer.Add(name, shape);
  folder.Write("model.safetensors", writer.Bytes());
}

}  // namespace vernier::testing
