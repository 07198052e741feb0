#!/usr/bin/env python3
"""Puts the figures of model_bench into a README, between its markers.

Usage: model_bench --model MODEL --csv > bench.csv && bench_table.py [--marker NAME] bench.csv... README.md

Replaces what stands between <!-- NAME:begin --> and <!-- NAME:end --> (NAME: bench); the same CSV gives the same text. Several files,
of the same model and machine, make one table a number of threads, whose rows name their backend. Exit 1 when the markers or the rows
are missing.
"""
import argparse
import csv
import sys
from pathlib import Path

from markers import write_between


def read(path):
    """({header key: text}, rows) of model_bench's CSV."""
    header, lines = {}, []
    for line in Path(path).read_text().splitlines():
        if line.startswith("# "):
            key, _, value = line[2:].partition(": ")
            header[key] = value
        elif line:
            lines.append(line)
    return header, list(csv.DictReader(lines))


def number(text, digits):
    return f"{float(text):,.{digits}f}" if text else "-"


def table(head, rows):
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(r) + " |" for r in [head, rule, *rows]]


def speeds(rows, threads):
    """One line a variant: decode by batch, prefill by length; tokens/s (percent of the limit)."""
    rows = [r for r in rows if r["threads"] == threads and r["kind"] in ("decode", "prefill")]
    columns = sorted({(r["kind"], int(r["batch"] if r["kind"] == "decode" else r["tokens"])) for r in rows})
    lines = []
    for variant in dict.fromkeys(r["variants"] for r in rows):
        cells = [variant]
        for kind, number_of in columns:
            r = next((r for r in rows if r["variants"] == variant and r["kind"] == kind
                      and int(r["batch"] if kind == "decode" else r["tokens"]) == number_of), None)
            if r is None:
                cells.append("-")
            elif kind == "decode":
                cells.append(f"{number(r['tokens_per_second'], 1)} ({number(r['percent_of_bandwidth'], 0)} %)")
            else:
                share = f" ({number(r['percent_of_peak'], 0)} %)" if r["percent_of_peak"] else ""
                cells.append(f"{number(r['tokens_per_second'], 0)}{share}")
        lines.append(cells)
    heads = [f"decode, batch {n}" if kind == "decode" else f"prefill, {n}" for kind, n in columns]
    return table(["variant"] + heads, lines)


def memories(rows):
    lines = [[r["variants"], number(r["ready_seconds"], 1), number(r["idle_mib"], 0),
              number(r["peak_mib"], 0), number(r["tracked_mib"], 0)] for r in rows if r["kind"] == "memory"]
    return table(["variants", "ready, s", "idle, MiB", "peak of the load, MiB", "accounted for, MiB"], lines)


def limits(header, threads):
    """What the runs with as many threads measured just before their figures: \"10.1 to 10.8 GB/s\"."""
    values = [v for k, v in header.items() if k.startswith(f"limits, {threads} threads")]
    reads = [float(v.split()[1]) for v in values]
    products = [float(v.split()[-2]) for v in values]
    text = f"{min(reads):.1f} to {max(reads):.1f} GB/s"
    return text, f"{min(products):,.0f} to {max(products):,.0f}"


def backend_of(header):
    """"amx" of "cpu amx, 2 threads"."""
    fast = ", fast prefill" if header["backend"].endswith("fast prefill") else ""
    return header["backend"].split(", ")[0].removeprefix("cpu ") + fast


def render(files):
    headers = [header for header, _ in files]
    rows = [row for _, rows in files for row in rows]
    limits_of_all = {f"{key} #{i}": value for i, h in enumerate(headers) for key, value in h.items()}
    header = headers[0]
    backends = ", ".join(dict.fromkeys(backend_of(h) for h in headers))
    out = [f"{header['model']} on {header['processor']} ({backends}), {header['date']}; written by `tests/tools/bench_table.py` from "
           "`model_bench --csv`.", ""]
    if len(files) > 1:
        for h, own in files:
            for row in own:
                row["variants"] += ": " + backend_of(h)
        rows.sort(key=lambda row: row["variants"].split(":")[0])
    for threads in dict.fromkeys(r["threads"] for r in rows if r["kind"] == "decode"):
        reads, products = limits(limits_of_all, threads)
        context = header["decode context"].split(",")[0]
        out += [f"Tokens/s with {threads} thread{'s' if threads != '1' else ''}. Decode at a context of {context}: bytes of weights and "
                f"KV as percent of the read bandwidth, measured just before as {reads}. Prefill: multiply-adds with weights as percent of "
                f"the {products} G/s that the instruction set can do, measured likewise.", ""]
        out += speeds(rows, threads) + [""]
    if any(r["kind"] == "memory" for r in rows):
        out += ["Memory of a process (anonymous, above an empty one) with these variants side by side:", ""]
        out += memories(rows) + [""]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description="The figures of model_bench as a README's table.")
    parser.add_argument("--marker", default="bench")
    parser.add_argument("csv", nargs="+")
    parser.add_argument("readme")
    arguments = parser.parse_args()
    files = [read(path) for path in arguments.csv]
    if not all(rows for _, rows in files):
        sys.exit(f"bench_table.py: no rows in {arguments.csv}")
    write_between(arguments.readme, arguments.marker, render(files))
    print(f"{files[0][0]['processor']}, {files[0][0]['date']}: {sum(len(rows) for _, rows in files)} rows into {arguments.readme}")


if __name__ == "__main__":
    main()
