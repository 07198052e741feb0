#!/usr/bin/env python3
"""Prints the cost table of kernels/cuda/gemm_wide_plan.cc, fitted to what `gemm_bench --tune` printed, and how much slower than the
best measured plan the plans are that it chooses.

Usage: gemm_costs.py CSV...
The model, for a pair of blocks: us = units * unit + ends + (parts - 1) * part + (tiles - 1) * tile, where units is what it multiplies,
parts how many pairs share a tile of the line, and tiles how many tiles it has a piece of.
"""
import csv
import re
import sys
from pathlib import Path

PLAN = Path(__file__).parents[2] / "kernels/cuda/gemm_wide_plan.h"
PAIRS = int(re.search(r"kMaxPairs = (\d+)", PLAN.read_text()).group(1))
LINE_UNITS = int(re.search(r"kLineUnits = (\d+)", PLAN.with_suffix(".cc").read_text()).group(1))
TILES = re.search(r"kWideTiles\[\] = \{(.*?)\};", PLAN.read_text(), re.S).group(1)
WARPGROUPS = {(int(t), int(s)): int(w) for t, s, w in re.findall(r"\{(\d+), (\d+), (\d+)\}", TILES)}
BLOCK_COLS = {"nf4": 64, "int8": 64, "int8+a8": 128}
OPERANDS = {"nf4": "kNf4", "int8": "kInt8", "int8+a8": "kInt8ByInt8"}
NEAR = 1.2  # times the best of a problem: what is fitted, as no other plan should be chosen


def problem_of(row):
    return int(row["rows"]), row["shape"], row["format"]


def terms(row):
    tokens, slices = int(row["tile_tokens"]), int(row["slices"])
    outputs = 2 * 64 * WARPGROUPS[tokens, slices] // slices
    tile_units = -(-int(row["inputs"]) // BLOCK_COLS[row["format"]])
    tiles = -(-int(row["outputs"]) // outputs) * -(-int(row["rows"]) // tokens)
    pairs = min(PAIRS, tiles * tile_units)
    left = tiles % pairs
    if (pairs - left if left else 0) * tile_units <= LINE_UNITS * pairs:
        left = 0
    turns = -(-(tiles - left) // pairs)
    run = -(-left * tile_units // min(pairs, max(left * tile_units, 1)))
    return [turns * tile_units + run, 1, -(-tile_units // run) - 1 if run else 0, turns + (run > 0) - 1]


def solve(a, b):
    """Gauss with pivots."""
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


def fit(rows, known=()):
    """Least squares of the relative error; a cost below zero is zero."""
    free = [i for i in range(4) if i not in known]
    a = [[0.0] * len(free) for _ in free]
    b = [0.0] * len(free)
    for row in rows:
        us = float(row["us"])
        t = [terms(row)[i] / us for i in free]
        for i in range(len(free)):
            b[i] += t[i]
            for j in range(len(free)):
                a[i][j] += t[i] * t[j]
    for i in range(len(free)):
        a[i][i] += 1e-9  # what no row has costs nothing
    costs = dict(zip(free, solve(a, b)))
    negative = [i for i, cost in costs.items() if cost < 0]
    return fit(rows, (*known, negative[0])) if negative else [costs.get(i, 0.0) for i in range(4)]


def main():
    rows = []
    for path in sys.argv[1:]:
        with open(path, newline="") as file:
            rows += [r for r in csv.DictReader(file) if r["kernel"] == "wide"]
    best = {}
    for row in rows:
        best[problem_of(row)] = min(float(row["us"]), best.get(problem_of(row), float("inf")))
    costs = {}
    for kind in sorted({(r["format"], int(r["tile_tokens"]), int(r["slices"])) for r in rows}, reverse=True):
        mine = [r for r in rows if (r["format"], int(r["tile_tokens"]), int(r["slices"])) == kind]
        near = [r for r in mine if float(r["us"]) <= NEAR * best[problem_of(r)]]
        costs[kind] = fit(near if len(near) > 4 else mine)
        numbers = ", ".join(str(round(1000 * c)) for c in costs[kind])
        print(f"    {{Operands::{OPERANDS[kind[0]]}, {kind[1]}, {kind[2]}, {numbers}}},")
    worst = 0
    for problem in sorted(best):
        cost = lambda r: sum(c * t for c, t in zip(costs[r["format"], int(r["tile_tokens"]), int(r["slices"])], terms(r)))
        fits = [r for r in rows if problem_of(r) == problem and (int(r["tile_tokens"]) <= 32 or int(r["tile_tokens"]) < 2 * problem[0])]
        chosen = min(fits, key=cost)
        share = float(chosen["us"]) / best[problem]
        worst = max(worst, share)
        print(f"{problem}: tile {chosen['tile_tokens']}, slices {chosen['slices']}: {share:.2f} of the best", file=sys.stderr)
    print(f"at worst {worst:.2f} of the best", file=sys.stderr)


if __name__ == "__main__":
    main()
