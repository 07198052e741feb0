#!/usr/bin/env python3
"""The table of what an int8 KV cache costs and saves, from quality_bench and step_bench, in kernels/cpu/README.md.

Usage: kv_table.py QUALITY.csv STEPS.log... README.md

QUALITY.csv is quality_bench's output with rows ISA:FORMAT and ISA:FORMAT+kv8, STEPS.log that of step_bench --rounds with the same
formats, one file a number of threads. Replaces what stands between <!-- kv8:begin --> and <!-- kv8:end -->. Exit 1 when rows or
markers are missing.
"""
import csv
import re
import sys
from pathlib import Path

from markers import write_between


def quality(path):
    """(header, lines of the table): one a row, the reference's first."""
    text = Path(path).read_text().splitlines()
    header = next(line for line in text if line.startswith("# "))[2:]
    rows = list(csv.reader(line for line in text if line and not line.startswith("#")))[1:]
    lines = [f"| {name.split(':', 1)[1]} | {float(perplexity):.3f} | {float(kl):.5f} | {float(top):.1f} % |" for name, perplexity, kl, top in rows]
    return header, ["| variant | perplexity | mean KL | top-1 |", "|---|---:|---:|---:|"] + lines


def steps(path):
    """(backend, lines of the table) of one log: a pair of formats a line, by batch."""
    text = Path(path).read_text()
    backend = re.search(r"# backend: ([^;]*)", text).group(1)
    cells = {}
    for line in text.splitlines():
        if line.startswith("decode,"):
            _, name, batch, context, speed, spread, *_ = line.split(",")
            cells[name, int(batch), int(context)] = float(speed), float(spread)
    lines = []
    for (name, batch, context), (speed, spread) in cells.items():
        if (f"{name}+kv8", batch, context) not in cells:
            continue
        other, other_spread = cells[f"{name}+kv8", batch, context]
        lines.append(f"| {backend} | {name} | {batch} x {context:,} | {speed:.1f} (±{spread:.0f} %) | {other:.1f} (±{other_spread:.0f} %) "
                     f"| **{other / speed:.2f}x** |")
    return lines


def main():
    quality_path, *logs, readme = sys.argv[1:]
    header, lines = quality(quality_path)
    table = [f"`quality_bench`: {header}.", "", *lines, "",
             "`step_bench --rounds`: tokens/s of decode (spread), the two caches in turns in one process, medians of all steps.", "",
             "| backend | weights | sequences x context | 16-bit cache | int8 cache | |", "|---|---|---|---:|---:|---:|"]
    measured = [line for log in logs for line in steps(log)]
    if len(lines) < 3 or not measured:
        sys.exit("kv_table.py: no rows")
    write_between(readme, "kv8", "\n".join(table + measured) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main()
