// A checkpoint in memory whose tensors and config a test can set, break and count.
//
// One thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "tests/testing/counting_backend.h"

namespace vernier::testing {

class FakeCheckpoint : public Checkpoint {
 public:
  struct Shape {
    int64_t rows = 0;
    int64_t cols = 0;
  };

  // A Llama of 2 layers: hidden 16, 4 heads and 2 KV heads of 4, intermediate 32, vocabulary 64.
  explicit FakeCheckpoint(MemoryLedger* ledger) : ledger_(ledger) {
    config_mutable = {.architecture = "llama",
                      .num_layers = 2,
                      .hidden = 16,
                      .intermediate = 32,
                      .vocab = 64,
                      .context = 32,
                      .attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 4, .scale = 0.5},
                      .norm_epsilon = 1e-5f,
                      .tied_lm_head = true,
                      .inverse_frequencies = {1.0f, 0.01f}};
    tokenizer_mutable.reason = "the test has no tokenizer";
    matrices["embed"] = {64, 16};
    for (int i = 0; i < 2; ++i) {
      const std::string layer = absl::StrCat("layers.", i, ".");
      matrices[layer + "attention.q"] = {16, 16};
      matrices[layer + "attention.k"] = {8, 16};
      matrices[layer + "attention.v"] = {8, 16};
      matrices[layer + "attention.o"] = {16, 16};
      matrices[layer + "mlp.gate"] = {32, 16};
      matrices[layer + "mlp.up"] = {32, 16};
      matrices[layer + "mlp.down"] = {16, 32};
      vectors[layer + "attention_norm.weight"] = 16;
      vectors[layer + "mlp_norm.weight"] = 16;
    }
    vectors["final_norm.weight"] = 16;
  }

  // What the test may change before loading.
  ModelConfig config_mutable;
  TokenizerSource tokenizer_mutable;
  std::map<std::string, Shape> matrices;
  std::map<std::string, int64_t> vectors;      // sizes
  std::map<std::string, absl::Status> broken;  // OpenMatrix and ReadVector fail so
  int64_t file_bytes_per_value = 4;
  std::optional<Manifest> manifest_mutable;
  absl::Status changed;  // CheckUnchanged says so

  // How often each matrix was opened.
  const std::map<std::string, int>& opened() const { return opened_; }
  int64_t FileBytes(const std::string& matrix) const {
    const Shape& shape = matrices.at(matrix);
    return shape.rows * shape.cols * file_bytes_per_value;
  }

  const ModelConfig& config() const override { return config_mutable; }
  const std::vector<TensorInfo>& tensors() const override {
    infos_.clear();
    for (const auto& [name, shape] : matrices) {
      infos_.push_back({.name = name, .bytes = FileBytes(name)});
    }
    for (const auto& [name, size] : vectors) {
      infos_.push_back({.name = name, .bytes = size * file_bytes_per_value});
    }
    return infos_;
  }
  std::string source() const override { return "fp32"; }
  bool source_is_quantized() const override { return false; }
  int64_t disk_bytes() const override { return 12345; }
  const Manifest* manifest() const override {
    return manifest_mutable.has_value() ? &*manifest_mutable : nullptr;
  }
  absl::StatusOr<Manifest> MakeManifest() const override {
    return absl::UnimplementedError("the test has no files");
  }
  absl::StatusOr<std::string> WeightsSha256() const override { return std::string(64, 'a'); }
  absl::Status CheckUnchanged() const override { return changed; }
  const TokenizerSource& tokenizer_source() const override { return tokenizer_mutable; }
  bool Has(const std::string& name) const override {
    return matrices.contains(name) || vectors.contains(name);
  }
  absl::StatusOr<WeightSource> OpenMatrix(const std::string& name) const override {
    if (const auto it = broken.find(name); it != broken.end()) return it->second;
    ++opened_[name];
    const Shape& shape = matrices.at(name);
    auto bytes = std::make_shared<LedgerEntry>(ledger_, FileBytes(name));
    return WeightSource{.name = name,
                        .rows = shape.rows,
                        .cols = shape.cols,
                        .read = [bytes, shape](int64_t first_row, int64_t count, float* out) {
                          for (int64_t i = 0; i < count * shape.cols; ++i) {
                            out[i] = static_cast<float>((first_row * shape.cols + i) % 7) * 0.25f -
                                     0.75f;
                          }
                          return absl::OkStatus();
                        }};
  }
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const override {
    if (const auto it = broken.find(name); it != broken.end()) return it->second;
    return std::vector<float>(vectors.at(name), 1.0f);
  }

 private:
  MemoryLedger* const ledger_;
  mutable std::map<std::string, int> opened_;
  mutable std::vector<TensorInfo> infos_;
};

}  // namespace vernier::testing
