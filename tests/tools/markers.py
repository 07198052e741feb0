"""The part of a README that a script writes: what stands between <!-- NAME:begin --> and <!-- NAME:end -->."""
import csv
import sys
from pathlib import Path


def has_amx():
    try:
        return "amx_int8" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def split(readme, name):
    """The text of `readme` before, between and after the markers, which stay with what is around them; ends the program where they are not."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = Path(readme).read_text()
    if begin not in text or end not in text:
        sys.exit(f"{Path(sys.argv[0]).name}: {readme} lacks {begin} or {end}")
    before, rest = text.split(begin, 1)
    section, after = rest.split(end, 1)
    return f"{before}{begin}\n", section, f"{end}{after}"


def between(readme, name, table):
    """The text of `readme` with `table`, which ends with a newline, between the markers; ends the program where they are not."""
    before, _, after = split(readme, name)
    return f"{before}{table}{after}"


def write_between(readme, name, table):
    """On a processor with AMX between NAME_amx, where there are such markers: a table of each kind of processor can stand in one README."""
    if has_amx() and f"<!-- {name}_amx:begin -->" in Path(readme).read_text():
        name += "_amx"
    Path(readme).write_text(between(readme, name, table))


def publish(csv_path, render, name, readme=None):
    """Prints what `render` makes of the file's rows, and writes it between the markers of `readme`, if given; ends the program where there
    are no rows."""
    rows = list(csv.DictReader(Path(csv_path).read_text().splitlines()))
    if not rows:
        sys.exit(f"{Path(sys.argv[0]).name}: no rows in {csv_path}")
    table = render(rows)
    print(table)
    if readme is not None:
        write_between(readme, name, table)
