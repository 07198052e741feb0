#!/usr/bin/env python3
"""Times PyPI's tokenizers beside tokenizer_bench on one text, one thread each, and compares ids.

Usage: compare_tokenizers.py BENCH TOKENIZER_JSON TEXT
BENCH is the built tokenizer_bench. Rates are megabytes a second of processor time; both encode the
same documents (whole lines, at least 4096 bytes). Needs `pip install tokenizers`.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import tokenizers  # noqa: E402  (reads the environment)

DOCUMENT_BYTES = 4096
ROUNDS = 7


def documents(text: bytes) -> list[str]:
    out, begin = [], 0
    while begin < len(text):
        end = text.find(b"\n", begin + DOCUMENT_BYTES)
        end = len(text) if end < 0 else end + 1
        out.append(text[begin:end].decode())
        begin = end
    return out


def main() -> int:
    bench, path, text_path = sys.argv[1:]
    with open(text_path, "rb") as file:
        text = file.read()
    parts = documents(text)
    reference = tokenizers.Tokenizer.from_file(path)
    reference.encode_special_tokens = True
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        encodings = [reference.encode(part, add_special_tokens=False) for part in parts]
        seconds.append(time.process_time() - start)
    with tempfile.NamedTemporaryFile("r") as ids:
        output = subprocess.run(
            [bench, "--tokenizer", path, "--text", text_path, "--ids", ids.name,
             "--rounds", str(ROUNDS), "--document-bytes", str(DOCUMENT_BYTES)],
            check=True, capture_output=True, text=True).stdout
        ours = [[int(id) for id in line.split()] for line in ids]
    rate = float(re.search(r"encode ([\d.]+) MB/s", output).group(1))
    other = len(text) / 1e6 / statistics.median(seconds)
    same = sum(a == b.ids for a, b in zip(ours, encodings))
    print(output.splitlines()[0])
    print(f"{path}: {len(text) / 1e6:.2f} MB, {same} of {len(parts)} documents have the same ids")
    print(f"vernier {rate:.1f} MB/s, tokenizers {tokenizers.__version__} {other:.1f} MB/s, "
          f"{rate / other:.1f} times")
    return 0 if same == len(parts) else 1


if __name__ == "__main__":
    sys.exit(main())
