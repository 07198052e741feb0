#!/usr/bin/env python3
"""Puts a Compare, as deploy/quickstart.sh prints it, into a README between <!-- compare:begin --> and <!-- compare:end -->.

Usage: deploy/quickstart.sh --once | tee quickstart.log; compare_section.py quickstart.log README.md

Takes what stands between the last step's title and the line that follows the Compare. Exit 1 when it is not there.
"""
import re
import sys
from pathlib import Path

from markers import write_between


def main():
    log = Path(sys.argv[1]).read_text()
    found = re.search(r"^\[5/5\][^\n]*\n(.*?)\n(?:stopped \(--once\)|vernierd is running)", log, re.S | re.M)
    if found is None:
        sys.exit(f"compare_section.py: no Compare in {sys.argv[1]}")
    write_between(sys.argv[2], "compare", f"```\n{found.group(1).strip()}\n```\n")


if __name__ == "__main__":
    main()
