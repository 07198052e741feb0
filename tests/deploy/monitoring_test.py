#!/usr/bin/env python3
"""Rules and dashboards against Prometheus itself: every alert fires and falls silent, every query of a dashboard parses and finds data.

The data is a scrape of a daemon that has just served each kind of call and run two experiments, spread over ten minutes: counters rise
evenly from 0 to what was scraped. Prometheus is Debian's; its network is loopback.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy/monitoring"
BIN = Path(os.environ.get("VERNIER_BIN", ROOT / "build/release/bin"))
MODEL = ROOT / "tests/data/stories260K/hf"
STEP_SECONDS, STEPS = 15, 40


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=30) as reply:
        return reply.read().decode()


CONFIG = """
model: {{path: {model}}}
variants: [{{name: fp16}}, {{name: int8}}, {{name: nf4}}]
listen: 127.0.0.1:0
http: 127.0.0.1:0
admin: 127.0.0.1:0
threads: 1
engine: {{kv_bytes: 8000000}}
experiments: {{folder: {folder}/experiments}}
"""
# A model of 260 thousand weights in NF4 is far from itself: the guardrail is sure after a few answers.
STRICT = {"id": "strict", "unit": "REQUEST", "ramp": [1], "shadow_share": 1, "guardrails": {"max_kl": 1e-6},
          "arms": [{"name": "full", "variant": "fp16"}, {"name": "cheap", "variant": "nf4"}]}


def run_experiments(call, admin):
    """One that is watched, with feedback, and one whose shadows roll it back."""
    def generate(number):
        ids = ",".join(str(id) for id in (1, 403 + number % 40, 407))
        return json.loads(call("generate", "--ids", ids, "--max-tokens", "8", "--ignore-eos", "--json"))["served_by"]

    admin("experiment", "create", "watched", "--arms", "fp16,nf4", "--unit", "request", "--ramp", "50", "--feedback", "thumbs_up")
    admin("experiment", "start", "watched")
    exposures = [generate(number)["exposure_id"] for number in range(16)]
    for exposure in exposures[:4]:
        call("feedback", exposure, "thumbs_up", "true")
    admin("experiment", "stop", "watched")
    admin("experiment", "put", "-", input=json.dumps(STRICT))
    admin("experiment", "start", "strict")
    for number in range(400):
        if generate(number)["experiment"] != "strict":
            return
    raise AssertionError("no guardrail has stopped the experiment")


def scrape_a_daemon():
    """The metrics page of a daemon after a Generate, a Score, a Compare and two experiments."""
    folder = tempfile.TemporaryDirectory()
    config = Path(folder.name) / "vernierd.yaml"
    config.write_text(CONFIG.format(model=MODEL, folder=folder.name))
    daemon = subprocess.Popen([BIN / "vernierd", "--config", config], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        ready = dict(word.split("=", 1) for word in daemon.stdout.readline().split()[1:])

        def call(*arguments, port="grpc", input=None):
            command = [BIN / "vernier", "--server", ready[port], *arguments]
            return subprocess.run(command, check=True, capture_output=True, text=True, input=input).stdout

        for variant in ("fp16", "int8", "nf4"):
            call("generate", "--variant", variant, "--ids", "1,403,407", "--max-tokens", "8", "--ignore-eos")
        call("score", "--variant", "nf4", "--ids", "1,403,407,261")
        call("compare", "--mode", "both", "--ids", "1,403,407", "--max-tokens", "8")
        run_experiments(call, lambda *arguments, input=None: call(*arguments, port="admin", input=input))
        for _ in range(200):  # what the page says of experiments may be a second old
            page = get(f"http://{ready['http']}/metrics")
            if "vernier_exp_rollbacks_total{" in page:
                return page
            time.sleep(0.05)
        raise AssertionError("the page does not show the rollback")
    finally:
        daemon.terminate()
        daemon.communicate()
        folder.cleanup()


def spread(page, end):
    """The page as OpenMetrics with timestamps: STEPS steps, the last at `end` (Unix seconds)."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    families = {}
    for line in page.splitlines():
        if line.startswith("#") or not line:
            continue
        series, value = line.rsplit(" ", 1)
        name = re.match(r"[^{ ]+", series).group(0)
        family = name if name in types else re.sub(r"_(bucket|sum|count)$", "", name)
        kind = types[family]
        if "{" not in series:
            series += "{}"
        series = series[:-1] + ("," if not series.endswith("{}") else "") + 'namespace="vernier",pod="vernier-0",job="vernier"}'
        families.setdefault((family, kind), []).append((series, float(value), kind in ("counter", "histogram")))
    out = []
    for (family, kind), rows in families.items():
        base = family[:-6] if kind == "counter" and family.endswith("_total") else family
        out.append(f"# TYPE {base} {kind}")
        for series, value, rises in rows:
            for step in range(STEPS + 1):
                at = end - (STEPS - step) * STEP_SECONDS
                out.append(f"{series} {value * step / STEPS if rises else value!r} {at}")
    return "\n".join(out) + "\n# EOF\n"


def expressions():
    for path in sorted((MONITORING / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                expr = target["expr"].replace("$__rate_interval", "5m").replace("$model", ".*").replace("$namespace", ".*").replace("$experiment", ".*")
                yield f"{path.stem}: {panel['title']}: {target['legendFormat']}", expr


@unittest.skipUnless(shutil.which("promtool"), "no promtool (Debian package prometheus)")
class RulesTest(unittest.TestCase):
    def test_every_alert_fires_and_falls_silent(self):
        done = subprocess.run(["promtool", "test", "rules", "rules_test.yaml"], cwd=MONITORING, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_alert_has_both_cases(self):
        alerts = re.findall(r"- alert: (\w+)", (MONITORING / "rules.yaml").read_text())
        tests = (MONITORING / "rules_test.yaml").read_text()
        for alert in alerts:
            with self.subTest(alert):
                self.assertRegex(tests, rf"alertname: {alert}\n\s+exp_alerts:\n\s+- exp_labels")
                self.assertRegex(tests, rf"alertname: {alert}, exp_alerts: \[\]")
        self.assertGreaterEqual(len(alerts), 19)

    def test_files_are_as_generated(self):
        subprocess.run([sys.executable, MONITORING / "generate.py", "--check"], check=True)


@unittest.skipUnless(shutil.which("prometheus"), "no prometheus (Debian package)")
class DashboardsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.page = scrape_a_daemon()
        folder = Path(cls.folder.name)
        cls.end = int(time.time()) - 3 * 3600  # older than what the running head would hold
        (folder / "scrape.om").write_text(spread(cls.page, cls.end))
        subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "scrape.om", folder / "data"], check=True,
                       capture_output=True)
        (folder / "prometheus.yaml").write_text(f"rule_files: [{MONITORING / 'rules.yaml'}]\n")
        port = free_port()
        cls.server = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1d"], stderr=subprocess.DEVNULL)
        cls.url = f"http://127.0.0.1:{port}"
        for _ in range(200):
            try:
                if get(f"{cls.url}/-/ready"):
                    break
            except OSError:
                time.sleep(0.05)

    @classmethod
    def tearDownClass(cls):
        cls.server.terminate()
        cls.server.wait()
        cls.folder.cleanup()

    def query(self, expr):
        answer = json.loads(get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expr, 'time': self.end})}"))
        self.assertEqual(answer["status"], "success")
        return answer["data"]["result"]

    def test_every_panel_finds_data(self):
        queries = list(expressions())
        for name, expr in queries:
            with self.subTest(name):
                self.assertTrue(self.query(expr), expr)
        self.assertGreaterEqual(len(queries), 70)

    def test_a_query_of_a_metric_that_is_none_finds_nothing(self):
        self.assertEqual(self.query("vernier_no_such_metric"), [])

    def test_the_rules_name_metrics_that_exist(self):
        text = (MONITORING / "rules.yaml").read_text()
        for name in sorted(set(re.findall(r"\b(?:vernier|process)_[a-z_]+\b", text))):
            with self.subTest(name):
                self.assertTrue(self.query(name), name)

    def test_the_endpoint_pickers_metrics_are_one_series_each(self):
        names = re.findall(r"Spec: (vernier_\w+)", (MONITORING / "epp-values.yaml").read_text())
        self.assertEqual(len(names), 4)
        for name in names:
            self.assertEqual(len(re.findall(rf"^{name}[ {{]", self.page, re.M)), 1, name)

    def test_the_page_is_as_promtool_wants_it(self):
        done = subprocess.run(["promtool", "check", "metrics"], input=self.page, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    sys.argv[:] = sys.argv[:1] + ["-v"]
    unittest.main()
