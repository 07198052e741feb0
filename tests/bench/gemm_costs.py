#!/usr/bin/env python3
"""Prints the cost table of kernels/cuda/gemm_wide_plan.cc, fitted to what `gemm_bench --tune` printed, and how much slower than the
best measured plan the plans are that it chooses.

Usage: gemm_costs.py CSV...
The model, for a pair of blocks: us = units * unit + ends + (parts - 1) * part + (pieces - 1) * piece, where units is what it multiplies,
parts how many pairs share a tile of the line, and pieces how many it has. A unit of a line that is shared evenly counts kEvenPercent*.
"""
import csv
import re
import sys
from pathlib import Path

PLAN = Path(__file__).parents[2] / "kernels/cuda/gemm_wide_plan.h"
PAIRS = int(re.search(r"kMaxPairs = (\d+)", PLAN.read_text()).group(1))
# Of a unit's cost, what one of an evenly shared line costs: of four-bit weights, of int8.
EVEN = [int(re.search(rf"kEvenPercent{name} = (\d+)", PLAN.with_suffix(".cc").read_text()).group(1)) / 100 for name in ("FourBits", "Int8")]
TILES = re.search(r"kWideTiles\[\] = \{(.*?)\};", PLAN.read_text(), re.S).group(1)
WARPGROUPS = {(int(t), int(s)): int(w) for t, s, w in re.findall(r"\{(\d+), (\d+), (\d+)\}", TILES)}
BLOCK_COLS = {"nf4": 64, "int8": 64, "int8+a8": 128}
OPERANDS = {"nf4": "kFourBits", "int8": "kInt8", "int8+a8": "kInt8ByInt8"}
NEAR = 1.2  # times the best of a problem: what is fitted, as no other plan should be chosen


def problem_of(row):
    return int(row["rows"]), row["shape"], row["format"]


def kind_of(row):
    return row["format"], int(row["tile_tokens"]), int(row["slices"])


def terms(row):
    tokens, slices, cuts = int(row["tile_tokens"]), int(row["slices"]), int(row["cuts"])
    outputs = 2 * 64 * WARPGROUPS[tokens, slices] // slices
    tile_units = -(-int(row["inputs"]) // BLOCK_COLS[row["format"]])
    tiles = -(-int(row["outputs"]) // outputs) * -(-int(row["rows"]) // tokens)
    pairs = min(PAIRS, tiles * tile_units)
    turns, left = divmod(tiles, pairs)
    if left == 0:
        return [turns * tile_units, 1, 0, turns - 1]
    if cuts > 0:
        return [turns * tile_units + -(-tile_units // cuts), 1, cuts - 1, turns]
    run = -(-left * tile_units // pairs)
    return [turns * tile_units + run * EVEN[row["format"] != "nf4"], 1, -(-tile_units // run), turns + 1]


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


class Choice:
    """Which plan costs choose for each problem, and how much slower than the best it is."""

    def __init__(self, rows):
        self.best = {}
        self.plans = {}
        for row in rows:
            problem, us = problem_of(row), float(row["us"])
            self.best[problem] = min(us, self.best.get(problem, us))
            if int(row["tile_tokens"]) <= 32 or int(row["tile_tokens"]) < 2 * int(row["rows"]):
                self.plans.setdefault(problem, []).append((kind_of(row), terms(row), us, row))

    def chosen(self, problem, costs):
        return min(self.plans[problem], key=lambda plan: sum(c * t for c, t in zip(costs[plan[0]], plan[1])))

    def share(self, problem, costs):
        return self.chosen(problem, costs)[2] / self.best[problem]

    def regret(self, costs, operands):
        return sum(self.share(p, costs) for p in self.plans if p[2] == operands)


def refine(costs, choice):
    """Moves single costs by up to 15 percent where that chooses faster plans."""
    fitted = {kind: list(cost) for kind, cost in costs.items()}
    for _ in range(2):
        for kind in costs:
            for i in range(4):
                least = choice.regret(costs, kind[0])
                for factor in (0.85, 0.9, 0.95, 1.05, 1.1, 1.15):
                    before, costs[kind][i] = costs[kind][i], fitted[kind][i] * factor
                    regret = choice.regret(costs, kind[0])
                    if regret < least - 0.003:
                        least = regret
                    else:
                        costs[kind][i] = before


def main():
    rows = []
    for path in sys.argv[1:]:
        with open(path, newline="") as file:
            rows += [r for r in csv.DictReader(file) if r["kernel"] == "wide"]
    # Up to 16 rows int8 weights are gemm_rows16's.
    rows = [r for r in rows if int(r["rows"]) > 16 or r["format"] == "nf4"]
    choice = Choice(rows)
    costs = {}
    for kind in sorted({kind_of(r) for r in rows}, reverse=True):
        mine = [r for r in rows if kind_of(r) == kind]
        near = [r for r in mine if float(r["us"]) <= NEAR * choice.best[problem_of(r)]]
        costs[kind] = fit(near if len(near) > 4 else mine)
    refine(costs, choice)
    for kind, cost in costs.items():
        numbers = ", ".join(str(round(1000 * c)) for c in cost)
        print(f"    {{Operands::{OPERANDS[kind[0]]}, {kind[1]}, {kind[2]}, {numbers}}},")
    worst = 0
    for problem in sorted(choice.plans):
        row, share = choice.chosen(problem, costs)[3], choice.share(problem, costs)
        worst = max(worst, share)
        print(f"{problem}: tile {row['tile_tokens']}, slices {row['slices']}, cuts {row['cuts']}: {share:.2f} of the best", file=sys.stderr)
    print(f"at worst {worst:.2f} of the best", file=sys.stderr)


if __name__ == "__main__":
    main()
