#!/usr/bin/env python3
"""Writes what is supported and what it was checked with into engine/README.md, between <!-- support:begin --> and <!-- support:end -->.

Usage: support_table.py ROOT [--check]

Reads the rows of architectures.cc and quant_config.cc, the folders of tests/data and the tests that name them; nothing is typed here. With --check
writes nothing, and exits 1 when the committed tables are other ones.
"""
import json
import re
import struct
import sys
from pathlib import Path

from markers import between


def architectures(root):
    """(name, Hugging Face's class, whether GGUF is read) of each row."""
    source = (root / "engine/checkpoint/architectures.cc").read_text()
    body = source.split("constexpr Architecture kArchitectures[] = {", 1)[1].split("\n};", 1)[0]
    for row in re.split(r"(?=\{\.name = \")", body)[1:]:
        hf_class = re.search(r'\.hf_class = "([^"]+)"', row)
        if hf_class:
            yield re.match(r'\{\.name = "([^"]+)"', row).group(1), hf_class.group(1), ".gguf_keys" in row


def tests_naming(root, pattern):
    """The tests in whose source `pattern` stands, by path below tests/."""
    found = []
    for path in sorted((root / "tests").rglob("*_test.cc")):
        if re.search(pattern, path.read_text()):
            found.append(f"`{path.relative_to(root / 'tests')}`")
    return ", ".join(found) or "none"


def checked(root, hf_class, gguf):
    """The committed models of a class in one container, and the tests that name them."""
    cells = []
    for config in sorted((root / "tests/data").glob("**/config.json")):
        model = json.loads(config.read_text())
        if hf_class not in model.get("architectures", []) or "quantization_config" in model:
            continue
        data = config.parent.relative_to(root / "tests/data").as_posix()
        name = data.removeprefix("checkpoints/") + ("/model.gguf" if gguf else "")
        holds = config.parent.glob("*.gguf" if gguf else "*.safetensors")
        if any(path.name != "expected.safetensors" for path in holds):
            tests = tests_naming(root, '["/]' + re.escape(name) + '"')
            cells.append(f"`{name}`: {tests}")
    return "; ".join(cells) or "none"


def metadata(path):
    """What a safetensors file says of itself."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)).get("__metadata__", {})


def quantized(root):
    """(method, model, libraries, tests) of each committed quantized model; the method alone where there is none."""
    source = (root / "engine/checkpoint/quant_config.cc").read_text()
    rows = source.split("constexpr Method kMethods[] = {", 1)[1].split("\n};", 1)[0]
    configs = [(path, json.loads(path.read_text())) for path in sorted((root / "tests/data/checkpoints").glob("*/config.json"))]
    for method in re.findall(r'"([^"]+)"', rows):
        models = [path.parent for path, config in configs if config.get("quantization_config", {}).get("quant_method") == method]
        for folder in models:
            said = metadata(folder / "expected.safetensors")
            yield method, f"`{folder.name}`", said["packed_by"], said["dequantized_by"], tests_naming(root, f'"{folder.name}"')
        if not models:
            yield method, "none", "", "", ""


def tokenizers(root):
    """(folder, file, container, tests) of each committed tokenizer."""
    for path in sorted((root / "tests/data/tokenizers").glob("*/*")):
        kind = {".model": "tokenizer.model"}.get(path.suffix, path.name)
        if kind in ("tokenizer.json", "tokenizer.model"):
            yield path.parent.name, kind, tests_naming(root, f"tokenizers/{path.parent.name}\\b")


def tables(root):
    lines = ["| architecture | container | class or key | model: tests that name it |", "|---|---|---|---|"]
    for name, hf_class, has_gguf in architectures(root):
        lines.append(f"| {name} | safetensors | `{hf_class}` | {checked(root, hf_class, gguf=False)} |")
        if has_gguf:
            lines.append(f"| {name} | GGUF | `{name}` | {checked(root, hf_class, gguf=True)} |")
    lines += ["", "| quantized by | model | packed by | weights by | tests that name it |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in quantized(root)]
    lines += ["", "| tokenizer | container | tests that name it |", "|---|---|---|"]
    lines += [f"| {name} | {kind} | {tests} |" for name, kind, tests in tokenizers(root)]
    return "\n".join(lines)


def main():
    root = Path(sys.argv[1])
    readme = root / "engine/README.md"
    renewed = between(readme, "support", tables(root) + "\n")
    if "--check" not in sys.argv:
        readme.write_text(renewed)
    elif renewed != readme.read_text():
        sys.exit("engine/README.md: the tables of support are old; run tests/tools/support_table.py .")


if __name__ == "__main__":
    main()
