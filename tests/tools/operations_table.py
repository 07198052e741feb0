#!/usr/bin/env python3
"""Writes the figures of the operational goals and faults into deploy/README.md: of each, the last that tests/soak.sh recorded, with its date.

Usage: operations_table.py. A goal whose row was never run says so.
"""
from pathlib import Path

from markers import write_between

ROOT = Path(__file__).resolve().parents[2]
GOALS = [  # goal, what is asked, rows of tests/soak.sh
    ("R4", "200 rolling restarts under load without a failed call", ["rollout", "drain"]),
    ("R8", "scrape p99 of at most 5 ms at 20 a second beside 64 silent connections", ["scrape", "scrape_load", "silent"]),
    ("R11", "1,000 of 1,000 flipped bits and every truncation refused", ["integrity"]),
    ("R15", "compressed: CPU at most 40 MB, CUDA at most 250 MB without cuBLASLt; nothing writable, no shell", ["image"]),
    ("R16", "objects valid on two Kubernetes versions, Helm as kustomize, every alert fires and clears, every panel finds data", ["manifests"]),
    ("F22", "a million streams reset: health calls within 50 ms, others' calls go on", ["rapid_reset"]),
    ("F24", "messages that inflate to 256 MiB: UNIMPLEMENTED, at most 2 MiB", ["bomb"]),
    ("F33", "certificates changed under load: in use within 60 s, no failed call", ["rotate"]),
    ("F61", "the server's suite passes under its seccomp profile", ["seccomp"]),
    ("F68", "SIGTERM: readiness off within 100 ms, streams end or are told UNAVAILABLE, exit 0", ["stop"]),
    ("F69", "SIGKILL under load: clients see UNAVAILABLE; ready within the start-up goal, 2 s", ["restart"]),
    ("R17", "every code of the contract, and whether a retry is right", ["contract"]),
]


def recorded():
    """The last line of each row: (date, figure, processor)."""
    out = {}
    for line in (ROOT / "tests/soak_results.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0][:1].isdigit():
            out[cells[1]] = (cells[0], cells[2], cells[3])
    return out


def main():
    found = recorded()
    lines = ["| goal | asked | shown | when, on what |", "|---|---|---|---|"]
    for goal, asked, rows in GOALS:
        for row in rows:
            date, figure, processor = found.get(row, ("", "not run", ""))
            lines.append(f"| {goal} | {asked} | {figure} | `soak.sh {row}`{', ' + date if date else ''}{', ' + processor if processor else ''} |")
    write_between(ROOT / "deploy/README.md", "operations", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
