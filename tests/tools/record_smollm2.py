#!/usr/bin/env python3
"""Records what transformers generates greedily from SmolLM2's GGUF file, in float32 on the dequantized weights.

Usage: record_smollm2.py MODEL.gguf OUT.json

Needs transformers 5.23.0, torch, gguf and accelerate, in a virtual environment of its own. Run once; the output is committed
as tests/data/smollm2/greedy.json and compared with the engine's by tests/engine/model.
"""
import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOKENS = 64

# Written for this file. Raw prompts are continued as they stand.
RAW = [
    "The three primary colours are",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "Water boils at 100 degrees Celsius because",
    "The capital of France is Paris. The capital of Italy is",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 2, 3, 4, 5, 6,",
    "A neural network is quantized when its weights",
    "Ingredients:\n- two eggs\n- a cup of flour\n-",
    "In the year 1969, Neil Armstrong",
]
# Chat prompts go through the file's own template, as one user message.
CHAT = [
    "What is the capital of Norway?",
    "Write a haiku about rain.",
    "Explain in one sentence why the sky is blue.",
    "List five fruits that are red.",
    "Translate 'good morning' into Spanish.",
    "Write a Python function that reverses a string.",
    "Who wrote 'Romeo and Juliet'?",
    "Give me three tips for better sleep.",
    "What is 12 times 12?",
    "Tell me a short story about a lighthouse keeper and a cat.",
]


def greedy(model, prompt_ids):
    """TOKENS greedy ids after `prompt_ids` (ends of sequence do not stop it), and best minus second logit at each."""
    ids, margins, cache = [], [], None
    step = torch.tensor([prompt_ids])
    for _ in range(TOKENS):
        out = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        best, second = torch.topk(out.logits[0, -1].double(), 2).values.tolist()
        ids.append(int(out.logits[0, -1].argmax()))
        margins.append(round(best - second, 6))
        step = torch.tensor([[ids[-1]]])
    return ids, margins


def main():
    path, out = Path(sys.argv[1]), Path(sys.argv[2])
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager").eval()
    if not all(p.dtype == torch.float32 for p in model.parameters()):
        sys.exit("the weights are not float32")
    prompts = []
    with torch.inference_mode():
        for kind, text in [("raw", t) for t in RAW] + [("chat", t) for t in CHAT]:
            if kind == "chat":
                whole = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False,
                                                      add_generation_prompt=True)
            else:
                whole = text
            prompt_ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
            ids, margins = greedy(model, prompt_ids)
            prompts.append({"kind": kind, "prompt": text, "prompt_ids": prompt_ids, "greedy_ids": ids,
                            "text": tokenizer.decode(ids), "margins": margins})
            print(f"{len(prompts)}/20 smallest margin {min(margins)}: {tokenizer.decode(ids)[:70]!r}", file=sys.stderr)
    record = {
        "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "versions": {name: importlib.metadata.version(name) for name in ("transformers", "torch", "gguf")},
        "dtype": "float32, weights dequantized from the file",
    }
    lines = ",\n".join(json.dumps(p) for p in prompts)
    head = json.dumps(record, indent=1)[:-2]
    out.write_text(f'{head},\n "prompts": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
