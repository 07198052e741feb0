#!/usr/bin/env python3
"""Writes what step_bench measured as a table into a README, between <!-- step_bench:begin --> and <!-- step_bench:end -->.

Usage: step_table.py README LOG...: each LOG is the output of one or more runs of step_bench. Tokens a second, of one prompt's first
token milliseconds; in brackets the spread in percent and, of decode, percent of what reading weights and KV once would allow at the
read rate that the run was given. Tables of models that no LOG names stay, with the line that says when they were measured, and so do
cells of a model that no LOG has.
"""
import re
import sys
from pathlib import Path

from markers import split, write_between


def read(paths):
    """{model: {format: {column: cell}}}, and the backends and dates named."""
    tables, backends, dates, model = {}, [], [], ""
    for line in "\n".join(Path(path).read_text() for path in paths).splitlines():
        if match := re.match(r"# (model|date|backend): ([^;]*)", line):
            kind, value = match.groups()
            if kind == "model":
                model = value.removeprefix("random-weights:")
            else:
                (dates if kind == "date" else backends).append(value)
        elif line.startswith(("decode,", "prefill,", "ttft,")):
            kind, weights, batch, tokens, speed, spread, milliseconds, _, percent = line.split(",")
            at = "" if tokens == "1024" else f", context {tokens}"
            column = {"decode": f"decode, batch {batch}{at}", "prefill": f"prefill {batch} x {tokens}",
                      "ttft": f"first token of a prompt of {tokens}"}[kind]
            what = f"{float(milliseconds):.1f} ms" if kind == "ttft" else f"{float(speed):.0f}"
            cell = f"{what} (±{float(spread):.0f} %" + (f", {float(percent):.0f} %)" if percent else ")")
            tables.setdefault(model, {}).setdefault(weights, {})[column] = cell
    return tables, sorted(set(backends)), sorted(set(dates))


def kept(section, tables):
    """Paragraphs of the section whose tables are of other models, each with the line before it that says what was measured."""
    paragraphs, caption = [], ""
    for paragraph in section.strip().split("\n\n"):
        if not paragraph.startswith("| "):
            caption = paragraph
        elif paragraph.split(" | ")[0].removeprefix("| ") not in tables:
            paragraphs += [caption, paragraph]
    return paragraphs


def cells_of(line):
    return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]


def keep_cells(section, tables):
    """Puts into `tables` what the section's tables of the same models say beyond them; the section's rows and columns come first."""
    for paragraph in section.strip().split("\n\n"):
        head, *lines = paragraph.splitlines()
        model, *columns = cells_of(head)
        if not head.startswith("| ") or model not in tables:
            continue
        merged = {weights: dict(zip(columns, cells)) for weights, *cells in map(cells_of, lines[1:])}
        for weights, cells in tables[model].items():
            merged.setdefault(weights, {}).update(cells)
        tables[model] = merged


def render(tables, backends, dates, others):
    paragraphs = []
    caption = f"{', '.join(backends)}; {', '.join(dates)}; contexts of 1,024 tokens where nothing else is said, greedy; caches of 16 bits, `+kv8`: int8."
    for model, formats in tables.items():
        columns = list(dict.fromkeys(column for cells in formats.values() for column in cells))
        lines = [f"| {model} | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
        lines += [f"| {weights} | " + " | ".join(cells.get(column, "") for column in columns) + " |"
                  for weights, cells in formats.items()]
        paragraphs += [caption, "\n".join(lines)]
    return "\n\n".join(paragraphs + others)


def main():
    tables, backends, dates = read(sys.argv[2:])
    section = split(sys.argv[1], "step_bench")[1]
    others = kept(section, tables)
    keep_cells(section, tables)
    write_between(sys.argv[1], "step_bench", render(tables, backends, dates, others) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main()
