#!/usr/bin/env python3
"""Makes a tiny seeded model in each layout of quantized checkpoints that is read, and records what transformers computes with it.

Usage: make_prequantized_models.py OUT_FOLDER AUTO_GPTQ_FOLDER AWQ_FOLDER

Needs transformers 5.24.0, torch 2.15.0, safetensors, accelerate, bitsandbytes 0.50.2 and compressed-tensors 0.20.0, in a virtual
environment of its own, and the unpacked packages auto_gptq (0.7.1) and awq (autoawq 0.2.9): of each one file alone is loaded, as
the packages themselves need older libraries. Run once; the output is committed as tests/data/checkpoints/tiny_qwen2_* and read by
tests/engine/model and tests/engine/checkpoint.

The model is a Qwen2 of one layer: biases on q, k and v, a tied embedding that nobody quantizes, rows of 96 that straddle NF4's
blocks of 64, and no dimension that AutoGPTQ, which packs 32 outputs at a time, would cut. Each library packs its own layout; the weights that the logits are computed with are what its own code makes of the
packed bytes, in float32 where it can and otherwise checked to be the rounding of ours to float16.

  bnb_nf4, bnb_nf4_dq, bnb_int8  saved by transformers after bitsandbytes has quantized
  gptq_int4    asymmetric, groups of 16 of any inputs (act-order), zero points less one, and a bias of zeros where there is none
  gptq_int8    the second format: zero points as they are, one group, no g_idx
  awq_int4     asymmetric, groups of 16
  ct_int8      a scale a row, bfloat16
  ct_int4      packed, asymmetric, groups of 16
Each folder gets expected.safetensors as those of make_tiny_models.py have it, with the names of the libraries in its metadata.
"""
import importlib
import json
import sys
import types
from pathlib import Path

import bitsandbytes
import compressed_tensors
import torch
import transformers
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, QuantizationStatus
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Qwen2Config, Qwen2ForCausalLM

TOKENS = 24
GROUP = 16
MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
            "mlp.down_proj")


def base_model():
    config = Qwen2Config(hidden_size=32, intermediate_size=96, num_attention_heads=2, num_key_value_heads=2, vocab_size=64,
                         max_position_embeddings=64, num_hidden_layers=1, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    model = Qwen2ForCausalLM(config)
    generator = torch.Generator().manual_seed(20260201)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = 0.5 if "embed" in name else parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 0.1
        parameter.data.copy_(noise * scale + (1.0 if name.endswith("norm.weight") else 0.0))
    return model.to(torch.bfloat16)


def modules():
    return [f"model.layers.0.{name}" for name in MATRICES]


def record(folder, base, weights, packed_by, read_by):
    """Logits of the base model with `weights`, float32 by module."""
    model = Qwen2ForCausalLM(base.config).eval()
    state = {name: value.float() for name, value in base.state_dict().items()}
    for module, weight in weights.items():
        assert weight.dtype == torch.float32 and weight.shape == state[f"{module}.weight"].shape
        state[f"{module}.weight"] = weight
    model.load_state_dict(state)
    ids = torch.randint(0, base.config.vocab_size, (1, TOKENS), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        logits = model(ids).logits
    save_file({"ids": ids.to(torch.int32), "logits": logits.contiguous()}, folder / "expected.safetensors",
              metadata={"packed_by": packed_by, "dequantized_by": read_by, "logits_by": f"transformers {transformers.__version__}"})
    for path in folder.iterdir():
        path.chmod(0o644)
    print(f"{folder.name}: logits from {logits.min():.3f} to {logits.max():.3f}")


def write(folder, base, quantization, packed, extra=None):
    """config.json with `quantization`, and model.safetensors: the base's tensors, with `packed` by module instead of matrices."""
    folder.mkdir(parents=True, exist_ok=True)
    config = base.config.to_dict() | {"architectures": ["Qwen2ForCausalLM"], "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True, default=str) + "\n")
    tensors = {name: value for name, value in base.state_dict().items() if name != "lm_head.weight"}
    for module, parts in packed.items():
        del tensors[f"{module}.weight"]
        tensors |= {f"{module}.{part}": value.contiguous() for part, value in parts.items()}
    save_file(tensors | (extra or {}), folder / "model.safetensors", metadata={"format": "pt"})


# ---- bitsandbytes, by transformers ----

def bitsandbytes_model(out, base, name, config):
    folder = out / f"tiny_qwen2_{name}"
    base.save_pretrained(out / "base")
    model = AutoModelForCausalLM.from_pretrained(out / "base", quantization_config=config, device_map="cpu", dtype=torch.bfloat16)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for path in (out / "base").iterdir():
        path.unlink()
    (out / "base").rmdir()
    weights = {}
    with safe_open(folder / "model.safetensors", "pt") as file:
        for module in modules():
            if config.load_in_8bit:
                codes, row_max = file.get_tensor(f"{module}.weight"), file.get_tensor(f"{module}.SCB")
                weights[module] = bitsandbytes.functional.int8_vectorwise_dequant(codes, row_max)
                continue
            prefix = f"{module}.weight."
            parts = {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}
            state = bitsandbytes.functional.QuantState.from_dict(parts, device=torch.device("cpu"))
            absmax = state.absmax
            if state.nested:
                absmax = bitsandbytes.functional.dequantize_blockwise(absmax, state.state2) + state.offset
            # Not dequantize_4bit: the CPU kernel of 0.50.2 is wrong where a row is not a number of whole blocks.
            weights[module] = _dequantize_4bit_compute(file.get_tensor(f"{module}.weight").reshape(-1), absmax, state.code,
                                                       state.blocksize, state.shape, torch.float32)
    version = f"bitsandbytes {bitsandbytes.__version__}"
    record(folder, base, weights, version, version)


# ---- GPTQ and AWQ ----

def load_file(package, folder, module):
    """One module of a package, without what the package itself imports."""
    top, _, rest = module.partition(".")
    for depth in range(len(rest.split("."))):
        name = ".".join([top] + rest.split(".")[:depth])
        stub = types.ModuleType(name)
        stub.__path__ = [str(Path(folder, *rest.split(".")[:depth]))]
        sys.modules[name] = stub
    assert top == package
    return importlib.import_module(module)


def asymmetric(weight, group_of, bits):
    """Scales and zero points [groups, outputs] of a matrix [outputs, inputs]; zero points from 1 up, as AutoGPTQ can store."""
    groups = int(group_of.max()) + 1
    scales, zeros = [], []
    for group in range(groups):
        part = weight[:, group_of == group]
        low, high = part.min(dim=1).values.clamp(max=-1e-3), part.max(dim=1).values.clamp(min=1e-3)
        scale = ((high - low) / (2**bits - 1)).half().float()
        scales.append(scale)
        zeros.append((-low / scale).round().clamp(1, 2**bits - 1))
    return torch.stack(scales), torch.stack(zeros)


def linear_of(base, module):
    source = base.get_submodule(module)
    linear = torch.nn.Linear(source.in_features, source.out_features, bias=False)
    linear.weight.data.copy_(source.weight.data)
    return linear


def codes_of(words, bits):
    """[rows, columns] of words into [rows, columns, codes of a word], from the low end, by Python's integers alone."""
    count = 32 // bits
    return [[[(word % 2**32) >> (bits * i) & (2**bits - 1) for i in range(count)] for word in row] for row in words.tolist()]


def gptq_weight(parts, bits, less_one, group_of):
    codes, zeros, scales = codes_of(parts["qweight"], bits), codes_of(parts["qzeros"], bits), parts["scales"].tolist()
    count = 32 // bits
    inputs, outputs = len(codes) * count, len(codes[0])
    return torch.tensor([[scales[group_of[k]][n] * (codes[k // count][n][k % count] - zeros[group_of[k]][n // count][n % count]
                                                    - less_one) for k in range(inputs)] for n in range(outputs)])


def awq_weight(parts):
    place = [0, 4, 1, 5, 2, 6, 3, 7]
    codes, zeros, scales = codes_of(parts["qweight"], 4), codes_of(parts["qzeros"], 4), parts["scales"].tolist()
    return torch.tensor([[(codes[k][n // 8][place[n % 8]] - zeros[k // GROUP][n // 8][place[n % 8]]) * scales[k // GROUP][n]
                          for k in range(len(codes))] for n in range(len(scales[0]))])


def gptq_model(out, base, layer, bits, group, second_format):
    folder = out / f"tiny_qwen2_gptq_int{bits}"
    generator = torch.Generator().manual_seed(11)
    packed, weights, extra = {}, {}, {}
    for module in modules():
        linear = linear_of(base, module)
        inputs, outputs = linear.in_features, linear.out_features
        size = inputs if group == -1 else group
        order = torch.arange(inputs) if second_format else torch.randperm(inputs, generator=generator)
        group_of = torch.empty(inputs, dtype=torch.int32)
        group_of[order] = (torch.arange(inputs) // size).to(torch.int32)
        scales, zeros = asymmetric(linear.weight.data, group_of, bits)
        quantized = layer.QuantLinear(bits, size, inputs, outputs, bias=False, weight_dtype=torch.float16)
        linear.half()
        quantized.pack(linear, scales.t().half(), zeros.t().clone(), g_idx=group_of)
        theirs = quantized(torch.eye(inputs).half()).t()
        parts = {"qweight": quantized.qweight, "qzeros": quantized.qzeros, "scales": quantized.scales, "g_idx": group_of}
        if second_format:  # AutoGPTQ writes the first alone
            parts["qzeros"] = parts["qzeros"] + (0x11111111 if bits == 4 else 0x01010101)
            del parts["g_idx"]
        weights[module] = gptq_weight(parts, bits, 0 if second_format else 1, group_of.tolist())
        assert torch.equal(weights[module].half(), theirs)
        packed[module] = parts
        if not second_format and module.endswith("down_proj"):
            extra[f"{module}.bias"] = torch.zeros(outputs, dtype=torch.float16)
    quantization = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": not second_format, "sym": False,
                    "checkpoint_format": "gptq_v2" if second_format else "gptq", "true_sequential": True, "lm_head": False}
    write(folder, base, quantization, packed, extra)
    record(folder, base, weights, "AutoGPTQ 0.7.1", "AutoGPTQ 0.7.1 (float16), plain Python (float32)")


def awq_model(out, base, layer):
    folder = out / "tiny_qwen2_awq_int4"
    packed, weights = {}, {}
    for module in modules():
        linear = linear_of(base, module)
        scales, zeros = asymmetric(linear.weight.data, torch.arange(linear.in_features) // GROUP, 4)
        quantized = layer.WQLinear_GEMM.from_linear(linear, 4, GROUP, scales=scales, zeros=zeros)
        parts = {"qweight": quantized.qweight, "qzeros": quantized.qzeros, "scales": quantized.scales}
        weights[module] = awq_weight(parts)
        assert torch.equal(weights[module].half(), layer.dequantize_gemm(*parts_in_order(parts), 4, GROUP).t())
        packed[module] = parts
    quantization = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm",
                    "modules_to_not_convert": None}
    write(folder, base, quantization, packed)
    record(folder, base, weights, "AutoAWQ 0.2.9", "AutoAWQ 0.2.9 (float16), plain Python (float32)")


def parts_in_order(parts):
    return parts["qweight"], parts["qzeros"], parts["scales"]


# ---- compressed-tensors ----

def compressed_model(out, base, name, layout, args):
    folder = out / f"tiny_qwen2_{name}"
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(layout)
    packed, weights = {}, {}
    for module in modules():
        weight = linear_of(base, module).weight.data
        inputs = weight.shape[1]
        group_of = torch.arange(inputs) // (args.group_size or inputs)
        state = {"weight": weight}
        if args.symmetric:
            state["weight_scale"] = (weight.abs().amax(dim=1, keepdim=True) / 127.5).bfloat16().float()
        else:
            scales, zeros = asymmetric(weight, group_of, args.num_bits)
            state |= {"weight_scale": scales.t().bfloat16().float(), "weight_zero_point": (zeros.t() - 8).to(torch.int8)}
        parts = compressor.compress(state, scheme)
        weights[module] = compressor.decompress(dict(parts), scheme)["weight"].float()
        parts["weight_scale"] = parts["weight_scale"].bfloat16()
        packed[module] = parts
    config = QuantizationConfig(config_groups={"group_0": scheme}, format=layout, ignore=["lm_head"],
                                quantization_status=QuantizationStatus.COMPRESSED)
    write(folder, base, json.loads(json.dumps(config.to_dict(), default=str)), packed)
    version = f"compressed-tensors {compressed_tensors.__version__}"
    record(folder, base, weights, version, version)


def main():
    out = Path(sys.argv[1])
    torch.manual_seed(20260201)
    base = base_model()
    bitsandbytes_model(out, base, "bnb_nf4", BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"))
    bitsandbytes_model(out, base, "bnb_nf4_dq", BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                                                   bnb_4bit_use_double_quant=True))
    bitsandbytes_model(out, base, "bnb_int8", BitsAndBytesConfig(load_in_8bit=True))
    gptq = load_file("auto_gptq", sys.argv[2], "auto_gptq.nn_modules.qlinear.qlinear_cuda")
    gptq_model(out, base, gptq, 4, GROUP, second_format=False)
    gptq_model(out, base, gptq, 8, -1, second_format=True)
    awq_model(out, base, load_file("awq", sys.argv[3], "awq.modules.linear.gemm"))
    compressed_model(out, base, "ct_int8", "int-quantized", QuantizationArgs(num_bits=8, strategy="channel"))
    compressed_model(out, base, "ct_int4", "pack-quantized",
                     QuantizationArgs(num_bits=4, strategy="group", group_size=GROUP, symmetric=False))


if __name__ == "__main__":
    main()
