#!/usr/bin/env python3
"""Prints the cost table of kernels/cuda/gemm_wide_plan.cc, fitted to what `gemm_bench --tune` printed, and how much slower than the
best measured plan the plans are that it chooses.

Usage: gemm_costs.py CSV...
The model: us = waves * (ceil(blocks / cluster) * block + ends) + (cluster - 1) * rank, for tiles of 256 outputs.
"""
import csv
import re
import sys
from pathlib import Path

PLAN = Path(__file__).parents[2] / "kernels/cuda/gemm_wide_plan.cc"
AT_ONCE = [int(n) for n in re.search(r"kClustersAtOnce\[\w+\] = \{([^}]+)\}", PLAN.read_text()).group(1).split(",")]
TILE_OUTPUTS, BLOCK_COLS = 256, 64
MOST_WAVES = 2  # of what is fitted: later waves overlap, and such plans are never chosen


def terms(row):
    outputs, inputs = int(row["outputs"]), int(row["inputs"])
    cluster, tokens = int(row["cluster"]), int(row["tile_tokens"])
    tiles = -(-outputs // TILE_OUTPUTS) * -(-int(row["rows"]) // tokens)
    waves = -(-tiles // AT_ONCE[cluster - 1])
    return [waves * -(-(inputs // BLOCK_COLS) // cluster), waves, cluster - 1]


def solve(a, b):
    """Gauss with pivots, for three unknowns."""
    n = len(b)
    m = [row[:] + [value] for row, value in zip(a, b)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(m[r][i]))
        m[i], m[pivot] = m[pivot], m[i]
        for r in range(n):
            if r != i:
                factor = m[r][i] / m[i][i]
                m[r] = [x - factor * y for x, y in zip(m[r], m[i])]
    return [m[i][n] / m[i][i] for i in range(n)]


def fit(rows):
    """Least squares of the relative error."""
    a = [[0.0] * 3 for _ in range(3)]
    b = [0.0] * 3
    for row in rows:
        us = float(row["us"])
        t = [x / us for x in terms(row)]
        for i in range(3):
            b[i] += t[i]
            for j in range(3):
                a[i][j] += t[i] * t[j]
    return solve(a, b)


def main():
    rows = []
    for path in sys.argv[1:]:
        with open(path, newline="") as file:
            rows += [r for r in csv.DictReader(file) if r["kernel"] == "wide"]
    costs = {}
    for kind in sorted({(r["format"], int(r["tile_tokens"])) for r in rows}, reverse=True):
        mine = [r for r in rows if (r["format"], int(r["tile_tokens"])) == kind and terms(r)[1] <= MOST_WAVES]
        costs[kind] = fit(mine)
        block, ends, rank = (max(0, round(1000 * c)) for c in costs[kind])
        print(f"    {{PackedEncoding::k{kind[0].capitalize()}, {kind[1]}, {block}, {ends}, {rank}}},")
    problems = sorted({(int(r["rows"]), r["shape"], r["format"]) for r in rows})
    for problem in problems:
        plans = [r for r in rows if (int(r["rows"]), r["shape"], r["format"]) == problem]
        chosen = min(plans, key=lambda r: sum(c * t for c, t in zip(costs[r["format"], int(r["tile_tokens"])], terms(r))))
        best = min(float(r["us"]) for r in plans)
        print(f"{problem}: tile {chosen['tile_tokens']} cluster {chosen['cluster']}: {float(chosen['us']) / best:.2f} of the best",
              file=sys.stderr)


if __name__ == "__main__":
    main()
