#!/usr/bin/env python3
"""Writes the table of kernels/cuda/README.md, between its markers, from what `gemm_bench --csv` printed.

Usage: gemm_table.py CSV... README DEVICE_LINE. Several files are read one after the other.
"""
import csv
import math
import sys

from markers import write_between


KERNELS = ("cublaslt", "nf4", "int8", "int8+a8", "lt-int8")
LEAST_TOPS_ROWS = 256  # below it weights are waited for


def cell(row, kernel):
    if row is None:
        return ""
    us, tops = f"{float(row['us']):.2f}", f"{float(row['tflop_per_s']):.0f}"
    if kernel == "cublaslt":
        return us
    if kernel == "lt-int8":
        return f"{us} ({tops} TOPS)"
    notes = f"{float(row['ratio_to_cublaslt']):.2f}, {float(row['percent_of_read']):.0f} %"
    if kernel == "int8+a8" and int(row["rows"]) >= LEAST_TOPS_ROWS:
        notes = f"{float(row['ratio_to_cublaslt']):.2f}, {tops} TOPS"
    return f"{us} ({notes})"


def table(rows, device):
    times = {(r["shape"], int(r["rows"]), r["kernel"]): r for r in rows}
    counts = sorted({key[1] for key in times})
    shapes = list(dict.fromkeys(key[0] for key in times))
    lines = [f"{device}. us, median of CUDA graph replays; in brackets speed over cuBLASLt 16-bit (the fastest of its eight "
             "first heuristics, same run) and percent of the measured read rate, scales counted; of int8+a8 and of cuBLASLt's int8, "
             "which leaves int32 and applies no scale, TOPS.", "",
             "| shape | kernel | " + " | ".join(f"{c} rows" for c in counts) + " |",
             "|---|---|" + "---|" * len(counts)]
    for shape in shapes:
        for kernel in KERNELS:
            if any((shape, count, kernel) in times for count in counts):
                cells = [cell(times.get((shape, count, kernel)), kernel) for count in counts]
                lines.append(f"| {shape} | {kernel} | " + " | ".join(cells) + " |")
    for kernel in ("nf4", "int8", "int8+a8"):
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
