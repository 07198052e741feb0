// A checkpoint without files: some layers of a Llama of 8 billion parameters with random weights,
// more than a processor's caches hold.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"

namespace vernier::bench {

// Shapes of Llama 3 8B but for the vocabulary, which is small: the layers are what is measured. Any
// thread may read.
class RandomCheckpoint final : public Checkpoint {
 public:
  explicit RandomCheckpoint(int64_t layers) {
    config_ = {.architecture = "llama",
               .num_layers = layers,
               .hidden = 4096,
               .intermediate = 14336,
               .vocab = 1024,
               .context = 8192,
               .attention = {.num_heads = 32,
                             .num_kv_heads = 8,
                             .head_dim = 128,
                             .scale = 1 / std::sqrt(128.0f)},
               .norm_epsilon = 1e-5f,
               .tied_lm_head = true};
    for (int i = 0; i < 64; ++i) {
      config_.inverse_frequencies.push_back(std::pow(500000.0f, -static_cast<float>(i) / 64));
    }
    source_.reason = "random weights have no tokenizer";
    const int64_t hidden = config_.hidden, intermediate = config_.intermediate;
    AddMatrix("embed", config_.vocab, hidden);
    AddVector("final_norm.weight");
    for (int64_t i = 0; i < layers; ++i) {
      const std::string layer = absl::StrCat("layers.", i, ".");
      for (const char* name : {"attention.q", "attention.o"}) {
        AddMatrix(layer + name, hidden, hidden);
      }
      for (const char* name : {"attention.k", "attention.v"}) {
        AddMatrix(layer + name, hidden / 4, hidden);
      }
      for (const char* name : {"mlp.gate", "mlp.up"}) {
        AddMatrix(layer + name, intermediate, hidden);
      }
      AddMatrix(layer + "mlp.down", hidden, intermediate);
      AddVector(layer + "attention_norm.weight");
      AddVector(layer + "mlp_norm.weight");
    }
  }

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::string source() const override { return "random"; }
  bool source_is_quantized() const override { return false; }
  int64_t disk_bytes() const override { return 0; }
  const Manifest* manifest() const override { return nullptr; }
  absl::StatusOr<Manifest> MakeManifest() const override {
    return absl::UnimplementedError("random weights have no files");
  }
  absl::StatusOr<std::string> WeightsSha256() const override { return std::string(64, '0'); }
  absl::Status CheckUnchanged() const override { return absl::OkStatus(); }
  const TokenizerSource& tokenizer_source() const override { return source_; }
  bool Has(const std::string& name) const override { return shapes_.contains(name); }

  // Uniform values whose products with a row of unit variance have about that variance.
  absl::StatusOr<WeightSource> OpenMatrix(const std::string& name) const override {
    const std::vector<int64_t>& shape = shapes_.at(name);
    const int64_t cols = shape[1];
    const uint64_t seed = std::hash<std::string>()(name);
    const float step = std::sqrt(3.0f / static_cast<float>(cols)) / (1 << 15);
    const auto read = [=](int64_t first_row, int64_t count, float* out) {
      for (int64_t i = 0; i < count * cols; i += 4) {
        uint64_t bits = Mix(seed + static_cast<uint64_t>(first_row * cols + i));
        for (int64_t j = i; j < i + 4; ++j, bits >>= 16) {
          out[j] = static_cast<float>(static_cast<int16_t>(bits & 0xffff)) * step;
        }
      }
      return absl::OkStatus();
    };
    return WeightSource{.name = name, .rows = shape[0], .cols = cols, .read = read};
  }
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const override {
    return std::vector<float>(shapes_.at(name)[0], 1.0f);
  }

 private:
  // The finalizer of SplitMix64 (Steele, Lea and Flood 2014). Columns are multiples of 4.
  static uint64_t Mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  void AddMatrix(const std::string& name, int64_t rows, int64_t cols) {
    shapes_[name] = {rows, cols};
    infos_.push_back({.name = name, .type = "random", .shape = {rows, cols}});
  }
  void AddVector(const std::string& name) {
    shapes_[name] = {config_.hidden};
    infos_.push_back({.name = name, .type = "random", .shape = {config_.hidden}});
  }

  ModelConfig config_;
  TokenizerSource source_;
  std::vector<TensorInfo> infos_;
  std::map<std::string, std::vector<int64_t>> shapes_;
};

}  // namespace vernier::bench
