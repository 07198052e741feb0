#!/usr/bin/env python3
"""The table of tests/bench/compare_llama_cpp.sh: medians over its rounds, with their spread.

Usage: rival_table.py RIVALS.csv [README.md]

Prints it, and puts it between <!-- rivals:begin --> and <!-- rivals:end --> of the README where one is given. Exit 1 when the rows or
the markers are missing.
"""
import datetime
import re
import statistics
import sys
from pathlib import Path

from markers import publish

# Who is held against whom: nearly the same bits a weight.
PAIRS = [("fp16", "F16"), ("fp16 (int8 head)", "F16"), ("int8", "Q8_0"), ("int8 (int8 head)", "Q8_0"), ("nf4", "Q4_0"),
         ("nf4 (int8 head)", "Q4_0"), ("nf4 (int8 head)", "IQ4_NL"), ("int8+a8 (int8 head)", "Q8_0"), ("nf4+a8 (int8 head)", "Q4_0"),
         ("nf4+a8 (int8 head)", "IQ4_NL")]
TESTS = ["decode 1", "decode 16", "prefill 512"]


def processor():
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return match.group(1) if match else "unknown processor"


def render(rows):
    figures = {}
    for row in rows:
        key = (row["engine"], row["type"], row["threads"], row["test"])
        figures.setdefault(key, []).append(float(row["tokens_per_second"]))
    counts = sorted(len(values) for values in figures.values())
    rounds = f"{counts[0]} to {counts[-1]}" if counts[0] < counts[-1] else f"{counts[0]}"

    def cell(ours, theirs):
        if not ours or not theirs:
            return "-"
        a, b = statistics.median(ours), statistics.median(theirs)
        return f"{a:,.0f} / {b:,.0f} = **{a / b:.2f}x**"

    def spread(values):
        return (max(values) - min(values)) / statistics.median(values)

    spreads = [spread(values) for values in figures.values() if len(values) > 1] or [0]
    out = [f"SmolLM2-135M on {processor()}, {datetime.date.today()}: tokens/s of Vernier / of llama.cpp, medians of {rounds} alternated "
           f"rounds (where there were several, half of the figures moved by less than {statistics.median(spreads):.0%} between "
           f"them, the worst by {max(spreads):.0%}); written by `tests/bench/compare_llama_cpp.sh`. Decode of 1 and of 16 sequences at a "
           "context of 128 tokens, prefill of 512. llama.cpp rounds what its quantized weights multiply to 8 bits, as `+a8` does.", ""]
    out += ["| threads | Vernier | llama.cpp | " + " | ".join(TESTS) + " |", "|---:|---|---|" + "---:|" * len(TESTS)]
    for threads in sorted({row["threads"] for row in rows}, key=int):
        for ours, theirs in PAIRS:
            if not any(key[:3] == ("vernier", ours, threads) for key in figures):
                continue
            cells = [cell(figures.get(("vernier", ours, threads, t)), figures.get(("llama.cpp", theirs, threads, t))) for t in TESTS]
            out.append(f"| {threads} | {ours} | {theirs} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def main():
    publish(sys.argv[1], render, "rivals", *sys.argv[2:3])


if __name__ == "__main__":
    main()
