"""The part of a README that a script writes: what stands between <!-- NAME:begin --> and <!-- NAME:end -->."""
import sys
from pathlib import Path


def between(readme, name, table):
    """The text of `readme` with `table`, which ends with a newline, between the markers; ends the program where they are not."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = Path(readme).read_text()
    if begin not in text or end not in text:
        sys.exit(f"{Path(sys.argv[0]).name}: {readme} lacks {begin} or {end}")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{table}{end}{rest.split(end, 1)[1]}"


def write_between(readme, name, table):
    Path(readme).write_text(between(readme, name, table))
