#!/usr/bin/env python3
"""Puts the figures of model_bench into a README, between its markers.

Usage: model_bench --model MODEL --csv > bench.csv && bench_table.py bench.csv README.md

Replaces what stands between <!-- bench:begin --> and <!-- bench:end -->; the same CSV gives the same text. Exit 1 when the
markers or the rows are missing.
"""
import csv
import sys
from pathlib import Path

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


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
    """One line a variant: decode by batch, prefill; tokens/s (percent of the read bandwidth)."""
    decode = [r for r in rows if r["kind"] == "decode" and r["threads"] == threads]
    batches = sorted({int(r["batch"]) for r in decode})
    variants = list(dict.fromkeys(r["variants"] for r in decode))
    lines = []
    for variant in variants:
        cells = [variant]
        for batch in batches:
            r = next(r for r in decode if r["variants"] == variant and int(r["batch"]) == batch)
            cells.append(f"{number(r['tokens_per_second'], 1)} ({number(r['gigabytes_per_second'], 1)} GB/s, "
                         f"{number(r['percent_of_bandwidth'], 0)} %)")
        prefill = next(r for r in rows
                       if r["kind"] == "prefill" and r["threads"] == threads and r["variants"] == variant)
        cells.append(number(prefill["tokens_per_second"], 0))
        lines.append(cells)
    return table(["variant"] + [f"decode, batch {b}" for b in batches] + ["prefill"], lines)


def memories(rows):
    lines = [[r["variants"].replace("+", " + "), number(r["ready_seconds"], 1), number(r["idle_mib"], 0),
              number(r["peak_mib"], 0), number(r["tracked_mib"], 0)] for r in rows if r["kind"] == "memory"]
    return table(["variants", "ready, s", "idle, MiB", "peak of the load, MiB", "accounted for, MiB"], lines)


def render(header, rows):
    out = [f"{header['model']} on {header['processor']} ({header['backend']}), {header['date']}; written by "
           "`tests/tools/bench_table.py` from `model_bench --csv`.", ""]
    for threads in dict.fromkeys(r["threads"] for r in rows if r["kind"] == "decode"):
        limit = header[f"read bandwidth, {threads} threads"]
        decode = header["decode context"].replace(", prefill:", ", prefill of")
        out += [f"Tokens/s with {threads} thread{'s' if threads != '1' else ''} (decode at a context of {decode}; bytes of "
                f"weights and KV read a second, as percent of the {limit} that the same run reads):", ""]
        out += speeds(rows, threads) + [""]
    if any(r["kind"] == "memory" for r in rows):
        out += ["Memory of a process (anonymous, above an empty one) with these variants side by side:", ""]
        out += memories(rows) + [""]
    return "\n".join(out)


def main():
    header, rows = read(sys.argv[1])
    readme = Path(sys.argv[2])
    text = readme.read_text()
    if not rows or BEGIN not in text or END not in text:
        sys.exit(f"bench_table.py: no rows in {sys.argv[1]}, or no markers in {sys.argv[2]}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{render(header, rows)}{END}{after}")
    print(f"{header['processor']}, {header['date']}: {len(rows)} rows into {readme}")


if __name__ == "__main__":
    main()
