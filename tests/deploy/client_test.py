#!/usr/bin/env python3
"""The Python client against real daemons: its calls, its errors, and rolling restarts behind a proxy without a failed call.

The proxy is nginx as a gateway would be: HTTP/2 to both sides, two daemons behind it. Everything is on loopback.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
from concurrent import futures
from pathlib import Path

import yaml

try:
    import grpc
    import grpc_tools  # noqa: F401
except ImportError:
    grpc = None

ROOT = Path(__file__).resolve().parents[2]
VERNIERD = Path(os.environ.get("VERNIER_BIN", ROOT / "build/release/bin")) / "vernierd"
KEY, KEY_SHA256 = "open-sesame", "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7"
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
RESTARTS = int(os.environ.get("VERNIER_RESTARTS", "4"))

if grpc is not None:
    sys.path.insert(0, str(ROOT / "clients/python"))
    import generate
    generate.generate()
    import vernier_client
    from vernier_client.proto.vernier.v1 import common_pb2, experiments_pb2, experiments_pb2_grpc, inference_pb2, inference_pb2_grpc


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Daemon:
    """vernierd with the small model on a port that stays its own over restarts."""

    def __init__(self, keys=""):
        self.port = free_port()
        self.config = tempfile.NamedTemporaryFile("w", suffix=".yaml")
        self.config.write(f"model: {{path: {ROOT}/tests/data/stories260K/hf, name: stories}}\nvariants: [{{name: fp16}}, {{name: nf4}}]\n"
                          f"listen: 127.0.0.1:{self.port}\nhttp: 127.0.0.1:0\nthreads: 1\nengine: {{kv_bytes: 8000000}}\n"
                          f"behind_proxy: true\n{keys}")
        self.config.flush()
        self.start()

    def start(self):
        self.process = subprocess.Popen([VERNIERD, "--config", self.config.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        words = self.process.stdout.readline().split()
        if words[:1] != ["ready"]:
            raise AssertionError(f"vernierd ended with {self.process.wait()}")
        self.http = next(word[5:] for word in words if word.startswith("http="))

    def calls(self):
        """How many calls it has had since its start."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=30) as page:
            return sum(float(line.split()[-1]) for line in page.read().decode().splitlines()
                       if re.match(r'vernier_grpc_calls_started_total\{method="Generate', line))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        return code


@unittest.skipIf(grpc is None, "no Python packages grpcio and grpcio-tools")
class ClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(f"keys: [{{name: all, sha256: {KEY_SHA256}, services: [Inference, Evaluation, Models]}}]\n")
        cls.client = vernier_client.Client(f"127.0.0.1:{cls.daemon.port}", api_key=KEY, timeout_seconds=60)
        cls.greedy = common_pb2.SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.daemon.stop()

    def test_a_stream_says_what_the_whole_answer_says(self):
        whole = self.client.generate([1, 403, 407], variant="nf4", sampling=self.greedy)
        self.assertEqual((len(whole.token_ids), whole.finish_reason, whole.served_by.variant), (8, "LENGTH", "nf4"))
        ids = [i for event in self.client.stream([1, 403, 407], variant="nf4", sampling=self.greedy) for i in event.delta.token_ids]
        self.assertEqual(ids, whole.token_ids)

    def test_models_and_compare(self):
        self.assertEqual([v.name for v in self.client.models()[0].variants], ["fp16", "nf4"])
        reply = self.client.compare([1, 403, 407], sampling=self.greedy)
        self.assertEqual([r.served_by.variant for r in reply.results], ["fp16", "nf4"])

    def test_an_error_names_field_value_and_limit(self):
        with self.assertRaises(vernier_client.VernierError) as caught:
            self.client.generate([1], sampling=common_pb2.SamplingParams(top_p=1.5))
        self.assertEqual((caught.exception.code, caught.exception.field), (grpc.StatusCode.INVALID_ARGUMENT, "sampling.top_p"))
        self.assertTrue(caught.exception.limit)

    def test_a_wrong_key_is_told(self):
        with vernier_client.Client(f"127.0.0.1:{self.daemon.port}", api_key="wrong") as client:
            with self.assertRaises(vernier_client.VernierError) as caught:
                client.models()
        self.assertEqual(caught.exception.code, grpc.StatusCode.UNAUTHENTICATED)

    def test_what_is_no_header_is_refused_and_not_repeated(self):
        for bad in ("secret\n", "secr\xe9t", " secret"):
            for wrong in ({"api_key": bad}, {"tenant": bad}):
                with self.assertRaises(ValueError) as caught:
                    vernier_client.Client(f"127.0.0.1:{self.daemon.port}", **wrong)
                self.assertIn(next(iter(wrong)), str(caught.exception))
                self.assertNotIn("secr", str(caught.exception))
            with self.assertRaises(ValueError):
                self.client.generate([1], routing_key=bad)

    def test_its_service_config_is_the_one_that_is_shipped(self):
        shipped = yaml.safe_load((ROOT / "deploy/kustomize/base/client-config.yaml").read_text())["data"]
        self.assertEqual(vernier_client.client.SERVICE_CONFIG, yaml.safe_load(shipped["service-config.json"]))
        self.assertEqual(vernier_client.client.DIRECT_SERVICE_CONFIG, yaml.safe_load(shipped["service-config-direct.json"]))


@unittest.skipIf(grpc is None, "no Python packages grpcio and grpcio-tools")
class ExperimentsTest(unittest.TestCase):
    """Feedback and experiments against a service made here, which keeps what it was sent."""

    def setUp(self):
        sent = self.sent = []
        self.feedback_reply = inference_pb2.FeedbackResponse(accepted=1)
        test = self

        class Inference(inference_pb2_grpc.InferenceServicer):
            def Generate(self, request, context):
                sent.append(dict(context.invocation_metadata()).get("x-vernier-routing-key"))
                return inference_pb2.GenerateResponse(completions=[inference_pb2.Completion()])

            def Feedback(self, events, context):
                sent.extend(events)
                return test.feedback_reply

        class Experiments(experiments_pb2_grpc.ExperimentsServicer):
            def Put(self, request, context):
                sent.append(request)
                return request.experiment

            def Get(self, request, context):
                sent.append(request)
                return experiments_pb2.ExperimentReport(valid=True)

            def List(self, request, context):
                return experiments_pb2.ListExperimentsResponse(experiments=[experiments_pb2.Experiment(id="canary")])

            def Control(self, request, context):
                sent.append(request)
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it is a draft")

            def ExplainAssignment(self, request, context):
                sent.append(request)
                return experiments_pb2.ExplainAssignmentResponse(variant="nf4")

        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        inference_pb2_grpc.add_InferenceServicer_to_server(Inference(), self.server)
        experiments_pb2_grpc.add_ExperimentsServicer_to_server(Experiments(), self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.client = vernier_client.Client(f"127.0.0.1:{port}", timeout_seconds=60)

    def tearDown(self):
        self.client.close()
        self.server.stop(None).wait()

    def test_a_value_is_sent_by_its_type(self):
        over = vernier_client.Preference(over="02cd")
        for value, field in ((True, "flag"), (0, "number"), (4.5, "number"), ("good", "text"), (over, "preference")):
            self.client.feedback("01ab", "m", value, source="web", idempotency_key="k")
            event = self.sent.pop()
            self.assertEqual((event.WhichOneof("value"), getattr(event, field)), (field, value))
            self.assertEqual((event.exposure_id, event.metric, event.source, event.idempotency_key), ("01ab", "m", "web", "k"))

    def test_a_refusal_of_one_raises_and_of_many_is_told(self):
        failure = inference_pb2.FeedbackResponse.Failure(index=0, reason="m is not declared")
        self.feedback_reply = inference_pb2.FeedbackResponse(refused=1, failures=[failure])
        with self.assertRaisesRegex(ValueError, "m is not declared"):
            self.client.feedback("01ab", "m", True)
        self.assertEqual(self.client.send_feedback([inference_pb2.FeedbackEvent(metric="m")] * 2).refused, 1)
        self.assertEqual(len(self.sent), 3)

    def test_the_routing_key_is_sent(self):
        self.client.generate([1], routing_key="ada")
        self.client.generate([1])
        self.assertEqual(self.sent, ["ada", None])

    def test_experiments_are_put_listed_read_and_explained(self):
        self.assertEqual(self.client.put_experiment(experiments_pb2.Experiment(id="canary", version=3)).version, 3)
        self.assertEqual([e.id for e in self.client.experiments()], ["canary"])
        self.assertTrue(self.client.experiment_report("canary", rebuild=True).valid)
        self.assertEqual((self.sent[-1].id, self.sent[-1].rebuild), ("canary", True))
        self.assertEqual(self.client.explain_assignment("ada", tenant="acme", prompt_tokens=9).variant, "nf4")
        self.assertEqual((self.sent[-1].unit, self.sent[-1].tenant, self.sent[-1].prompt_tokens), ("ada", "acme", 9))

    def test_an_action_and_its_refusal(self):
        ramp = experiments_pb2.ControlExperimentRequest.RAMP
        with self.assertRaises(vernier_client.VernierError) as caught:
            self.client.control_experiment("canary", ramp, step=0, force=True, reason="a test")
        self.assertEqual(caught.exception.code, grpc.StatusCode.FAILED_PRECONDITION)
        sent = self.sent[-1]
        self.assertEqual((sent.action, sent.HasField("step"), sent.force, sent.reason), (ramp, True, True, "a test"))


class Nginx:
    """A proxy in front of `ports`; its files in a folder that goes with it."""

    def __init__(self, ports):
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen([NGINX, "-c", self.configure(ports)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
        raise AssertionError("nginx does not listen")

    def use(self, ports):
        """Sends new calls to `ports` alone, as a gateway does when the endpoints of a service change."""
        self.configure(ports)
        self.process.send_signal(signal.SIGHUP)

    def configure(self, ports):
        servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        config = Path(self.folder.name) / "nginx.conf"
        config.write_text(f"""
daemon off; worker_processes 1; {"user root;" if os.getuid() == 0 else ""} pid {self.folder.name}/pid; error_log {self.folder.name}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {self.folder.name}/body; proxy_temp_path {self.folder.name}/proxy; fastcgi_temp_path {self.folder.name}/f;
  uwsgi_temp_path {self.folder.name}/u; scgi_temp_path {self.folder.name}/s;
  upstream vernier {{ {servers} keepalive 8; }}
  server {{
    listen 127.0.0.1:{self.port} http2;
    location / {{
      grpc_pass grpc://vernier;
      grpc_read_timeout 120s;
      grpc_next_upstream error timeout http_502 http_503 non_idempotent;
    }}
  }}
}}
""")
        return str(config)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


@unittest.skipIf(grpc is None or NGINX is None, "no nginx, or no Python packages grpcio and grpcio-tools")
class ProxyTest(unittest.TestCase):
    """What gRPC 1.51.1 is weak against must not get through a proxy."""

    MOST_GROWTH_BYTES = 16 << 20
    FLOOD_BYTES = 32 << 20

    def test_f21_an_endless_header_block_does_not_reach_the_daemon(self):
        daemon = Daemon()
        proxy = Nginx([daemon.port])
        try:
            before = self.anonymous_bytes(daemon)
            self.flood(proxy.port)
            self.assertLess(self.anonymous_bytes(daemon) - before, self.MOST_GROWTH_BYTES)
            with vernier_client.Client(f"127.0.0.1:{proxy.port}", timeout_seconds=60) as client:
                self.assertEqual(len(client.models()), 1)
        finally:
            proxy.close()
            daemon.stop()

    def flood(self, port):
        """HEADERS, then CONTINUATION (RFC 9113, 6.10) until the peer closes or has taken FLOOD_BYTES."""
        def frame(kind, stream, payload):
            return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + payload
        literal = b"\x00\x01x\x7f\x81\x7c" + b"y" * 16000  # not indexed: "x", 16000 bytes
        sent = 0
        with socket.create_connection(("127.0.0.1", port), timeout=60) as attacker:
            try:
                attacker.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, b"") + frame(1, 1, b"\x83\x86\x84"))
                while sent < self.FLOOD_BYTES:
                    attacker.sendall(frame(9, 1, literal))
                    sent += len(literal)
            except OSError:
                pass

    @staticmethod
    def anonymous_bytes(daemon):
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) * 1024


@unittest.skipIf(grpc is None, "no Python packages grpcio and grpcio-tools")
class RolloutTest(unittest.TestCase):
    def setUp(self):
        self.daemons = [Daemon(), Daemon()]
        self.failures, self.calls = [], [0, 0, 0]

    def tearDown(self):
        for daemon in self.daemons:
            daemon.stop()

    def load(self, worker, stopping, target, direct):
        """Whole answers and streams in turn until `stopping`, or a call fails."""
        sampling = common_pb2.SamplingParams(max_tokens=24, ignore_eos=True)
        with vernier_client.Client(target, direct=direct, timeout_seconds=60) as client:
            while not stopping.is_set() and not self.failures:
                try:
                    if self.calls[worker] % 2 == 0:
                        client.generate([1, 403], sampling=sampling)
                    elif not list(client.stream([1, 403], sampling=sampling))[-1].HasField("finish"):
                        self.failures.append("a stream without an end")
                except vernier_client.VernierError as error:
                    self.failures.append(repr(error))
                self.calls[worker] += 1

    def roll(self, target, direct, use=lambda ports: None):
        """Restarts the daemons in turn under load. `use` takes the ports that new calls may go to: what preStop waits for."""
        stopping = threading.Event()
        workers = [threading.Thread(target=self.load, args=(i, stopping, target, direct)) for i in range(len(self.calls))]
        for worker in workers:
            worker.start()
        try:
            for restart in range(RESTARTS):
                daemon, other = self.daemons[restart % 2], self.daemons[1 - restart % 2]
                use([other.port])
                self.wait_for_quiet(daemon, 0 if direct else 12)
                self.assertEqual(daemon.stop(), 0)
                daemon.start()
                use([d.port for d in self.daemons])
                # The next may go when clients have found this one, which minReadySeconds gives them time for.
                while daemon.calls() < 10 and not self.failures:
                    stopping.wait(0.05)
        finally:
            stopping.set()
            for worker in workers:
                worker.join()
        self.assertEqual(self.failures[:1], [])
        print(f"{RESTARTS} restarts, {sum(self.calls)} calls, 0 failures", file=sys.stderr)

    @staticmethod
    def wait_for_quiet(daemon, looks):
        """Until `looks` looks in a row, 50 ms apart, see no new call. What they see is up to 50 ms old."""
        same, before = 0, -1
        while same < looks:
            now = daemon.calls()
            same, before = (same + 1 if now == before else 0), now
            time.sleep(0.05)

    @unittest.skipIf(NGINX is None, "no nginx")
    def test_r4_rolling_restarts_behind_a_proxy_fail_no_call(self):
        proxy = Nginx([d.port for d in self.daemons])
        try:
            self.roll(f"127.0.0.1:{proxy.port}", direct=False, use=proxy.use)
        finally:
            proxy.close()

    def test_r4_rolling_restarts_fail_no_call_of_a_client_that_balances(self):
        self.roll("ipv4:" + ",".join(f"127.0.0.1:{d.port}" for d in self.daemons), direct=True)


if __name__ == "__main__":
    sys.argv[:] = sys.argv[:1] + ["-v"]
    unittest.main()
