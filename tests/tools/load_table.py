#!/usr/bin/env python3
"""Writes what the load tests of tests/soak.sh measured into loadtest/README.md, between its markers, and plots beside it.

Usage: load_table.py [--reports FOLDER] [--section MARKER] [NOTE]. Reads *.json and *.html of build/soak, as `vernier-loadtest` wrote them; NOTE says
what else ran on the machine. A run that is not there leaves no table. A plot is one of the page, as a file of its own. The section `rates` is of
whatever sweeps FOLDER has: a row for each rate, and for each variant of it.
"""
import argparse
import html
import json
import re
import sys
from pathlib import Path

from markers import write_between
from overload import loads as overloads

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "build" / "soak"
README = ROOT / "loadtest" / "README.md"
PLOTS = ROOT / "loadtest" / "plots"
# File, report, the chart's title on its page, and which of that title: the last is the timeline of the highest rate.
CHARTS = [
    ("knee_goodput", "capacity", "Throughput under offered load", 0),
    ("knee_ttft", "capacity", "Time to first token", 0),
    ("knee_inter_token", "capacity", "Between two messages with tokens", 0),
    ("overload_goodput", "overload_poisson", "Throughput under offered load", 0),
    ("overload_ttft", "overload_poisson", "Time to first token", 0),
    ("overload_refusals", "overload_poisson", "Until a refusal", 0),
    ("overload_requests", "overload_poisson", "Requests in the server", -1),
    ("overload_kv", "overload_poisson", "KV pool", -1),
]
STYLE = """text{font:11px system-ui,sans-serif;fill:#667085}.title{font-size:13px;font-weight:600}.grid{stroke:#98a2b3;stroke-opacity:.35}
path{fill:none;stroke-width:2}""" + "".join(
    f".s{i}{{stroke:{c}}}circle.s{i}{{fill:{c}}}" for i, c in enumerate(["#2a6fdb", "#d97706", "#c0265a", "#0f8a6b", "#7c4dbd", "#6b7280"]))


def read(name):
    path = REPORTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def row(cells):
    return "| " + " | ".join(str(c) for c in cells) + " |"


def table(head, rows):
    return [row(head), "|" + "---:|" * len(head), *[row(r) for r in rows], ""]


def overload(name, arrivals):
    report = read(name)
    if report is None:
        return []
    rows, (loads, peak) = [], overloads(report)
    for load in loads:
        last = load.runs[-1]["timeline"][-1]
        low, high = load.spread("goodput_per_second")
        rows.append([
            f"{load.times:g}x", f"{load.figure('offered_per_second'):.0f}", f"{100 * load.figure('refused') / load.figure('sent'):.0f} %",
            f"{load.figure('goodput_per_second'):.1f}", f"{low:.0f} to {high:.0f}", f"{100 * load.figure('goodput_per_second') / peak:.0f} %",
            f"{load.figure('first_token_p50_seconds'):.2f}", f"{load.figure('first_token_p99_seconds'):.2f}",
            f"{1e3 * load.figure('per_token_p99_seconds'):.0f}", f"{1e3 * load.figure('refusal_p50_seconds'):.1f}",
            f"{1e3 * load.figure('refusal_p99_seconds'):.1f}", f"{last['resident_bytes'] / 2**20:.1f}"])
    return [f"{report['server']}, {arrivals}, {report['workload'].split(';')[0]}; SLO {report['slo']['first_token_seconds']:g} s to the first token and "
            f"{report['slo']['per_token_seconds']:g} s a token; medians of {len(loads[0].runs)} runs:", ""] + table(
        ["load", "offered/s", "refused", "goodput/s", "of its runs", "of the peak", "TTFT p50, s", "p99, s", "TPOT p99, ms", "refusal p50, ms", "p99, ms",
         "resident, MiB"], rows)


def plot(figure):
    """A page's <figure> as an image that stands alone: its title above and its legend below."""
    title = re.search("<figcaption>(.*?)</figcaption>", figure).group(1)
    inside = re.search("<svg[^>]*>(.*)</svg>", figure, re.S).group(1)
    legend, x = "", 64
    for series, name in re.findall('<span class="(s.)">(.*?)</span>', figure):
        legend += f'<path class="{series}" d="M{x} 292h14"/><text x="{x + 18}" y="296">{name}</text>'
        x += 32 + 7 * len(html.unescape(name))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -24 560 328"><style>{STYLE}</style>'
            f'<text class="title" x="64" y="-8">{title}</text>{inside}{legend}</svg>\n')


def plots():
    PLOTS.mkdir(exist_ok=True)
    out = []
    for name, report, title, index in CHARTS:
        page = REPORTS / f"{report}.html"
        if not page.exists():
            continue
        figures = re.findall("<figure>.*?</figure>", page.read_text(), re.S)
        figures = [f for f in figures if f"<figcaption>{title}</figcaption>" in f and "<svg" in f]
        if not figures:
            continue
        (PLOTS / f"{name}.svg").write_text(plot(figures[index]))
        out.append(f"![{title}, {report.replace('_', ' ')}](plots/{name}.svg)")
    return ["", *out] if out else []


def first(name):
    report = read(name)
    return report and report["runs"][0]


def lines():
    out = []
    for prefix in ("", "smollm2_"):
        out += overload(f"{prefix}overload_poisson", "Poisson arrivals") + overload(f"{prefix}overload_gamma", "bursts (gamma, CV 3)")
    cancels = first("cancels")
    if cancels:
        end, begin = cancels["timeline"][-1], cancels["timeline"][0]
        out.append(f"- {cancels['figures']['sent']:.0f} calls, 64 at once, {cancels['figures']['cancelled']:.0f} of them cancelled at a "
                   f"random token: resident memory {begin['resident_bytes'] / 2**20:.1f} MiB in the first second, "
                   f"{end['resident_bytes'] / 2**20:.1f} MiB in the last; descriptors {begin['open_files']:.0f} and "
                   f"{end['open_files']:.0f}, threads {begin['threads']:.0f} and {end['threads']:.0f}.")
    alone, flood = first("flood_alone"), first("flood")
    if alone and flood:
        victim, other = flood["tenants"]["victim"], flood["tenants"]["flood"]
        out.append(f"- A tenant with 1 request a second waits {1e3 * alone['figures']['first_token_p99_seconds']:.0f} ms at p99 for its "
                   f"first token alone ({alone['figures']['sent']:.0f} requests), and {1e3 * victim['first_token_p99_seconds']:.0f} ms "
                   f"({victim['sent']:.0f} requests) beside one that sends 50 ({1e3 * other['first_token_p99_seconds']:.0f} ms, "
                   f"{100 * other['refused'] / other['sent']:.0f} % refused).")
    retries = first("retries")
    if retries:
        f = retries["figures"]
        out.append(f"- Clients with the shipped retry policy at {f['offered_per_second']:.0f} requests/s: {f['refused']:.0f} of "
                   f"{f['sent']:.0f} were refused in the end; `tests/soak.sh retries` counts the calls that the server saw.")
    cold, hit = first("prefix_cold"), first("prefix_hit")
    if cold and hit:
        a, b = cold["figures"]["first_token_p50_seconds"], hit["figures"]["first_token_p50_seconds"]
        out.append(f"- SmolLM2-135M, a prompt of 2,016 tokens: {a:.2f} s to the first token, {b:.3f} s with all but its last 32 in the "
                   f"prefix cache, {a / b:.0f} times less.")
    return out


def rates():
    reports = [json.loads(path.read_text()) for path in sorted(REPORTS.glob("*.json"))]
    if not reports:
        sys.exit(f"load_table.py: no report in {REPORTS}")
    some, rows = reports[0], []
    for report in reports:
        names = re.search("variants ([^,]*)", report["workload"])
        mix = names.group(1).replace("=1", "").replace(" ", ", ") if names else ""
        for run in report["runs"]:
            parts = run.get("variants", {})
            for name, f in [(mix, run["figures"]), *(parts.items() if len(parts) > 1 else [])]:
                rows.append([
                    run["label"].removeprefix("rate ") if name == mix else "", name, f"{f['offered_per_second']:.1f}",
                    f"{100 * f['attained_share']:.1f} %", f"{f['output_tokens_per_second']:.0f}",
                    f"{1e3 * f['first_token_p50_seconds']:.0f}", f"{1e3 * f['first_token_p99_seconds']:.0f}",
                    f"{1e3 * f['per_token_p50_seconds']:.1f}", f"{1e3 * f['per_token_p99_seconds']:.1f}"])
    slo = some["slo"]
    return some, [f"{some['server']}, {re.sub(', variants [^,]*', '', some['workload'].split(';')[0])}; SLO {slo['first_token_seconds']:g} s "
                  f"to the first token and {slo['per_token_seconds']:g} s a token:", ""] + table(
        ["requests/s asked for", "variants", "sent/s", "within the SLO", "tokens/s", "TTFT p50, ms", "p99, ms", "TPOT p50, ms", "p99, ms"],
        rows)


def main():
    global REPORTS
    parser = argparse.ArgumentParser()
    parser.add_argument("--reports", type=Path, default=REPORTS)
    parser.add_argument("--section", default="load", help="markers between which it writes; `own` is for runs with cores for each side")
    parser.add_argument("note", nargs="?", default="")
    arguments = parser.parse_args()
    REPORTS, note = arguments.reports, arguments.note
    if arguments.section == "rates":
        some, out = rates()
        head = [f"{some['processor']}, {some['date']}; written by `tests/tools/load_table.py --section rates`.{' ' + note if note else ''}", ""]
        write_between(README, "rates", "\n".join(head + out).rstrip() + "\n")
        return
    some = next((r for r in map(read, ["capacity", "cancels", "flood"]) if r), None)
    if some is None:
        sys.exit(f"load_table.py: none of capacity.json, cancels.json, flood.json in {REPORTS}; run tests/soak.sh overload cancels flood retries prefix")
    head = [f"Server and client on one machine: {some['processor']}, {some['date']}; written by "
            f"`tests/tools/load_table.py` from the reports of `tests/soak.sh`.{' ' + note if note else ''}", ""]
    write_between(README, arguments.section, "\n".join(head + lines() + plots()).rstrip() + "\n")


if __name__ == "__main__":
    main()
