#!/usr/bin/env python3
"""Writes the seeds of template_fuzz: our small templates, one for each feature, and the shortest of models.

Usage: make_template_seeds.py tests/data/chat_templates tests/fuzz/corpus/template. Run once; the output is committed.
"""
import json
import sys
from pathlib import Path

FOUND = {"repeated": "{{bos_token * 22222222}}"}  # by the fuzzer, each once: took twice the bytes of its result
MODELS = 8  # a model's template has a few thousand bytes; a long one slows every run


def main():
    data, corpus = Path(sys.argv[1]), Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    cases = json.loads((data / "cases.json").read_text())["cases"]
    small = {case["template"] for case in cases if len(case["template"]) >= 40}
    models = {json.loads(line)["chat_template"] for line in (data / "models.jsonl").read_text().splitlines() if line}
    # Every fourth of ours is enough: the fuzzer joins them by itself.
    for i, text in enumerate(sorted(small)[::4]):
        (corpus / f"case_{i:03}").write_text(text)
    for name, text in FOUND.items():
        (corpus / f"found_{name}").write_text(text)
    for i, text in enumerate(sorted(models, key=lambda t: (len(t), t))[:MODELS]):
        (corpus / f"model_{i}").write_text(text)


main()
