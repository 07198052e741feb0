#!/usr/bin/env python3
"""The tables of server/experiments/README.md: what experiments cost a request, and how often they decide wrongly.

Usage: experiments_table.py FIGURES.csv [README.md]

FIGURES.csv is what `experiments_bench --csv` wrote. Prints the tables, and puts them between <!-- experiments:begin --> and
<!-- experiments:end --> of the README where one is given. Exit 1 when a figure or the markers are missing.
"""
import csv
import re
import sys
from pathlib import Path

from markers import write_between

LIMIT, NULL, PAIRS = "at the limit, 3,000 requests", "equal arms", "pairs, 4 % discordant, margin 2 points"
# What is shown: the words, with the figures that they name; the goal.
DECISIONS = [
    ("equal arms, {equal arms/runs} experiments of 10,000 requests and 200 looks: a difference is found",
     "{equal arms/decided %} % (by a test made for one look: {equal arms/decided by the naive test %} %)", "5 %"),
    ("a split of 48/52 is noticed, median of {split of 48/52/runs}", "{split of 48/52/median exposures} exposures", "10,500"),
    ("an even split is called uneven within 20,000 exposures", "{even split, 20,000 exposures/false alarms %} %", "0.1 %"),
    ("5 % errors are reverted, median and 95th percentile of {5 % errors/runs}",
     "{5 % errors/median requests}, {5 % errors/p95 requests} canary requests", "90, 230"),
    ("2 % errors; 20 % errors", "{2 % errors/median requests}, {2 % errors/p95 requests}; "
     "{20 % errors/median requests}, {20 % errors/p95 requests}", "-"),
    ("a canary at its limits is reverted within 3,000 requests, of {%s/runs}: by errors, broken answers, KL" % LIMIT,
     "{%s/false reverts by errors %%} %%, {%s/false reverts by broken %%} %%, {%s/false reverts by kl %%} %%" % (LIMIT, LIMIT, LIMIT),
     "0.1 % each"),
    ("a KL of twice its limit is reverted, median and 95th percentile",
     "{KL of twice the limit/median answers}, {KL of twice the limit/p95 answers} scored answers", "50"),
    ("pairs of which 4 %% differ are found non-inferior at a margin of 2 points, median and 90th percentile of {%s/runs}" % PAIRS,
     "{%s/median pairs}, {%s/p90 pairs} pairs (a test of fixed size with power 0.9: {%s/pairs for a test of fixed size} pairs, or "
     "{%s/split requests for a test of fixed size} requests of a split)" % (PAIRS, PAIRS, PAIRS, PAIRS), "900 (median)"),
    ("they are found inferior", "{%s/found inferior %%} %%" % PAIRS, "5 %"),
    ("a loss of just the margin is taken for none within 5,000 pairs",
     "{a loss of the margin, 5,000 pairs/taken for none %} %", "5 %"),
]
REQUESTS = ["10,000 a second", "8,000 at once"]
COLUMNS = ["requests", "p50 ns", "p99 ns", "p99.9 ns", "max ns", "dropped"]


def render(rows):
    figures = {(row["row"], row["figure"]): row["value"] for row in rows}

    def show(value):
        number = float(value)
        return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"

    def fill(words):
        return re.sub(r"\{(.+?)/([^/{}]+)\}", lambda m: show(figures[m.group(1), m.group(2)]), words.replace("48/52/", "48-52/"))

    for (row, figure), value in list(figures.items()):
        figures[row.replace("48/52", "48-52"), figure] = value
    out = ["Simulated with fixed seeds, through the reports and guardrails that decide real experiments; the same on every machine:", "",
           "| simulated | found | to be at most |", "|---|---|---|"]
    out += [f"| {fill(words)} | {fill(found)} | {goal} |" for words, found, goal in DECISIONS]
    out += ["", f"Assignment and exposure of a request on {figures['machine', 'processor']}, {figures['machine', 'date']}, nanoseconds on one "
            "thread of a machine whose cores others used too, which the maxima show (goal: p99 at most 20,000, nothing dropped):", "",
            "| requests come | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    out += [f"| {row} | " + " | ".join(show(figures[row, column]) for column in COLUMNS) + " |" for row in REQUESTS]
    out += ["", fill("From the end of the request that crosses a guardrail until nobody gets the arm: {rollback/median ms} ms in the median of "
                     "50, {rollback/max ms} ms at most (goal: 100).")]
    out += ["", fill("A record costs guardrails {guardrails/ns a record} ns and a report {report/ns a record} ns; a report of {report/units} "
                     "units holds {report/MiB of 100,000 units} MiB and is concluded in {report/ms to build} ms.")]
    return "\n".join(out) + "\n\nWritten by `tests/tools/experiments_table.py` from `experiments_bench --csv`.\n"


def main():
    try:
        table = render(list(csv.DictReader(Path(sys.argv[1]).read_text().splitlines())))
    except KeyError as missing:
        sys.exit(f"experiments_table.py: no figure {missing} in {sys.argv[1]}")
    print(table)
    if len(sys.argv) >= 3:
        write_between(sys.argv[2], "experiments", table)


if __name__ == "__main__":
    main()
