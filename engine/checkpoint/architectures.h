// The architectures that a checkpoint may have, one row each: what files call its hyperparameters
// and tensors, and how a tensor of the file becomes a canonical one. All of it is data.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/model_config.h"

namespace vernier {

// Of a matrix that holds q, k and v one below the other, in [outputs, inputs] orientation.
enum class FusedPart : uint8_t { kWhole, kQuery, kKey, kValue };

// One canonical tensor. `{i}` stands for the layer's number in all three names.
struct TensorRow {
  absl::string_view name;       // canonical: "layers.{i}.attention.q"
  absl::string_view hf_name;    // without Architecture::hf_prefix; empty: not in such files
  absl::string_view gguf_name;  // empty: not in such files
  FusedPart part = FusedPart::kWhole;
  bool hf_transposed = false;  // [inputs, outputs] in Hugging Face files (Conv1D)
  float hf_added = 0;          // to each value of a Hugging Face vector (Gemma stores weight - 1)
  // In GGUF files the rows of each head interleave the rotary pairs: row 2 * j + p of the file is
  // row p * head_dim / 2 + j of ours.
  bool gguf_interleaved = false;
};

// A key that must be absent, null or the value beside it (JSON text): anything else would be
// computed wrongly, so it is refused by name.
struct FixedKey {
  absl::string_view key;
  absl::string_view value;
};

// Where one kind of file keeps the hyperparameters; empty: it has no such key. GGUF's keys are
// those behind the architecture's name and a dot.
struct ConfigKeys {
  absl::string_view num_layers, hidden, context, num_heads;  // required
  absl::string_view intermediate;                            // default: 4 * hidden
  absl::string_view vocab;         // 0 when GGUF does not say: the embedding's rows do
  absl::string_view num_kv_heads;  // default: num_heads
  absl::string_view head_dim;      // default: default_head_dim
  absl::string_view norm_epsilon;
  absl::string_view activation;   // default: the architecture's
  absl::string_view rope_theta;   // default: default_theta
  absl::string_view rotary_dims;  // must be head_dim where it is said
  absl::string_view tied;         // default: the architecture's
  // Which layers attend to a window alone. Null where there is a window's key: none does.
  absl::string_view window;          // tokens; default: default_window
  absl::string_view window_pattern;  // default: the architecture's
  absl::string_view layer_types;     // instead of the pattern, a word a layer
  absl::string_view window_theta;    // of those layers, default 10000; empty: rope_theta is
  // GGUF's, of layers without a window: none or linear; default: linear by a factor that is there.
  absl::string_view rope_scaling, rope_scaling_factor;
  absl::string_view query_scalar;  // q.k is divided by its root; default: head_dim
  absl::string_view soft_cap;      // default: none
  int64_t default_head_dim = 0;    // 0: hidden / num_heads
  int64_t default_window = 0;      // 0: none
  double default_theta = 10000;
  // Models of this many layers have the query scalar hidden / num_heads, and files do not say so.
  int64_t hidden_scalar_layers = 0;
  std::span<const FixedKey> fixed;
};

struct Architecture {
  // ModelConfig::architecture, and GGUF's general.architecture where there are gguf_keys.
  absl::string_view name;
  absl::string_view hf_class;       // in config.json's `architectures`
  absl::string_view hf_model_type;  // config.json's `model_type`
  absl::string_view hf_prefix;      // of tensor names; files without it are read too
  NormKind norm = NormKind::kRms;
  double default_norm_epsilon = 0;
  ActivationKind default_activation = ActivationKind::kSilu;
  bool gated_mlp = true;
  bool learned_positions = false;
  bool default_tied = false;
  bool qkv_biases = false;
  bool head_norms = false;
  bool post_norms = false;
  bool scaled_embedding = false;  // by the root of hidden
  int64_t window_pattern = 0;     // every such layer has no window; 0: all have one
  ConfigKeys hf_keys, gguf_keys;
  std::span<const TensorRow> tensors;
  // Tensors that a file may have and that the forward pass does not need: masks, rotary tables.
  std::span<const absl::string_view> hf_ignored, gguf_ignored;
};

std::span<const Architecture> Architectures();

// UNIMPLEMENTED naming what was asked for and what there is.
absl::StatusOr<const Architecture*> ArchitectureOfHf(absl::string_view model_type,
                                                     absl::string_view hf_class);
absl::StatusOr<const Architecture*> ArchitectureOfGguf(absl::string_view architecture);

enum class FileKind : uint8_t { kHuggingFace, kGguf };

// A canonical tensor that a tensor of the file makes, or a part of it.
struct TensorUse {
  std::string name;  // canonical, with the layer's number
  const TensorRow* row = nullptr;
};

// What the file's tensor `file_name` is for: several uses when it is fused, none when it is
// ignored. UNIMPLEMENTED for a tensor that no row knows: leaving it out would give wrong results.
absl::StatusOr<std::vector<TensorUse>> UsesOf(const Architecture& architecture, FileKind kind,
                                              absl::string_view file_name);

// Rows of the file's matrix (or values of its bias) that a use takes, in [outputs, inputs]
// orientation. INVALID_ARGUMENT naming the tensor when a fused one has not the rows of q, k and v
// that `config` makes.
struct RowRange {
  int64_t first = 0;
  int64_t count = 0;
};
absl::StatusOr<RowRange> RowsOf(const ModelConfig& config, const TensorUse& use, int64_t file_rows);

}  // namespace vernier
