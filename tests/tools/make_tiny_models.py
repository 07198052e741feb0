#!/usr/bin/env python3
"""Makes tiny seeded models in Hugging Face's format, and records what transformers computes with them.

Usage: make_tiny_models.py OUT_FOLDER

Needs transformers 5.24.0, torch 2.15.0, safetensors and gguf 0.19.0, in a virtual environment of its own. Run once; the output is
committed as tests/data/checkpoints and read by tests/engine/model and tests/engine/checkpoint.

  tiny_llama3  bfloat16, two layers, grouped-query attention, heads wider than hidden / heads, Llama 3's rotary scaling with
               frequencies below, on and above its ramp, an untied head, several shards
  tiny_gpt2    float16, two layers, fused qkv, learned positions, biases, a tied head
  tiny_mistral bfloat16, two layers, a window of 10 tokens, an untied head
  tiny_qwen2   bfloat16, two layers, biases on q, k and v, a tied head
  tiny_qwen3   bfloat16, two layers, norms of heads, heads wider than hidden / heads, an untied head
  tiny_gemma3  bfloat16, three layers, two with a window of 9 tokens and a rotary base of their own and one without whose
               positions are scaled, GeGLU, pre- and post-norms, norms of heads, a scaled embedding, a capped and tied head
All but tiny_mistral, whose kind of file is Llama's, have a model.gguf too: the same weights under the names, and with the metadata,
that llama.cpp's converter gives them, by gguf's own tables of names.
Each folder gets expected.safetensors: `ids` [sequences, tokens] int32 and float32 `logits` [sequences, tokens, vocab].
"""
import sys
from pathlib import Path

import gguf
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig,
    LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

SEQUENCES = 2
TOKENS = 48


def llama3():
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=24,
        vocab_size=256, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 64})
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=[2, 7])
    return model, torch.bfloat16, "120KB"


def gpt2():
    config = GPT2Config(n_embd=48, n_layer=2, n_head=4, n_positions=64, vocab_size=128, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config), torch.float16, "1GB"


SMALL = {"hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128,
         "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2}


def mistral():
    config = MistralConfig(**SMALL, num_hidden_layers=2, sliding_window=10, rms_norm_eps=1e-5)
    return MistralForCausalLM(config), torch.bfloat16, "1GB"


def qwen2():
    config = Qwen2Config(**SMALL, num_hidden_layers=2, tie_word_embeddings=True,
                         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
    return Qwen2ForCausalLM(config), torch.bfloat16, "1GB"


def qwen3():
    config = Qwen3Config(**SMALL, num_hidden_layers=2, head_dim=16, tie_word_embeddings=False,
                         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
    return Qwen3ForCausalLM(config), torch.bfloat16, "1GB"


def gemma3():
    config = Gemma3TextConfig(
        **SMALL, num_hidden_layers=3, head_dim=16, sliding_window=9, final_logit_softcapping=20.0, query_pre_attn_scalar=16,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters={"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000000.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}})
    return Gemma3ForCausalLM(config), torch.bfloat16, "1GB"


ARCHITECTURES = {"tiny_llama3": gguf.MODEL_ARCH.LLAMA, "tiny_gpt2": gguf.MODEL_ARCH.GPT2, "tiny_qwen2": gguf.MODEL_ARCH.QWEN2,
                 "tiny_qwen3": gguf.MODEL_ARCH.QWEN3, "tiny_gemma3": gguf.MODEL_ARCH.GEMMA3}


def add_rotary_layers(writer, arch, config):
    """The metadata of every architecture with rotary positions."""
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    if arch == gguf.MODEL_ARCH.GEMMA3:
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern(3)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        rope = rope["full_attention"]
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if arch != gguf.MODEL_ARCH.QWEN2:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    if arch == gguf.MODEL_ARCH.LLAMA:
        writer.add_rope_dimension_count(config.head_dim)
        inverse, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        plain = rope["rope_theta"] ** -(torch.arange(0, config.head_dim, 2).float() / config.head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / inverse).numpy())


def as_converted(arch, config, name, values):
    """A parameter's values as the converter stores them."""
    if arch == gguf.MODEL_ARCH.GEMMA3 and name.endswith("norm.weight"):
        return values + 1
    if arch == gguf.MODEL_ARCH.GPT2 and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return values.T.contiguous()
    for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", getattr(config, "num_key_value_heads", 0))):
        if arch == gguf.MODEL_ARCH.LLAMA and part in name:  # neighbours rotate together
            return values.view(heads, 2, -1, values.shape[1]).transpose(1, 2).reshape(values.shape)
    return values


def write_gguf(name, model, path):
    """`model` as llama.cpp's converter writes it."""
    config, arch = model.config, ARCHITECTURES[name]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if arch == gguf.MODEL_ARCH.GPT2:
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        add_rotary_layers(writer, arch, config)
    for hf_name, parameter in model.named_parameters():
        values = as_converted(arch, config, hf_name, parameter.data.float()).numpy()
        kind = None
        if values.ndim == 2:
            kind = gguf.GGMLQuantizationType.F16 if arch == gguf.MODEL_ARCH.GPT2 else gguf.GGMLQuantizationType.BF16
            values = gguf.quants.quantize(values, kind)
        writer.add_tensor(names.get_name(hf_name, try_suffixes=(".weight", ".bias")), values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def randomize(model, generator):
    """Larger than the usual initial values, so that each part moves the logits; none is left at 0 or 1."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 2:
            values = noise * parameter.shape[-1] ** -0.5 if "embed" not in name and "wte" not in name else noise * 0.5
        else:
            values = noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        parameter.data.copy_(values)


def make(name, made, out):
    model, dtype, max_shard_size = made
    generator = torch.Generator().manual_seed(20260101)
    randomize(model, generator)
    folder = out / name
    model.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    # As the engine does: 16-bit weights, every sum in float32. Read anew: to(dtype) has rounded the rotary frequencies too.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(0, model.config.vocab_size, (SEQUENCES, TOKENS), generator=generator)
    with torch.no_grad():
        logits = model(ids).logits
    if name in ARCHITECTURES:
        write_gguf(name, model, folder / "model.gguf")
    save_file({"ids": ids.to(torch.int32), "logits": logits.contiguous()}, folder / "expected.safetensors")
    print(f"{name}: logits from {logits.min():.3f} to {logits.max():.3f}")


def main():
    out = Path(sys.argv[1])
    torch.manual_seed(20260101)
    make("tiny_llama3", llama3(), out)
    make("tiny_gpt2", gpt2(), out)
    make("tiny_mistral", mistral(), out)
    make("tiny_qwen2", qwen2(), out)
    make("tiny_qwen3", qwen3(), out)
    make("tiny_gemma3", gemma3(), out)


if __name__ == "__main__":
    main()
