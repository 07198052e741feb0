#!/usr/bin/env python3
"""Writes the tables of kernels/cuda/README.md, between their markers, from what `gemm_bench --csv` printed.

Usage: gemm_table.py [--int8|--16bit|--layer] CSV... README DEVICE_LINE. Several files are read one after the other. --int8: the table of
int8 activations; --16bit: of 16-bit weights; --layer: a short one of whole layers, for the root's README; else that of quantized weights
and 16-bit activations.
"""
import csv
import math
import sys

from markers import write_between

NOTE = ("us, median of CUDA graph replays; in brackets speed over cuBLASLt 16-bit (the fastest of its first heuristics, same run) and "
        "percent of the measured read rate, scales counted")
INT8_NOTE = "; of int8+a8 from 256 rows, and of cuBLASLt's int8, which leaves int32 and applies no scales, TOPS"
LEAST_TOPS_ROWS = 256  # below it weights are waited for


def cell(row):
    if row is None:
        return ""
    us, tops = f"{float(row['us']):.2f}", f"{float(row['tflop_per_s']):.0f} TOPS"
    if row["kernel"] == "cublaslt":
        return us
    if row["kernel"] == "lt-int8":
        return f"{us} ({tops})"
    is_fast = row["kernel"] == "int8+a8" and int(row["rows"]) >= LEAST_TOPS_ROWS
    return f"{us} ({float(row['ratio_to_cublaslt']):.2f}, " + (tops if is_fast else f"{float(row['percent_of_read']):.0f} %") + ")"


def table(rows, device, kernels, note):
    times = {(r["shape"], int(r["rows"]), r["kernel"]): r for r in rows}
    ours = [k for k in kernels if k not in ("cublaslt", "lt-int8", "lt-first")]
    counts = sorted({count for _, count, kernel in times if kernel in ours})
    shapes = list(dict.fromkeys(key[0] for key in times))
    lines = [f"{device}. {note}.", "", "| shape | kernel | " + " | ".join(f"{c} rows" for c in counts) + " |",
             "|---|---|" + "---|" * len(counts)]
    for shape in shapes:
        for kernel in kernels:
            if any((shape, count, kernel) in times for count in counts):
                lines.append(f"| {shape} | {kernel} | " + " | ".join(cell(times.get((shape, count, kernel))) for count in counts) + " |")
    for kernel in ours:
        cells = []
        for count in counts:
            ratios = [float(times[(s, count, kernel)]["ratio_to_cublaslt"]) for s in shapes
                      if s.startswith("8b.") and not s.endswith(".layer") and (s, count, kernel) in times]
            cells.append(f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}" if ratios else "")
        lines.append(f"| geomean of the 8B shapes | {kernel} / cublaslt | " + " | ".join(cells) + " |")
    return "\n".join(lines)


LAYER_KERNELS = {"cublaslt": "cuBLASLt, fp16", "bnb-nf4": "bitsandbytes 0.50, NF4", "marlin": "Marlin, int4 in groups of 128",
                 "nf4": "**Vernier, nf4**", "int8": "**Vernier, int8**", "int8+a8": "**Vernier, int8+a8**"}


def layer_table(rows, device):
    times = {(r["kernel"], int(r["rows"])): r for r in rows if r["shape"].endswith(".layer")}
    counts = sorted({count for _, count in times})
    lines = [f"{device}: us of a layer's four products of Llama-3.1-8B one after the other; in brackets speed over cuBLASLt. Written by "
             "`tests/tools/gemm_table.py --layer` from `gemm_bench --csv`, all in one run.", "",
             "| rows | " + " | ".join(map(str, counts)) + " |", "|---|" + "---:|" * len(counts)]
    for kernel, name in LAYER_KERNELS.items():
        cells = [f"{float(row['us']):.0f} ({float(row['ratio_to_cublaslt']):.2f})" if (row := times.get((kernel, count))) else ""
                 for count in counts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    tables = {"--int8": lambda rows, device: ("gemm_bench_int8", table(rows, device, ("cublaslt", "int8", "int8+a8", "lt-int8"), NOTE + INT8_NOTE)),
              "--16bit": lambda rows, device: ("gemm_bench_16bit", table(rows, device, ("lt-first", "cublaslt", "16bit"), NOTE)),
              "--layer": lambda rows, device: ("gemm_layer", layer_table(rows, device)),
              "": lambda rows, device: ("gemm_bench", table(rows, device, ("cublaslt", "nf4", "bnb-nf4", "int4", "marlin", "int8"), NOTE))}
    arguments = sys.argv[1:]
    which = arguments.pop(0) if arguments[0] in tables else ""
    *inputs, readme, device = arguments
    rows = []
    for path in inputs:
        with open(path, newline="") as file:
            rows += list(csv.DictReader(file))
    marker, text = tables[which](rows, device)
    write_between(readme, marker, text + "\n")


if __name__ == "__main__":
    main()
