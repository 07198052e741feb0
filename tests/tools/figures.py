#!/usr/bin/env python3
"""Draws the figures of the READMEs from the tables that stand in them, one SVG each.

Usage: figures.py ROOT [--check]

A row of FIGURES says which rows and columns of which tables. With --check writes nothing, and exits 1 when a committed figure is another one
than its tables make.
"""
import math
import re
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markers import split
from step_table import cells_of


@dataclass
class Lines:
    """One line for each row that `row` finds (its group 1 is the name) in the tables of a README, between the markers `marker`; a point for each
    column that `column` finds (its group 1 is x), of the first number in the cell."""
    readme: str
    marker: str
    row: str
    column: str
    table: int = 0  # of those between the markers


@dataclass
class Figure:
    path: str
    title: str
    x: str
    y: str
    lines: list
    reference: float = None  # a horizontal line


FIGURES = [
    Figure("kernels/cpu/plots/decode.svg", "Decode of SmolLM2-135M with 2 threads", "sequences", "tokens/s",
           [Lines("README.md", "bench", r"(\S+)$", r"decode, batch (\d+)", table=1)]),
    Figure("kernels/cpu/plots/prefill.svg", "Prefill of SmolLM2-135M with 2 threads", "tokens of the prompt", "tokens/s",
           [Lines("README.md", "bench", r"(\S+)$", r"prefill, ([\d,]+)", table=1)]),
    Figure("kernels/cuda/plots/gemm.svg", "Products of an 8B model's shapes, geometric mean, one H200", "rows of x", "speed over cuBLASLt in 16 bits",
           [Lines("kernels/cuda/README.md", "gemm_bench", r"geomean.*\| (nf4|int8) /", r"(\d+) rows"),
            Lines("kernels/cuda/README.md", "gemm_bench_int8", r"geomean.*\| (int8\+a8) /", r"(\d+) rows"),
            Lines("kernels/cuda/README.md", "gemm_bench_16bit", r"geomean.*\| (16bit) /", r"(\d+) rows")], reference=1),
]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 64, 130, 44, 52
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf")


def tables(text):
    """[(header, rows)] of the tables of a text."""
    found, current = [], []
    for line in text.splitlines() + [""]:
        if line.startswith("|"):
            current.append(line)
        elif current:
            found.append((cells_of(current[0]), current[2:]))
            current = []
    return found


def series(root, lines):
    header, rows = tables(split(root / lines.readme, lines.marker)[1])[lines.table]
    out = {}
    for row in rows:
        values = cells_of(row)
        name = re.match(lines.row, " | ".join(values[:2]) if "geomean" in lines.row else values[0])
        if name is None:
            continue
        points = []
        for column, value in zip(header, values):
            x = re.match(lines.column, column)
            number = re.match(r"[\d,.]+", value)
            if x and number:
                points.append((float(x.group(1).replace(",", "")), float(number.group(0).replace(",", ""))))
        if points:
            out[name.group(1)] = points
    return out


def nice_step(largest):
    raw = largest / 5
    power = 10 ** math.floor(math.log10(raw))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw)


def draw(root, figure):
    lines = {}
    for each in figure.lines:
        lines.update(series(root, each))
    if not lines:
        sys.exit(f"figures.py: no rows for {figure.path}")
    xs = sorted({x for points in lines.values() for x, _ in points})
    step = nice_step(max(y for points in lines.values() for _, y in points))
    most = step * math.ceil(max(y for points in lines.values() for _, y in points) / step)

    def at(x, y):
        low, high = math.log2(xs[0]), math.log2(xs[-1])
        return (LEFT + (math.log2(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / most * (HEIGHT - TOP - BOTTOM))

    def text(x, y, value, anchor="middle", more=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(value)}</text>'

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', text(LEFT, 24, figure.title, "start", ' font-size="15"')]
    for i in range(round(most / step) + 1):
        y = at(xs[0], i * step)[1]
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        out.append(text(LEFT - 8, y + 4, f"{i * step:,.10g}", "end"))
    for x in xs:
        out.append(text(at(x, 0)[0], HEIGHT - BOTTOM + 18, f"{x:,.0f}"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, figure.x))
    out.append(text(16, (TOP + HEIGHT - BOTTOM) / 2, figure.y, more=f' transform="rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2:.1f})"'))
    if figure.reference is not None:
        y = at(xs[0], figure.reference)[1]
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#555555" stroke-dasharray="4 4"/>')
    labels = []
    for (name, points), color in zip(lines.items(), COLORS):
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        out += ['<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"/>'.format(*at(x, y), color) for x, y in points]
        labels.append([at(*points[-1])[1], name, color])
    labels.sort()
    for above, label in zip(labels, labels[1:]):  # none over another
        label[0] = max(label[0], above[0] + 15)
    out += [text(WIDTH - RIGHT + 10, y + 4, name, "start", f' fill="{color}"') for y, name, color in labels]
    return "\n".join(out + ["</svg>", ""])


def main():
    root, check = Path(sys.argv[1]), sys.argv[2:] == ["--check"]
    stale = []
    for figure in FIGURES:
        picture = draw(root, figure)
        path = root / figure.path
        if check and (not path.exists() or path.read_text() != picture):
            stale.append(figure.path)
        elif not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(picture)
    if stale:
        sys.exit(f"figures.py: not what their tables say: {', '.join(stale)}; run tests/tools/figures.py {root}")


if __name__ == "__main__":
    main()
