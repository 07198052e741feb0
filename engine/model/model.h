// One checkpoint held in several precisions: shared tensors, variants, and what each costs in
// memory.
//
// Any thread may read it. Only what a variant computes with (VariantWeights: the device thread's),
// who owns that (`weights`: the VariantLoader's) and what is Renewed change after LoadModel.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/manifest.h"
#include "engine/checkpoint/model_config.h"
#include "engine/model/activations.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "kernels/backend.h"

namespace vernier {

// "layers.*.mlp.down" -> int8. `*` matches any run of characters; first match wins.
struct FormatRule {
  std::string pattern;
  FormatId format = FormatId::kF16;
  bool operator==(const FormatRule&) const = default;
};

struct VariantSpec {
  std::string name;                 // [a-z0-9][a-z0-9._+-]{0,62}
  std::vector<FormatRule> formats;  // the last one must match everything
  KvType kv = KvType::kF16;
  Activations activations = Activations::kFull;
  bool at_start = true;  // false: not loaded until it is asked for (variant_loader.h)
};

// The spec that a bare format name on a command line means: embeddings and lm_head in fp16, the
// rest in `format`; a format of 16 bits or more is used throughout, and fp32 keeps its KV in fp32.
VariantSpec DefaultVariant(FormatId format);

// The spec that a bare name means: "nf4" is DefaultVariant's; behind the format, each once, "+kv8"
// makes the KV cache int8, a suffix of activations.h the activations. INVALID_ARGUMENT naming what
// is known.
absl::StatusOr<VariantSpec> ParseVariant(absl::string_view name);

// INVALID_ARGUMENT naming the first variant with a malformed or repeated name or without a rule, or
// when there is none, or none that is loaded at the start.
absl::Status CheckVariants(const std::vector<VariantSpec>& variants);

struct LayerWeights {
  Norm attention_norm, mlp_norm;
  Norm q_norm, k_norm;                      // of each head; weight null: none
  Norm attention_post_norm, mlp_post_norm;  // weight null: none
  Linear q, k, v, o;
  Linear gate, up, down;  // gate.weight null: no gate
};

// What a variant computes with: pointers into the Model.
struct VariantWeights {
  EmbedArgs embed;
  std::vector<LayerWeights> layers;  // none: the variant is not loaded
  Norm final_norm;
  Linear lm_head;
};

// Every weight that is pointed to, each once.
std::vector<const Weight*> WeightsOf(const VariantWeights& variant);

// A number that one thread renews while others read it.
template <typename T>
class Renewed {
 public:
  Renewed(T value = {}) : value_(value) {}  // NOLINT: it is its value
  Renewed(const Renewed& other) : value_(static_cast<T>(other)) {}
  Renewed& operator=(const Renewed& other) { return *this = static_cast<T>(other); }
  Renewed& operator=(T value) {
    value_.store(value, std::memory_order_release);
    return *this;
  }
  operator T() const { return value_.load(std::memory_order_acquire); }  // NOLINT

 private:
  std::atomic<T> value_;
};

struct Variant : VariantWeights {
  std::string name;
  // Of most of its bytes among the layers' linears; of its last rule where it is not loaded at the
  // start.
  FormatId precision = FormatId::kF16;
  KvType kv = KvType::kF16;
  Activations activations = Activations::kFull;
  Renewed<bool> loaded = true;        // false: requests for it are refused
  Renewed<bool> failed = false;       // it drew other tokens than its manifest says: not loaded
  Renewed<int64_t> own_bytes = 0;     // packed weights and vectors that no other variant uses
  Renewed<int64_t> shared_bytes = 0;  // that others use too
  // Of the second tensor of a tied lm_head whose format is not the embedding's; part of the above.
  Renewed<int64_t> tied_copy_bytes = 0;
  // Reading and packing; a tensor's time is divided equally among the variants that use it.
  Renewed<double> load_seconds = 0;
};

struct ModelMemory {
  Renewed<int64_t> shared_weight_bytes = 0;
  Renewed<int64_t> weight_bytes = 0;  // shared and own
  int64_t tokenizer_bytes = 0;
  int64_t disk_bytes = 0;
};

// What the weights were compared with while they were read.
enum class Integrity : uint8_t { kStructureOnly, kManifest };
// "structure only", "manifest".
const char* IntegrityName(Integrity integrity);

struct Model {
  std::string name;
  std::string source;  // "bf16", "q4_1 (dequantized)": what the weights were before
  bool source_is_quantized = false;
  std::string weights_sha256;  // 64 hex digits, as Checkpoint::WeightsSha256 has it
  Integrity integrity = Integrity::kStructureOnly;
  // Of the manifest; not checked here, see engine/golden.h.
  std::optional<GoldenTokens> golden;
  std::map<FormatId, GoldenTokens> golden_formats;
  ModelConfig config;
  std::vector<TensorInfo> tensors;       // of the weight files
  Rotary rotary;                         // inverse_frequencies null when positions are learned
  Rotary window_rotary;                  // of layers with a window; the same where they share it
  std::vector<Variant> variants;         // in the order given
  std::unique_ptr<Tokenizer> tokenizer;  // null: token ids alone are served
  std::unique_ptr<ChatTemplate>
      chat_template;  // null: none, or not one we render; the reason is below
  std::string no_tokenizer_reason, no_chat_reason;
  ModelMemory memory;

  // Owners of what the variants point to, by the checkpoint's names: a weight once a format, a
  // vector once for all variants.
  std::map<std::pair<std::string, FormatId>, std::unique_ptr<const Weight>> weights;
  std::map<std::string, std::unique_ptr<const Vector>> vectors;

  // -1 when there is none.
  int FindVariant(absl::string_view variant_name) const;
};

// Fills in what each variant that is loaded costs: its own bytes and those it shares.
void AccountMemory(Model* model);

struct LoadProgress {
  int64_t tensors_done = 0;
  int64_t tensors_total = 0;
  int64_t bytes_done = 0;  // of those tensors in the file
  int64_t bytes_total = 0;
};
// False: stop.
using LoadProgressFunction = std::function<bool(const LoadProgress&)>;

// Reads each tensor once and packs it into every format that a variant which is loaded at the start
// wants. Peak memory is the result plus the two largest tensors. Errors name the tensor: those of
// the checkpoint, INVALID_ARGUMENT for values that are not finite, a shape that the config
// contradicts, a rule set that leaves a weight without a format or a tokenizer larger than the
// vocabulary; the same naming the file and the tensor for what a manifest beside the model
// contradicts, and for a file that changes meanwhile; those of CheckVariants, and naming the first
// variant whose KV type or activations the backend lacks; CANCELLED when `progress` (null: none;
// called before the first tensor and after each) returns false. A tokenizer or chat template that
// is missing or not supported is no error: the reason is in the result.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& path, const std::string& name,
                                                 const std::vector<VariantSpec>& variants,
                                                 Backend* backend,
                                                 const LoadProgressFunction& progress);

// The same from a checkpoint that is open already.
absl::StatusOr<std::unique_ptr<Model>> LoadModelFrom(const Checkpoint& checkpoint,
                                                     const std::string& name,
                                                     const std::vector<VariantSpec>& variants,
                                                     Backend* backend,
                                                     const LoadProgressFunction& progress);

}  // namespace vernier
