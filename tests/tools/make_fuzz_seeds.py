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


def gemma3():
    """A layer with a window: hidden 256 in q4_k and iq4_nl, two heads of 16, intermediate 32, vocabulary 8."""
    half = struct.pack("<e", 0.5)
    q4_k, iq4_nl = half * 2 + bytes(range(140)), half + bytes(range(16))

    def ones(name, size):
        return (name, (size,), 1, struct.pack("<e", 1.0) * size)

    tensors = [("token_embd.weight", (256, 8), 12, q4_k * 8), ones("output_norm.weight", 256)]
    for name, cols, rows in [("attn_q", 256, 32), ("attn_k", 256, 16), ("attn_v", 256, 16), ("attn_output", 32, 256),
                             ("ffn_gate", 256, 32), ("ffn_up", 256, 32), ("ffn_down", 32, 256)]:
        kind, raw = (12, q4_k * rows) if cols == 256 else (20, iq4_nl * rows)
        tensors.append((f"blk.0.{name}.weight", (cols, rows), kind, raw))
    for name, size in [("attn_norm", 256), ("attn_q_norm", 16), ("attn_k_norm", 16), ("post_attention_norm", 256),
                       ("ffn_norm", 256), ("post_ffw_norm", 256)]:
        tensors.append(ones(f"blk.0.{name}.weight", size))
    keys = {"general.architecture": "gemma3", "gemma3.block_count": 1, "gemma3.embedding_length": 256,
            "gemma3.feed_forward_length": 32, "gemma3.context_length": 64, "gemma3.attention.head_count": 2,
            "gemma3.attention.head_count_kv": 1, "gemma3.attention.key_length": 16,
            "gemma3.attention.layer_norm_rms_epsilon": 1e-6, "gemma3.rope.freq_base": 1e6, "gemma3.rope.scaling.type": "linear",
            "gemma3.rope.scaling.factor": 8.0, "gemma3.attention.sliding_window": 4,
            "gemma3.attention.sliding_window_pattern": 2, "gemma3.final_logit_softcapping": 30.0}
    return gguf(keys, tensors)


def gpt2():
    def raw(name, *dims):
        size = 1
        for dim in dims:
            size *= dim
        return (name, dims, 1, b"\x00\x3c" * size)

    keys = {"general.architecture": "gpt2", "gpt2.block_count": 1, "gpt2.embedding_length": 8, "gpt2.context_length": 4,
            "gpt2.attention.head_count": 2}
    tensors = [raw("token_embd.weight", 8, 4), raw("position_embd.weight", 8, 4), raw("blk.0.attn_qkv.weight", 8, 24),
               raw("blk.0.attn_qkv.bias", 24), raw("output.weight", 8, 4), raw("blk.0.attn_output.weight", 8, 8),
               raw("blk.0.attn_output.bias", 8), raw("blk.0.ffn_up.weight", 8, 32), raw("blk.0.ffn_up.bias", 32),
               raw("blk.0.ffn_down.weight", 32, 8), raw("blk.0.ffn_down.bias", 8)]
    tensors += [raw(f"{name}.{part}", 8) for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"]
                for part in ["weight", "bias"]]
    return gguf(keys, tensors)


def safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(kind, shape, begin, end):
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def packed(parts):
    """parts: (suffix, type, shape, bytes) of one module."""
    header, data = {}, b""
    for suffix, kind, shape, raw in parts:
        header["m" + suffix] = entry(kind, shape, len(data), len(data) + len(raw))
        data += raw
    return safetensors(header, data)


NF4 = struct.pack("<16f", -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
                  -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
                  0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)


def nf4(nested):
    """A matrix [3, 30]: blocks of 64 that rows straddle, the last one short."""
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [3, 30]}
    one = struct.pack("<f", 1.0)
    parts = [(".weight", "U8", [45, 1], bytes(range(45))), (".weight.quant_map", "F32", [16], NF4)]
    if nested:
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}
        parts += [(".weight.absmax", "U8", [2], b"\x01\xfe"), (".weight.nested_absmax", "F32", [1], one),
                  (".weight.nested_quant_map", "F32", [256], one * 256)]
    else:
        parts += [(".weight.absmax", "F32", [2], one * 2)]
    raw = json.dumps(state).encode()
    return packed(parts + [(".weight.quant_state.bitsandbytes__nf4", "U8", [len(raw)], raw)])


def integers(half):
    """One matrix a layout, of the settings that safetensors_fuzz.cc has."""
    words = struct.pack("<8I", *range(0x10325476, 0x10325476 + 8))
    return {
        "bnb_int8": packed([(".weight", "I8", [2, 4], words[:8]), (".SCB", "F32", [2], struct.pack("<2f", 1.0, 2.0)),
                            (".weight_format", "U8", [], b"\0")]),
        "gptq_int4": packed([(".qweight", "I32", [1, 8], words), (".qzeros", "I32", [1, 1], words[:4]),
                             (".scales", "F16", [1, 8], half * 8), (".g_idx", "I32", [8], bytes(32))]),
        "gptq_int8": packed([(".qweight", "I32", [1, 4], words[:16]), (".qzeros", "I32", [1, 1], words[:4]),
                             (".scales", "F16", [1, 4], half * 4)]),
        "awq_int4": packed([(".qweight", "I32", [4, 1], words[:16]), (".qzeros", "I32", [2, 1], words[:8]),
                            (".scales", "F16", [2, 8], half * 16)]),
        "ct_int4": packed([(".weight_packed", "I32", [2, 1], words[:8]), (".weight_scale", "BF16", [2, 2], half * 4),
                           (".weight_zero_point", "I32", [1, 2], words[:8]), (".weight_shape", "I64", [2], struct.pack("<2q", 2, 8))]),
        "ct_int8": packed([(".weight", "I8", [2, 4], words[:8]), (".weight_scale", "BF16", [2, 1], half * 2)]),
    }


def manifest(**more):
    return json.dumps({"vernier_manifest": 1, "files": [{"path": "model.gguf", "size": 9, "sha256": "0f" * 32}],
                       "tensors": [{"name": "embed", "file": "model.gguf", "bytes": 4, "xxh3": "00112233445566ff"}],
                       **more}).encode()


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
        "gguf/gemma3_k": gemma3(),
        "gguf/empty": gguf({}, []),
        "safetensors/two": safetensors({"__metadata__": {"format": "pt"}, "a.weight": entry("F32", [2, 3], 0, 24),
                                        "b.bias": entry("BF16", [4], 24, 32)}, bytes(32)),
        "safetensors/scalar_and_empty": safetensors({"s": entry("F16", [], 0, 2), "e": entry("I64", [0, 7], 2, 2)}, bytes(2)),
        "safetensors/escapes": safetensors(b'{"\\u0061\\ud83d\\ude00":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}  ', b"x"),
        "safetensors/none": safetensors({}, b""),
        "safetensors/bnb_nf4": nf4(nested=False),
        "safetensors/bnb_nf4_dq": nf4(nested=True),
        **{f"safetensors/{name}": raw for name, raw in integers(half).items()},
        "manifest/one": manifest(),
        "manifest/golden": manifest(golden={"prompt": [1, 403], "tokens": [407], "least_margin": 0.25}),
        "manifest/none": manifest(files=[], tensors=[]),
    }
    for name, raw in seeds.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(raw)


if __name__ == "__main__":
    main()
