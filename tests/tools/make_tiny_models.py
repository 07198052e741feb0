#!/usr/bin/env python3
"""Makes tiny seeded models in Hugging Face's format, and records what transformers computes with them.

Usage: make_tiny_models.py OUT_FOLDER

Needs transformers 5.24.0, torch 2.15.0 and safetensors, in a virtual environment of its own. Run once; the output is committed as
tests/data/checkpoints and read by tests/engine/model and tests/engine/checkpoint.

  tiny_llama3  bfloat16, two layers, grouped-query attention, heads wider than hidden / heads, Llama 3's rotary scaling with
               frequencies below, on and above its ramp, an untied head, several shards
  tiny_gpt2    float16, two layers, fused qkv, learned positions, biases, a tied head
Each folder gets expected.safetensors: `ids` [sequences, tokens] int32 and float32 `logits` [sequences, tokens, vocab].
"""
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GenerationConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

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
    save_file({"ids": ids.to(torch.int32), "logits": logits.contiguous()}, folder / "expected.safetensors")
    print(f"{name}: logits from {logits.min():.3f} to {logits.max():.3f}")


def main():
    out = Path(sys.argv[1])
    torch.manual_seed(20260101)
    make("tiny_llama3", llama3(), out)
    make("tiny_gpt2", gpt2(), out)


if __name__ == "__main__":
    main()
