// One checkpoint held in several precisions: shared tensors, variants, and what each costs in
// memory.
//
// Immutable after LoadModel, so any thread may read it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/manifest.h"
#include "engine/checkpoint/model_config.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "kernels/backend.h"

namespace vernier {

class Checkpoint;

// "layers.*.mlp.down" -> int8. `*` matches any run of characters; first match wins.
struct FormatRule {
  std::string pattern;
  FormatId format = FormatId::kF16;
};

struct VariantSpec {
  std::string name;                 // [a-z0-9][a-z0-9._+-]{0,62}
  std::vector<FormatRule> formats;  // the last one must match everything
  ScalarType kv = ScalarType::kF16;
};

// The spec that a bare format name on a command line means: embeddings and lm_head in fp16, the
// rest in `format`; a format of 16 bits or more is used throughout, and fp32 keeps its KV in fp32.
VariantSpec DefaultVariant(FormatId format);

// INVALID_ARGUMENT naming the first variant with a malformed or repeated name or without a rule, or
// when there is none.
absl::Status CheckVariants(const std::vector<VariantSpec>& variants);

struct LayerWeights {
  Norm attention_norm, mlp_norm;
  Norm q_norm, k_norm;                      // of each head; weight null: none
  Norm attention_post_norm, mlp_post_norm;  // weight null: none
  Linear q, k, v, o;
  Linear gate, up, down;  // gate.weight null: no gate
};

struct Variant {
  std::string name;
  FormatId precision = FormatId::kF16;  // of most of its bytes among the layers' linears
  ScalarType kv = ScalarType::kF16;
  EmbedArgs embed;
  std::vector<LayerWeights> layers;
  Norm final_norm;
  Linear lm_head;
  int64_t own_bytes = 0;     // packed weights and vectors that no other variant uses
  int64_t shared_bytes = 0;  // that others use too
  // Of the second tensor of a tied lm_head whose format is not the embedding's; part of the above.
  int64_t tied_copy_bytes = 0;
  // Reading and packing; a tensor's time is divided equally among the variants that use it.
  double load_seconds = 0;
};

struct ModelMemory {
  int64_t shared_weight_bytes = 0;
  int64_t weight_bytes = 0;  // shared and own
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
  std::string weights_sha256;  // 64 hex digits, over the weight files in order
  Integrity integrity = Integrity::kStructureOnly;
  std::optional<GoldenTokens> golden;  // of the manifest; not checked here, see engine/golden.h
  ModelConfig config;
  Rotary rotary;                         // inverse_frequencies null when positions are learned
  Rotary window_rotary;                  // of layers with a window; the same where they share it
  std::vector<Variant> variants;         // in the order given
  std::unique_ptr<Tokenizer> tokenizer;  // null: token ids alone are served
  std::unique_ptr<ChatTemplate>
      chat_template;  // null: none, or not one we render; the reason is below
  std::string no_tokenizer_reason, no_chat_reason;
  ModelMemory memory;

  // Owners of what the variants point to.
  std::vector<std::unique_ptr<Weight>> weights;
  std::vector<std::unique_ptr<Vector>> vectors;

  // -1 when there is none.
  int FindVariant(absl::string_view variant_name) const;
};

struct LoadProgress {
  int64_t tensors_done = 0;
  int64_t tensors_total = 0;
  int64_t bytes_done = 0;  // of those tensors in the file
  int64_t bytes_total = 0;
};

// Reads each tensor once and packs it into every format that a variant wants. Peak memory is the
// result plus the two largest tensors. Errors name the tensor: those of the checkpoint,
// INVALID_ARGUMENT for values that are not finite, a shape that the config contradicts, a rule set
// that leaves a weight without a format or a tokenizer larger than the vocabulary; the same naming
// the file and the tensor for what a manifest beside the model contradicts, and for a file that
// changes meanwhile; those of CheckVariants; CANCELLED when `progress` (null: none; called before
// the first tensor and after each) returns false. A tokenizer or chat template that is missing or
// not supported is no error: the reason is in the result.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(
    const std::string& path, const std::string& name, const std::vector<VariantSpec>& variants,
    Backend* backend, const std::function<bool(const LoadProgress&)>& progress);

// The same from a checkpoint that is open already.
absl::StatusOr<std::unique_ptr<Model>> LoadModelFrom(
    const Checkpoint& checkpoint, const std::string& name, const std::vector<VariantSpec>& variants,
    Backend* backend, const std::function<bool(const LoadProgress&)>& progress);

}  // namespace vernier
