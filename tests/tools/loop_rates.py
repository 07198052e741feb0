#!/usr/bin/env python3
"""How many 4-grams of ordinary text repeat an earlier one: what the limit of looping answers has to stay above.

Usage: loop_rates.py VERNIER MODEL NAME=FILE... [--readme README.md]

Tokenizes each file's first 300 kB by `VERNIER tokenize --model MODEL`, cuts the tokens into passages of 64, 256 and 1,024, and prints the
median, the 99th percentile and the maximum of their rates (LoopRate of server/experiments/answer_checks.h); between <!-- loops:begin -->
and <!-- loops:end --> of the README where one is given.
"""
import argparse
import json
import subprocess
from pathlib import Path

from markers import write_between

PASSAGES = [64, 256, 1024]


def rate(tokens):
    grams = [tuple(tokens[i:i + 4]) for i in range(len(tokens) - 3)]
    return 1 - len(set(grams)) / len(grams)


def tokens_of(vernier, model, path):
    text = Path(path).read_bytes()[:300000].decode("utf-8", "ignore")
    out = subprocess.run([vernier, "tokenize", "--model", model, "--file", "-", "--json", "--no-bos"], input=text.encode(),
                         capture_output=True, check=True).stdout
    found = json.loads(out)
    tokens = found.get("token_ids", found.get("tokens"))
    return [token["id"] if isinstance(token, dict) else token for token in tokens]


def cell(tokens, length):
    rates = sorted(rate(tokens[begin:begin + length]) for begin in range(0, len(tokens) - length + 1, length))
    return f"{rates[len(rates) // 2]:.2f}, {rates[int(0.99 * len(rates))]:.2f}, {rates[-1]:.2f}" if rates else "-"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vernier")
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--readme", type=Path)
    flags = parser.parse_args()
    lines = ["| median, 99th percentile, maximum | " + " | ".join(f"{length:,} tokens" for length in PASSAGES) + " |",
             "|---|" + "---|" * len(PASSAGES)]
    for text in flags.texts:
        name, path = text.split("=", 1)
        tokens = tokens_of(flags.vernier, flags.model, path)
        lines.append(f"| {name} | " + " | ".join(cell(tokens, length) for length in PASSAGES) + " |")
    table = "\n".join(lines) + "\n\nWritten by `tests/tools/loop_rates.py`.\n"
    print(table)
    if flags.readme:
        write_between(flags.readme, "loops", table)


if __name__ == "__main__":
    main()
