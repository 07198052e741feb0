#include "engine/checkpoint/architectures.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace vernier {
namespace {

constexpr absl::string_view kLayer = "{i}";
constexpr int64_t kMaxLayers = 4096;

// ---- Llama: Touvron et al. 2023; transformers' modeling_llama, llama.cpp's LLM_ARCH_LLAMA ----

constexpr FixedKey kLlamaHfFixed[] = {
    {"attention_bias", "false"},     {"mlp_bias", "false"},
    {"partial_rotary_factor", "1"},  {"rope_interleaved", "false"},
    {"sliding_window", "null"},      {"num_local_experts", "0"},
    {"attention_logit_cap", "null"}, {"final_logit_softcapping", "null"}};

constexpr FixedKey kLlamaGgufFixed[] = {
    {"expert_count", "0"},       {"rope.scale_linear", "1"}, {"attention.sliding_window", "0"},
    {"attention.scale", "null"}, {"logit_scale", "null"},    {"use_parallel_residual", "false"}};

constexpr TensorRow kLlamaTensors[] = {
    {"embed", "embed_tokens.weight", "token_embd.weight"},
    {"layers.{i}.attention_norm.weight", "layers.{i}.input_layernorm.weight",
     "blk.{i}.attn_norm.weight"},
    {.name = "layers.{i}.attention.q",
     .hf_name = "layers.{i}.self_attn.q_proj.weight",
     .gguf_name = "blk.{i}.attn_q.weight",
     .gguf_interleaved = true},
    {.name = "layers.{i}.attention.k",
     .hf_name = "layers.{i}.self_attn.k_proj.weight",
     .gguf_name = "blk.{i}.attn_k.weight",
     .gguf_interleaved = true},
    {"layers.{i}.attention.v", "layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight"},
    {"layers.{i}.attention.o", "layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight"},
    {"layers.{i}.mlp_norm.weight", "layers.{i}.post_attention_layernorm.weight",
     "blk.{i}.ffn_norm.weight"},
    {"layers.{i}.mlp.gate", "layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight"},
    {"layers.{i}.mlp.up", "layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight"},
    {"layers.{i}.mlp.down", "layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight"},
    {"final_norm.weight", "norm.weight", "output_norm.weight"},
    {"lm_head", "lm_head.weight", "output.weight"},
};

constexpr absl::string_view kLlamaHfIgnored[] = {"layers.{i}.self_attn.rotary_emb.inv_freq"};
// The divisors of Llama 3's rotary frequencies: part of the config, and no weight.
constexpr absl::string_view kLlamaGgufIgnored[] = {"rope_freqs.weight"};

// ---- GPT-2: Radford et al. 2019; transformers' modeling_gpt2, llama.cpp's LLM_ARCH_GPT2 ----

constexpr FixedKey kGpt2HfFixed[] = {{"scale_attn_weights", "true"},
                                     {"scale_attn_by_inverse_layer_idx", "false"},
                                     {"add_cross_attention", "false"}};

constexpr TensorRow Gpt2Fused(absl::string_view name, absl::string_view kind, FusedPart part) {
  const bool weight = kind == "weight";
  return {.name = name,
          .hf_name = weight ? "h.{i}.attn.c_attn.weight" : "h.{i}.attn.c_attn.bias",
          .gguf_name = weight ? "blk.{i}.attn_qkv.weight" : "blk.{i}.attn_qkv.bias",
          .part = part,
          .hf_transposed = weight};
}

constexpr TensorRow Conv1d(absl::string_view name, absl::string_view hf_name,
                           absl::string_view gguf_name) {
  return {.name = name, .hf_name = hf_name, .gguf_name = gguf_name, .hf_transposed = true};
}

constexpr TensorRow kGpt2Tensors[] = {
    {"embed", "wte.weight", "token_embd.weight"},
    {"position_embed", "wpe.weight", "position_embd.weight"},
    {"layers.{i}.attention_norm.weight", "h.{i}.ln_1.weight", "blk.{i}.attn_norm.weight"},
    {"layers.{i}.attention_norm.bias", "h.{i}.ln_1.bias", "blk.{i}.attn_norm.bias"},
    Gpt2Fused("layers.{i}.attention.q", "weight", FusedPart::kQuery),
    Gpt2Fused("layers.{i}.attention.k", "weight", FusedPart::kKey),
    Gpt2Fused("layers.{i}.attention.v", "weight", FusedPart::kValue),
    Gpt2Fused("layers.{i}.attention.q.bias", "bias", FusedPart::kQuery),
    Gpt2Fused("layers.{i}.attention.k.bias", "bias", FusedPart::kKey),
    Gpt2Fused("layers.{i}.attention.v.bias", "bias", FusedPart::kValue),
    Conv1d("layers.{i}.attention.o", "h.{i}.attn.c_proj.weight", "blk.{i}.attn_output.weight"),
    {"layers.{i}.attention.o.bias", "h.{i}.attn.c_proj.bias", "blk.{i}.attn_output.bias"},
    {"layers.{i}.mlp_norm.weight", "h.{i}.ln_2.weight", "blk.{i}.ffn_norm.weight"},
    {"layers.{i}.mlp_norm.bias", "h.{i}.ln_2.bias", "blk.{i}.ffn_norm.bias"},
    Conv1d("layers.{i}.mlp.up", "h.{i}.mlp.c_fc.weight", "blk.{i}.ffn_up.weight"),
    {"layers.{i}.mlp.up.bias", "h.{i}.mlp.c_fc.bias", "blk.{i}.ffn_up.bias"},
    Conv1d("layers.{i}.mlp.down", "h.{i}.mlp.c_proj.weight", "blk.{i}.ffn_down.weight"),
    {"layers.{i}.mlp.down.bias", "h.{i}.mlp.c_proj.bias", "blk.{i}.ffn_down.bias"},
    {"final_norm.weight", "ln_f.weight", "output_norm.weight"},
    {"final_norm.bias", "ln_f.bias", "output_norm.bias"},
    {"lm_head", "lm_head.weight", "output.weight"},
};

// ---- Mistral: Jiang et al. 2023; transformers' modeling_mistral. GGUF files of it say llama. ----

constexpr FixedKey kMistralHfFixed[] = {{"attention_bias", "false"}, {"layer_types", "null"}};

// ---- Qwen 2 and 2.5: Yang et al. 2024; transformers' modeling_qwen2 ----

constexpr FixedKey kQwenHfFixed[] = {
    {"use_sliding_window", "false"}, {"attention_bias", "false"}, {"use_mrope", "false"}};

constexpr TensorRow kQwen2Tensors[] = {
    {"embed", "embed_tokens.weight", "token_embd.weight"},
    {"layers.{i}.attention_norm.weight", "layers.{i}.input_layernorm.weight",
     "blk.{i}.attn_norm.weight"},
    {"layers.{i}.attention.q", "layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight"},
    {"layers.{i}.attention.k", "layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight"},
    {"layers.{i}.attention.v", "layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight"},
    {"layers.{i}.attention.q.bias", "layers.{i}.self_attn.q_proj.bias", "blk.{i}.attn_q.bias"},
    {"layers.{i}.attention.k.bias", "layers.{i}.self_attn.k_proj.bias", "blk.{i}.attn_k.bias"},
    {"layers.{i}.attention.v.bias", "layers.{i}.self_attn.v_proj.bias", "blk.{i}.attn_v.bias"},
    {"layers.{i}.attention.o", "layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight"},
    {"layers.{i}.mlp_norm.weight", "layers.{i}.post_attention_layernorm.weight",
     "blk.{i}.ffn_norm.weight"},
    {"layers.{i}.mlp.gate", "layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight"},
    {"layers.{i}.mlp.up", "layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight"},
    {"layers.{i}.mlp.down", "layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight"},
    {"final_norm.weight", "norm.weight", "output_norm.weight"},
    {"lm_head", "lm_head.weight", "output.weight"},
};

// ---- Qwen 3: Yang et al. 2025; transformers' modeling_qwen3 ----

constexpr TensorRow kQwen3Tensors[] = {
    {"embed", "embed_tokens.weight", "token_embd.weight"},
    {"layers.{i}.attention_norm.weight", "layers.{i}.input_layernorm.weight",
     "blk.{i}.attn_norm.weight"},
    {"layers.{i}.attention.q", "layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight"},
    {"layers.{i}.attention.k", "layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight"},
    {"layers.{i}.attention.v", "layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight"},
    {"layers.{i}.attention.q_norm.weight", "layers.{i}.self_attn.q_norm.weight",
     "blk.{i}.attn_q_norm.weight"},
    {"layers.{i}.attention.k_norm.weight", "layers.{i}.self_attn.k_norm.weight",
     "blk.{i}.attn_k_norm.weight"},
    {"layers.{i}.attention.o", "layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight"},
    {"layers.{i}.mlp_norm.weight", "layers.{i}.post_attention_layernorm.weight",
     "blk.{i}.ffn_norm.weight"},
    {"layers.{i}.mlp.gate", "layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight"},
    {"layers.{i}.mlp.up", "layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight"},
    {"layers.{i}.mlp.down", "layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight"},
    {"final_norm.weight", "norm.weight", "output_norm.weight"},
    {"lm_head", "lm_head.weight", "output.weight"},
};

// ---- Gemma 3: Gemma Team 2025; transformers' modeling_gemma3, llama.cpp's LLM_ARCH_GEMMA3 ----

constexpr FixedKey kGemma3HfFixed[] = {{"attention_bias", "false"},
                                       {"attn_logit_softcapping", "null"},
                                       {"use_bidirectional_attention", "false"}};

constexpr FixedKey kGemma3GgufFixed[] = {{"attn_logit_softcapping", "0"},
                                         {"attention.scale", "null"}};

// Gemma's files keep the weight of a norm less one; llama.cpp's converter adds it.
constexpr TensorRow GemmaNorm(absl::string_view name, absl::string_view hf_name,
                              absl::string_view gguf_name) {
  return {.name = name, .hf_name = hf_name, .gguf_name = gguf_name, .hf_added = 1};
}

constexpr TensorRow kGemma3Tensors[] = {
    {"embed", "embed_tokens.weight", "token_embd.weight"},
    GemmaNorm("layers.{i}.attention_norm.weight", "layers.{i}.input_layernorm.weight",
              "blk.{i}.attn_norm.weight"),
    {"layers.{i}.attention.q", "layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight"},
    {"layers.{i}.attention.k", "layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight"},
    {"layers.{i}.attention.v", "layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight"},
    GemmaNorm("layers.{i}.attention.q_norm.weight", "layers.{i}.self_attn.q_norm.weight",
              "blk.{i}.attn_q_norm.weight"),
    GemmaNorm("layers.{i}.attention.k_norm.weight", "layers.{i}.self_attn.k_norm.weight",
              "blk.{i}.attn_k_norm.weight"),
    {"layers.{i}.attention.o", "layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight"},
    GemmaNorm("layers.{i}.attention_post_norm.weight", "layers.{i}.post_attention_layernorm.weight",
              "blk.{i}.post_attention_norm.weight"),
    GemmaNorm("layers.{i}.mlp_norm.weight", "layers.{i}.pre_feedforward_layernorm.weight",
              "blk.{i}.ffn_norm.weight"),
    {"layers.{i}.mlp.gate", "layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight"},
    {"layers.{i}.mlp.up", "layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight"},
    {"layers.{i}.mlp.down", "layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight"},
    GemmaNorm("layers.{i}.mlp_post_norm.weight", "layers.{i}.post_feedforward_layernorm.weight",
              "blk.{i}.post_ffw_norm.weight"),
    GemmaNorm("final_norm.weight", "norm.weight", "output_norm.weight"),
    {"lm_head", "lm_head.weight", "output.weight"},
};

// Causal masks that old checkpoints carry.
constexpr absl::string_view kGpt2HfIgnored[] = {"h.{i}.attn.bias", "h.{i}.attn.masked_bias"};

// What transformers calls the hyperparameters of Llama and of most models after it.
constexpr ConfigKeys LlamaLikeHfKeys(std::span<const FixedKey> fixed) {
  return {.num_layers = "num_hidden_layers",
          .hidden = "hidden_size",
          .context = "max_position_embeddings",
          .num_heads = "num_attention_heads",
          .intermediate = "intermediate_size",
          .vocab = "vocab_size",
          .num_kv_heads = "num_key_value_heads",
          .head_dim = "head_dim",
          .norm_epsilon = "rms_norm_eps",
          .activation = "hidden_act",
          .rope_theta = "rope_theta",
          .tied = "tie_word_embeddings",
          .fixed = fixed};
}

constexpr ConfigKeys MistralHfKeys() {
  ConfigKeys keys = LlamaLikeHfKeys(kMistralHfFixed);
  keys.window = "sliding_window";
  keys.default_window = 4096;
  return keys;
}

constexpr ConfigKeys QwenHfKeys(int64_t default_head_dim) {
  ConfigKeys keys = LlamaLikeHfKeys(kQwenHfFixed);
  keys.layer_types = "layer_types";
  keys.default_head_dim = default_head_dim;
  return keys;
}

constexpr ConfigKeys Gemma3HfKeys() {
  ConfigKeys keys = LlamaLikeHfKeys(kGemma3HfFixed);
  keys.activation = "hidden_activation";
  keys.window = "sliding_window";
  keys.window_pattern = "sliding_window_pattern";
  keys.layer_types = "layer_types";
  keys.window_theta = "rope_local_base_freq";
  keys.query_scalar = "query_pre_attn_scalar";
  keys.soft_cap = "final_logit_softcapping";
  keys.default_head_dim = 256;
  keys.default_window = 4096;
  keys.default_theta = 1e6;
  return keys;
}

// What llama.cpp calls them, behind the architecture's name.
constexpr ConfigKeys LlamaLikeGgufKeys() {
  return {.num_layers = "block_count",
          .hidden = "embedding_length",
          .context = "context_length",
          .num_heads = "attention.head_count",
          .intermediate = "feed_forward_length",
          .vocab = "vocab_size",
          .num_kv_heads = "attention.head_count_kv",
          .head_dim = "attention.key_length",
          .norm_epsilon = "attention.layer_norm_rms_epsilon",
          .rope_theta = "rope.freq_base",
          .rotary_dims = "rope.dimension_count",
          .rope_scaling = "rope.scaling.type",
          .rope_scaling_factor = "rope.scaling.factor"};
}

constexpr ConfigKeys LlamaGgufKeys() {
  ConfigKeys keys = LlamaLikeGgufKeys();
  keys.fixed = kLlamaGgufFixed;
  return keys;
}

constexpr ConfigKeys kGpt2GgufKeys = {.num_layers = "block_count",
                                      .hidden = "embedding_length",
                                      .context = "context_length",
                                      .num_heads = "attention.head_count",
                                      .intermediate = "feed_forward_length",
                                      .vocab = "vocab_size",
                                      .norm_epsilon = "attention.layer_norm_epsilon"};

constexpr ConfigKeys Gemma3GgufKeys() {
  ConfigKeys keys = LlamaLikeGgufKeys();
  keys.window = "attention.sliding_window";
  keys.window_pattern = "attention.sliding_window_pattern";
  keys.window_theta = "rope.freq_base_swa";
  keys.soft_cap = "final_logit_softcapping";
  keys.hidden_scalar_layers = 62;  // the 27B
  keys.fixed = kGemma3GgufFixed;
  return keys;
}

constexpr Architecture kArchitectures[] = {
    {.name = "llama",
     .hf_class = "LlamaForCausalLM",
     .hf_model_type = "llama",
     .hf_prefix = "model.",
     .norm = NormKind::kRms,
     .default_norm_epsilon = 1e-6,
     .default_activation = ActivationKind::kSilu,
     .gated_mlp = true,
     .learned_positions = false,
     .default_tied = false,
     .hf_keys = LlamaLikeHfKeys(kLlamaHfFixed),
     .gguf_keys = LlamaGgufKeys(),
     .tensors = kLlamaTensors,
     .hf_ignored = kLlamaHfIgnored,
     .gguf_ignored = kLlamaGgufIgnored},
    {.name = "gpt2",
     .hf_class = "GPT2LMHeadModel",
     .hf_model_type = "gpt2",
     .hf_prefix = "transformer.",
     .norm = NormKind::kLayer,
     .default_norm_epsilon = 1e-5,
     .default_activation = ActivationKind::kGeluTanh,
     .gated_mlp = false,
     .learned_positions = true,
     .default_tied = true,
     .hf_keys = {.num_layers = "n_layer",
                 .hidden = "n_embd",
                 .context = "n_positions",
                 .num_heads = "n_head",
                 .intermediate = "n_inner",
                 .vocab = "vocab_size",
                 .norm_epsilon = "layer_norm_epsilon",
                 .activation = "activation_function",
                 .tied = "tie_word_embeddings",
                 .fixed = kGpt2HfFixed},
     .gguf_keys = kGpt2GgufKeys,
     .tensors = kGpt2Tensors,
     .hf_ignored = kGpt2HfIgnored},
    {.name = "mistral",
     .hf_class = "MistralForCausalLM",
     .hf_model_type = "mistral",
     .hf_prefix = "model.",
     .default_norm_epsilon = 1e-6,
     .hf_keys = MistralHfKeys(),
     .tensors = kLlamaTensors,
     .hf_ignored = kLlamaHfIgnored},
    {.name = "qwen2",
     .hf_class = "Qwen2ForCausalLM",
     .hf_model_type = "qwen2",
     .hf_prefix = "model.",
     .default_norm_epsilon = 1e-6,
     .qkv_biases = true,
     .hf_keys = QwenHfKeys(/*default_head_dim=*/0),
     .gguf_keys = LlamaLikeGgufKeys(),
     .tensors = kQwen2Tensors},
    {.name = "qwen3",
     .hf_class = "Qwen3ForCausalLM",
     .hf_model_type = "qwen3",
     .hf_prefix = "model.",
     .default_norm_epsilon = 1e-6,
     .head_norms = true,
     .hf_keys = QwenHfKeys(/*default_head_dim=*/128),
     .gguf_keys = LlamaLikeGgufKeys(),
     .tensors = kQwen3Tensors},
    {.name = "gemma3",
     .hf_class = "Gemma3ForCausalLM",
     .hf_model_type = "gemma3_text",
     .hf_prefix = "model.",
     .default_norm_epsilon = 1e-6,
     .default_activation = ActivationKind::kGeluTanh,
     .default_tied = true,
     .head_norms = true,
     .post_norms = true,
     .scaled_embedding = true,
     .window_pattern = 6,
     .hf_keys = Gemma3HfKeys(),
     .gguf_keys = Gemma3GgufKeys(),
     .tensors = kGemma3Tensors},
};

// The layer's number in `name` where it is `pattern`, or -1; 0 for a pattern without a layer.
int64_t LayerOf(absl::string_view pattern, absl::string_view name) {
  if (pattern.empty()) return -1;
  const size_t at = pattern.find(kLayer);
  if (at == absl::string_view::npos) return pattern == name ? 0 : -1;
  if (!absl::ConsumePrefix(&name, pattern.substr(0, at)) ||
      !absl::ConsumeSuffix(&name, pattern.substr(at + kLayer.size()))) {
    return -1;
  }
  const bool digits =
      !name.empty() && name.size() <= 4 &&
      std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || (name.size() > 1 && name[0] == '0')) return -1;
  int64_t layer = -1;
  return absl::SimpleAtoi(name, &layer) && layer < kMaxLayers ? layer : -1;
}

std::string SupportedNames(FileKind kind) {
  std::string names;
  for (const Architecture& row : kArchitectures) {
    const bool gguf = kind == FileKind::kGguf;
    if (gguf && row.gguf_keys.num_layers.empty()) continue;
    absl::StrAppend(&names, names.empty() ? "" : ", ", gguf ? row.name : row.hf_class);
  }
  return names;
}

}  // namespace

std::span<const Architecture> Architectures() { return kArchitectures; }

absl::StatusOr<const Architecture*> ArchitectureOfHf(absl::string_view model_type,
                                                     absl::string_view hf_class) {
  for (const Architecture& row : kArchitectures) {
    if (row.hf_class == hf_class && row.hf_model_type == model_type) return &row;
  }
  return absl::UnimplementedError(
      absl::StrCat("architecture ", hf_class, " (model_type ", model_type,
                   ") is not supported; these are: ", SupportedNames(FileKind::kHuggingFace)));
}

absl::StatusOr<const Architecture*> ArchitectureOfGguf(absl::string_view architecture) {
  for (const Architecture& row : kArchitectures) {
    if (row.name == architecture && !row.gguf_keys.num_layers.empty()) return &row;
  }
  return absl::UnimplementedError(
      absl::StrCat("general.architecture ", architecture,
                   " is not supported; these are: ", SupportedNames(FileKind::kGguf)));
}

absl::StatusOr<std::vector<TensorUse>> UsesOf(const Architecture& architecture, FileKind kind,
                                              absl::string_view file_name) {
  const bool hf = kind == FileKind::kHuggingFace;
  absl::string_view name = file_name;
  if (hf) absl::ConsumePrefix(&name, architecture.hf_prefix);
  std::vector<TensorUse> uses;
  for (const TensorRow& row : architecture.tensors) {
    const int64_t layer = LayerOf(hf ? row.hf_name : row.gguf_name, name);
    if (layer < 0) continue;
    uses.push_back({absl::StrReplaceAll(row.name, {{kLayer, absl::StrCat(layer)}}), &row});
  }
  if (!uses.empty()) return uses;
  for (const absl::string_view ignored : hf ? architecture.hf_ignored : architecture.gguf_ignored) {
    if (LayerOf(ignored, name) >= 0) return uses;
  }
  return absl::UnimplementedError(absl::StrCat("tensor ", file_name,
                                               " is not one that architecture ", architecture.name,
                                               " is known to have"));
}

absl::StatusOr<RowRange> RowsOf(const ModelConfig& config, const TensorUse& use,
                                int64_t file_rows) {
  if (use.row->part == FusedPart::kWhole) return RowRange{0, file_rows};
  const int64_t q_rows = int64_t{config.attention.num_heads} * config.attention.head_dim;
  const int64_t kv_rows = int64_t{config.attention.num_kv_heads} * config.attention.head_dim;
  if (file_rows != q_rows + 2 * kv_rows) {
    return absl::InvalidArgumentError(absl::StrCat("what holds ", use.name, " has ", file_rows,
                                                   " outputs, expected ", q_rows, " + ", kv_rows,
                                                   " + ", kv_rows, " of q, k and v"));
  }
  switch (use.row->part) {
    case FusedPart::kKey:
      return RowRange{q_rows, kv_rows};
    case FusedPart::kValue:
      return RowRange{q_rows + kv_rows, kv_rows};
    default:
      return RowRange{0, q_rows};
  }
}

}  // namespace vernier
