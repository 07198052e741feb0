#!/usr/bin/env python3
"""The table of tests/bench/compare_llama_server.sh: medians over its rounds.

Usage: server_rival_table.py SERVER_RIVALS.csv THREADS CLIENTS INTER_TOKEN_SECONDS [README.md]

Prints it, and puts it between <!-- server_rivals:begin --> and <!-- server_rivals:end --> of the README where one is given. Exit 1 when
rows or markers are missing.
"""
import datetime
import statistics
import sys

from markers import publish
from rival_table import processor

PAIRS = [("int8", "Q8_0"), ("nf4", "Q4_0")]
# Figure, heading, factor to its unit, digits.
COLUMNS = [("output_tokens_per_second", "tokens/s", 1, 0), ("first_token_p99_seconds", "TTFT p99, s", 1, 2),
           ("inter_token_p99_seconds", "inter-token p99, ms", 1e3, 0), ("ready_seconds", "ready after, s", 1, 2),
           ("resident_bytes", "resident, MiB", 1 / 2**20, 0)]


def render(rows, threads, clients, inter_token):
    values = {}
    for row in rows:
        values.setdefault((row["type"], row["figure"]), []).append(float(row["value"]))
    failed = sum(sum(found) for (_, figure), found in values.items() if figure == "failed")
    rounds = max(int(row["round"]) for row in rows)
    out = [f"SmolLM2-135M on {processor()}, {datetime.date.today()}, {threads} threads, {clients} streaming clients on the same cores, "
           f"prompts of 128 random tokens, answers of 64, steps of Vernier at most {inter_token} s "
           f"(`inter_token_seconds`): Vernier / llama-server, medians of {rounds} alternated rounds, "
           f"{failed:.0f} calls failed; written by `tests/bench/compare_llama_server.sh`.", ""]
    out += ["| Vernier | llama-server | " + " | ".join(column[1] for column in COLUMNS) + " |", "|---|---|" + "---:|" * len(COLUMNS)]
    for ours, theirs in PAIRS:
        cells = []
        for figure, _, factor, digits in COLUMNS:
            a, b = (statistics.median(values[kind, figure]) * factor for kind in (ours, theirs))
            cells.append(f"{a:,.{digits}f} / {b:,.{digits}f} = **{a / b:.2f}x**")
        out.append(f"| {ours} (int8 head) | {theirs} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def main():
    publish(sys.argv[1], lambda rows: render(rows, *sys.argv[2:5]), "server_rivals", *sys.argv[5:6])


if __name__ == "__main__":
    main()
