#!/usr/bin/env python3
"""Writes the seeds of the model file fuzz targets: small files that are read, one a feature. Run once; the output is committed.

Usage: make_fuzz_seeds.py tests/fuzz/corpus
"""
import json
import struct
import sys
from pathlib import Path


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name, value):
    head = string(name)
    if isinstance(value, bool):
        return head + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return head + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return head + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return head + struct.pack("<I", 8) + string(value)
    if isinstance(value[0], str):
        return head + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(string, value))
    return head + struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def gguf(keys, tensors):
    """tensors: (name, dimensions with the fastest first, ggml type, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(key(k, v) for k, v in keys.items())
    data = b""
    for name, dims, kind, raw in tensors:
        data += bytes(-len(data) % 32)
        head += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += raw
    return head + bytes(-len(head) % 32) + data


def llama(kind, block, extra_keys, extra_tensors):
    """A layer of hidden 32, two heads of 16, one of keys and values, intermediate 32, vocabulary 8."""
    def matrix(name, rows):
        return (name, (32, rows), kind, block * rows)

    def ones(name, size=32):
        return (name, (size,), 0, struct.pack("<f", 1.0) * size)

    keys = {"general.architecture": "llama", "llama.block_count": 1, "llama.embedding_length": 32,
            "llama.feed_forward_length": 32, "llama.context_length": 64, "llama.attention.head_count": 2,
            "llama.attention.head_count_kv": 1, "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.freq_base": 10000.0} | extra_keys
    tensors = [matrix("token_embd.weight", 8), matrix("blk.0.attn_q.weight", 32), matrix("blk.0.attn_k.weight", 16),
               matrix("blk.0.attn_v.weight", 16), matrix("blk.0.attn_output.weight", 32), matrix("blk.0.ffn_gate.weight", 32),
               matrix("blk.0.ffn_up.weight", 32), matrix("blk.0.ffn_down.weight", 32), ones("blk.0.attn_norm.weight"),
               ones("blk.0.ffn_norm.weight"), ones("output_norm.weight")] + extra_tensors(ones)
    return gguf(keys, tensors)


TOKENIZER = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
             "tokenizer.ggml.tokens": ["<s>", "</s>", "a", "b", "ab", "c", "\u0120", "\u0120a"],
             "tokenizer.ggml.token_type": [3, 3, 1, 1, 1, 1, 1, 1], "tokenizer.ggml.merges": ["a b", "\u0120 a"],
             "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.add_bos_token": True,
             "tokenizer.chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}"}


def gpt2():
    def raw(name, *dims):
        size = 1
        for dim in dims:
            size *= dim
        return (name, dims, 1, b"\x00\x3c" * size)

    keys = {"general.architecture": "gpt2", "gpt2.block_count": 1, "gpt2.embedding_length": 8, "gpt2.context_length": 4,
            "gpt2.attention.head_count": 2}
    tensors = [raw("token_embd.weight", 8, 4), raw("position_embd.weight", 8, 4), raw("blk.0.attn_qkv.weight", 8, 24),
               raw("blk.0.attn_qkv.bias", 24), raw("output.weight", 8, 4)]
    return gguf(keys, tensors)


def safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(kind, shape, begin, end):
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def main():
    out = Path(sys.argv[1])
    half = struct.pack("<e", 0.5)
    seeds = {
        "gguf/llama_q4_1": llama(3, half * 2 + bytes(range(16)), TOKENIZER, lambda ones: []),
        "gguf/llama_q4_0_untied": llama(2, half + bytes(range(16)), {}, lambda ones: [
            ("output.weight", (32, 8), 2, (half + bytes(16)) * 8)]),
        "gguf/llama_q8_0_rope": llama(8, half + bytes(range(32)), {"llama.rope.dimension_count": 16},
                                      lambda ones: [ones("rope_freqs.weight", 8)]),
        "gguf/llama_bf16": llama(30, b"\x80\x3f" * 32, {"llama.vocab_size": 8}, lambda ones: []),
        "gguf/gpt2_f16": gpt2(),
        "gguf/empty": gguf({}, []),
        "safetensors/two": safetensors({"__metadata__": {"format": "pt"}, "a.weight": entry("F32", [2, 3], 0, 24),
                                        "b.bias": entry("BF16", [4], 24, 32)}, bytes(32)),
        "safetensors/scalar_and_empty": safetensors({"s": entry("F16", [], 0, 2), "e": entry("I64", [0, 7], 2, 2)}, bytes(2)),
        "safetensors/escapes": safetensors(b'{"\\u0061\\ud83d\\ude00":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}  ', b"x"),
        "safetensors/none": safetensors({}, b""),
    }
    for name, raw in seeds.items():
        (out / name).write_bytes(raw)


if __name__ == "__main__":
    main()
