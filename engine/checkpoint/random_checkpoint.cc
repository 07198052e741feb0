#include "engine/checkpoint/random_checkpoint.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/checkpoint/hf_config.h"
#include "engine/checkpoint/read_config.h"
#include "engine/checkpoint/sha256.h"
#include "kernels/tensor.h"

namespace vernier {
namespace {

struct Shapes {
  const char* name;
  int64_t num_layers, hidden, intermediate, vocab, context;
  int num_heads, num_kv_heads, head_dim;
  double rope_theta;
  bool tied;
};

// Of the models' config.json; Llama 3's scaling of rotary frequencies is left out.
constexpr Shapes kShapes[] = {
    {"llama-3.1-8b", 32, 4096, 14336, 128256, 131072, 32, 8, 128, 500000, false},
    {"llama-3.2-1b", 16, 2048, 8192, 128256, 131072, 32, 8, 64, 500000, true},
    {"llama-3.1-70b", 80, 8192, 28672, 128256, 131072, 64, 8, 128, 500000, false},
    {"smollm2-135m", 30, 576, 1536, 49152, 8192, 9, 3, 64, 100000, true},
};
constexpr int kStoredBytes = 2;  // of a value, as the real ones are stored
constexpr char kSeed[] = "1";
constexpr double kNormEpsilon = 1e-5;

// Two values in (-1, 1) from the bits of splitmix64's finisher (Steele et al. 2014) at a position.
struct Pair {
  float first, second;
};
Pair PairAt(uint64_t position) {
  uint64_t z = position * 0x9e3779b97f4a7c15ull;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  const auto value = [](uint64_t bits) {
    return static_cast<float>(static_cast<int32_t>(static_cast<uint32_t>(bits))) * 0x1p-31f;
  };
  return {value(z), value(z >> 32)};
}

float Rounded(float value) { return F32FromBF16(BF16FromF32(value)); }

ModelConfig ConfigOf(const Shapes& shapes) {
  ModelConfig config;
  config.architecture = "llama";
  config.num_layers = shapes.num_layers;
  config.hidden = shapes.hidden;
  config.intermediate = shapes.intermediate;
  config.vocab = shapes.vocab;
  config.context = shapes.context;
  config.attention = {.num_heads = shapes.num_heads,
                      .num_kv_heads = shapes.num_kv_heads,
                      .head_dim = shapes.head_dim,
                      .scale = 1 / std::sqrt(static_cast<float>(shapes.head_dim))};
  config.norm_epsilon = static_cast<float>(kNormEpsilon);
  config.tied_lm_head = shapes.tied;
  config.inverse_frequencies = InverseFrequencies(shapes.rope_theta, shapes.head_dim);
  return config;
}

class RandomCheckpoint final : public Checkpoint {
 public:
  explicit RandomCheckpoint(const Shapes& shapes) : name_(shapes.name), config_(ConfigOf(shapes)) {
    tokenizer_.reason = "random weights have no tokenizer";
    const int64_t hidden = shapes.hidden, inner = shapes.intermediate;
    const int64_t query = int64_t{shapes.num_heads} * shapes.head_dim;
    const int64_t kv = int64_t{shapes.num_kv_heads} * shapes.head_dim;
    Add("embed", {shapes.vocab, hidden});
    for (int64_t i = 0; i < shapes.num_layers; ++i) {
      const std::string layer = absl::StrCat("layers.", i, ".");
      Add(layer + "attention_norm.weight", {hidden});
      Add(layer + "attention.q", {query, hidden});
      Add(layer + "attention.k", {kv, hidden});
      Add(layer + "attention.v", {kv, hidden});
      Add(layer + "attention.o", {hidden, query});
      Add(layer + "mlp_norm.weight", {hidden});
      Add(layer + "mlp.gate", {inner, hidden});
      Add(layer + "mlp.up", {inner, hidden});
      Add(layer + "mlp.down", {hidden, inner});
    }
    Add("final_norm.weight", {hidden});
    if (!shapes.tied) Add("lm_head", {shapes.vocab, hidden});
  }

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::string source() const override { return "random weights"; }
  bool source_is_quantized() const override { return false; }
  int64_t disk_bytes() const override { return 0; }
  const Manifest* manifest() const override { return nullptr; }
  absl::StatusOr<Manifest> MakeManifest() const override {
    return absl::UnimplementedError("random weights have no files to list");
  }
  absl::StatusOr<std::string> WeightsSha256() const override {
    // Of what the values follow from.
    return Sha256::Of(absl::StrCat(kRandomWeightsPrefix, name_, " seed ", kSeed, " bf16"));
  }
  absl::Status CheckUnchanged() const override { return absl::OkStatus(); }
  const TokenizerSource& tokenizer_source() const override { return tokenizer_; }

  bool Has(const std::string& name) const override { return index_.contains(name); }
  absl::StatusOr<WeightSource> OpenMatrix(const std::string& name) const override;
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const override;

 private:
  void Add(const std::string& name, std::vector<int64_t> shape) {
    int64_t values = 1;
    for (const int64_t extent : shape) values *= extent;
    index_.emplace(name, tensors_.size());
    tensors_.push_back({name, name, "random", std::move(shape), values * kStoredBytes});
  }

  const std::string name_;
  const ModelConfig config_;
  TokenizerSource tokenizer_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

absl::StatusOr<WeightSource> RandomCheckpoint::OpenMatrix(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end() || tensors_[found->second].shape.size() != 2) {
    return absl::NotFoundError(absl::StrCat("no matrix ", name));
  }
  const std::vector<int64_t>& shape = tensors_[found->second].shape;
  const int64_t cols = shape[1];
  // Tensors are 2^40 positions apart, more than any has.
  const uint64_t first = static_cast<uint64_t>(found->second + 1) << 40;
  return WeightSource{.name = name,
                      .rows = shape[0],
                      .cols = cols,
                      .read = [cols, first](int64_t first_row, int64_t count, float* out) {
                        constexpr float kUniform =
                            0.02f * 1.7320508f;  // of that standard deviation
                        const int64_t begin = first_row * cols, end = begin + count * cols;
                        for (int64_t i = begin; i < end;) {
                          const Pair pair = PairAt(first + static_cast<uint64_t>(i / 2));
                          if (i % 2 == 0) *out++ = Rounded(pair.first * kUniform), ++i;
                          if (i < end) *out++ = Rounded(pair.second * kUniform), ++i;
                        }
                        return absl::OkStatus();
                      }};
}

absl::StatusOr<std::vector<float>> RandomCheckpoint::ReadVector(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end() || tensors_[found->second].shape.size() != 1) {
    return absl::NotFoundError(absl::StrCat("no vector ", name));
  }
  return std::vector<float>(tensors_[found->second].shape[0], 1.0f);
}

absl::StatusOr<Shapes> Find(absl::string_view name, const RandomModelPart& part) {
  for (Shapes shapes : kShapes) {
    if (name != shapes.name) continue;
    if (part.num_layers > 0) shapes.num_layers = part.num_layers;
    if (part.vocab > 0) shapes.vocab = part.vocab;
    return shapes;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no random model '", name, "', known: ", RandomModelNames()));
}

}  // namespace

std::string RandomModelNames() {
  return absl::StrJoin(kShapes, ", ", [](std::string* out, const Shapes& shapes) {
    absl::StrAppend(out, shapes.name);
  });
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenRandomCheckpoint(absl::string_view name,
                                                                 const RandomModelPart& part) {
  const absl::StatusOr<Shapes> shapes = Find(name, part);
  if (!shapes.ok()) return shapes.status();
  return std::make_unique<RandomCheckpoint>(*shapes);
}

absl::StatusOr<std::string> RandomConfigJson(absl::string_view name, const RandomModelPart& part) {
  const absl::StatusOr<Shapes> shapes = Find(name, part);
  if (!shapes.ok()) return shapes.status();
  const nlohmann::ordered_json config = {{"architectures", {"LlamaForCausalLM"}},
                                         {"model_type", "llama"},
                                         {"hidden_size", shapes->hidden},
                                         {"intermediate_size", shapes->intermediate},
                                         {"num_hidden_layers", shapes->num_layers},
                                         {"num_attention_heads", shapes->num_heads},
                                         {"num_key_value_heads", shapes->num_kv_heads},
                                         {"head_dim", shapes->head_dim},
                                         {"hidden_act", "silu"},
                                         {"max_position_embeddings", shapes->context},
                                         {"rms_norm_eps", kNormEpsilon},
                                         {"rope_theta", shapes->rope_theta},
                                         {"tie_word_embeddings", shapes->tied},
                                         {"torch_dtype", "bfloat16"},
                                         {"vocab_size", shapes->vocab},
                                         {kWeightsKey, kRandomWeights}};
  return config.dump(2) + "\n";
}

}  // namespace vernier
