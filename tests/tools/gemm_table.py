#!/usr/bin/env python3
"""Writes the table of kernels/cuda/README.md, between its markers, from what `gemm_bench --csv` printed.

Usage: gemm_table.py CSV... README DEVICE_LINE. Several files are read one after the other.
"""
import csv
import math
import sys

from markers import write_between


def table(rows, device):
    times = {(r["shape"], int(r["rows"]), r["kernel"]): r for r in rows}
    counts = sorted({key[1] for key in times})
    shapes = list(dict.fromkeys(key[0] for key in times))
    lines = [f"{device}. us, median of CUDA graph replays; in brackets speed over cuBLASLt 16-bit (the fastest of its eight "
             "first heuristics, same run) and percent of the measured read rate, scales counted.", "",
             "| shape | kernel | " + " | ".join(f"{c} rows" for c in counts) + " |",
             "|---|---|" + "---|" * len(counts)]
    for shape in shapes:
        for kernel in ("cublaslt", "nf4", "int8"):
            cells = []
            for count in counts:
                r = times.get((shape, count, kernel))
                cells.append("" if r is None else f"{float(r['us']):.2f}" if kernel == "cublaslt" else
                             f"{float(r['us']):.2f} ({float(r['ratio_to_cublaslt']):.2f}, {float(r['percent_of_read']):.0f} %)")
            lines.append(f"| {shape} | {kernel} | " + " | ".join(cells) + " |")
    for kernel in ("nf4", "int8"):
        cells = []
        for count in counts:
            ratios = [float(times[(s, count, kernel)]["ratio_to_cublaslt"]) for s in shapes
                      if s.startswith("8b.") and not s.endswith(".layer") and (s, count, kernel) in times]
            cells.append(f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}" if ratios else "")
        lines.append(f"| geomean of the 8B shapes | {kernel} / cublaslt | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    *inputs, readme, device = sys.argv[1:]
    rows = []
    for path in inputs:
        with open(path, newline="") as file:
            rows += list(csv.DictReader(file))
    write_between(readme, "gemm_bench", table(rows, device) + "\n")


if __name__ == "__main__":
    main()
