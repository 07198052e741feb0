#!/usr/bin/env python3
"""Long cases at the transport, each against daemons that tests/soak.sh has started or that it starts itself: prints its figure.

Usage: soak_transport.py CASE ARGUMENT...; ends with 1 where the case does not hold. Needs Python's grpcio; `rotate` needs openssl.
"""
import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # of handshakes that are to fail
import grpc  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients/python"))
import generate  # noqa: E402
generate.generate()
from vernier_client.proto.vernier.v1 import common_pb2, inference_pb2  # noqa: E402

GENERATE, STREAM = "/vernier.v1.Inference/Generate", "/vernier.v1.Inference/GenerateStream"
LIST = "/vernier.v1.Models/ListModels"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
READINESS = b"\x0a\x09readiness"
SERVING = b"\x08\x01"


def generate_request(max_tokens, prompt_tokens=1, **sampling):
    ids = common_pb2.TokenIds(ids=[i % 1000 + 1 for i in range(prompt_tokens)])
    return inference_pb2.GenerateRequest(token_ids=ids, sampling=common_pb2.SamplingParams(max_tokens=max_tokens, ignore_eos=True, **sampling))


def request(max_tokens, prompt_tokens=1, **sampling):
    return generate_request(max_tokens, prompt_tokens, **sampling).SerializeToString()


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def percentile(values, share):
    values = sorted(values) or [float("nan")]
    return values[min(len(values) - 1, int(len(values) * share))]


def rss_mib(pid):
    return int(re.search(r"RssAnon:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def channel(address, credentials=None, *more):
    options = [*more, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.max_send_message_length", -1)]
    return grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)


def code_of(call):
    """The call's status; what came with one that is no OK goes to standard error."""
    try:
        call()
        return grpc.StatusCode.OK
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        return error.code()


@contextlib.contextmanager
def beside(work):
    """Runs `work(stopping)` on a thread of its own meanwhile."""
    stopping = threading.Event()
    thread = threading.Thread(target=work, args=(stopping,))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def gaps_of_a_stream(address, message, gaps, seconds=600):
    """The times between the messages of one stream, which is left after so long."""
    with channel(address) as own:
        call = own.unary_stream(STREAM)(message, timeout=600)
        first = last = None
        for _ in call:
            now = time.monotonic()
            if last is None:
                first = now
            else:
                gaps.append(now - last)
            last = now
            if now - first >= seconds:
                call.cancel()
                break


def rapid_reset(address, pid, streams=1000000):
    """F22: one connection opens streams and resets each at once; health calls and a stream of tokens beside it."""
    message = request(8)
    alone, during, ends, health = [], [], [], []
    gaps_of_a_stream(address, request(200), alone)

    def look(stopping):
        with channel(address) as own:
            while not stopping.is_set():
                began = time.monotonic()
                own.unary_unary(CHECK)(READINESS, timeout=30)
                health.append(time.monotonic() - began)
                time.sleep(0.01)

    def read(stopping):
        while not stopping.is_set():
            ends.append(code_of(lambda: gaps_of_a_stream(address, request(200), during)))

    headers = b"".join(b"\x00" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", STREAM.encode()), (b":authority", b"x"), (b"te", b"trailers"),
        (b"content-type", b"application/grpc")])
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    before, began, sent, connections = rss_mib(pid), time.monotonic(), 0, 0
    with beside(look), beside(read):
        while sent < streams:
            connections += 1
            # From another address: its calls are not those of the others, whom max_peer_calls would refuse with it.
            with socket.create_connection(tuple(address.rsplit(":", 1)), timeout=60, source_address=("127.0.0.2", 0)) as attacker:
                threading.Thread(target=drain, args=(attacker,), daemon=True).start()
                with contextlib.suppress(OSError):  # the server may end it: the next connection goes on
                    attacker.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
                    for first in range(0, streams - sent, 100):
                        attacker.sendall(b"".join(
                            frame(1, 4, s, headers) + frame(0, 1, s, body) + frame(3, 0, s, b"\x00\x00\x00\x08")
                            for s in range(2 * first + 1, 2 * first + 201, 2)))
                        sent += 100
        took = time.monotonic() - began
    print(f"{sent} streams reset in {took:.1f} s over {connections} connections: health call p99 {1e3 * percentile(health, 0.99):.1f} ms, "
          f"most {1e3 * max(health):.1f} ms, of {len(health)}; another's streams end {told(ends)}, gap p99 "
          f"{1e3 * percentile(alone, 0.99):.1f} ms alone, {1e3 * percentile(during, 0.99):.1f} ms beside it; "
          f"RssAnon {rss_mib(pid) - before:+.0f} MiB")
    return percentile(health, 0.99) <= 0.05 and set(ends) == {grpc.StatusCode.OK}


def drain(peer):
    with contextlib.suppress(OSError):
        while peer.recv(1 << 16):
            pass


def bomb(address, pid):
    """F24: messages of 256 MiB of zeros, packed by gzip and deflate, four at once."""
    zeros = bytes(256 << 20)
    with channel(address) as own:
        for _ in range(50):
            own.unary_unary(LIST)(b"", timeout=30)
    before, most, codes = rss_mib(pid), [0], []

    def watch(stopping):
        while not stopping.wait(0.002):
            most[0] = max(most[0], rss_mib(pid))

    def send(packing):
        with channel(address) as own:
            codes.append(code_of(lambda: own.unary_unary(GENERATE)(zeros, timeout=120, compression=packing)))

    with beside(watch):
        for _ in range(2):
            threads = [threading.Thread(target=send, args=(packing,)) for packing in 2 * [grpc.Compression.Gzip, grpc.Compression.Deflate]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    print(f"{len(codes)} messages of 256 MiB, gzip and deflate, 4 at once: {told(codes)}; RssAnon at most {most[0] - before:+.1f} MiB")
    return set(codes) == {grpc.StatusCode.UNIMPLEMENTED} and most[0] - before <= 2


def slow_reader(address, http, pid, readers=4):
    """F27: streams whose clients read one message and then none, beside one that is read."""
    def page():
        with urllib.request.urlopen(f"http://{http}/metrics", timeout=10) as reply:
            return reply.read().decode()

    def ended(reason):
        found = re.findall(rf'^vernier_requests_total{{.*finished_reason="{reason}".*}} (\S+)$', page(), re.M)
        return sum(map(float, found))

    def gaps_beside(seconds):
        gaps = []
        gaps_of_a_stream(address, request(4000), gaps, seconds)
        return 1e3 * percentile(gaps, 0.5), 1e3 * percentile(gaps, 0.99)

    gaps_beside(3)
    # Beside as many that are read: each row of a step has its price, whoever reads it.
    message = request(4000, logprobs=20)
    with beside(lambda stopping: read_until(address, readers, message, stopping)):
        time.sleep(1)
        alone = gaps_beside(15)
    before, counted = rss_mib(pid), ended("slow_consumer")
    with contextlib.ExitStack() as stack:
        # A window of 64 KiB that stays so: else the client's library takes megabytes for a reader who may come.
        small = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65535))
        calls = [stack.enter_context(channel(address, None, *small)).unary_stream(STREAM)(message, timeout=600) for _ in range(readers)]
        for call in calls:
            next(call)
        began, most, left, watched = time.monotonic(), 0, None, []
        with beside(lambda stopping: watched.extend(gaps_beside(15))):
            while time.monotonic() - began < 60 and left is None:
                most = max(most, rss_mib(pid))
                left = time.monotonic() - began if ended("slow_consumer") - counted == readers else None
                time.sleep(0.2)
        codes = [code_of(lambda call=call: list(call)) for call in calls]
    print(f"{readers} streams that nobody reads, 20 log-probabilities a token: {told(codes)}, counted as slow_consumer after "
          f"{'never' if left is None else f'{left:.1f} s'}, RssAnon at most {most - before:+.1f} MiB; another stream's gaps p50 and p99 "
          f"{watched[0]:.1f} and {watched[1]:.1f} ms beside them, {alone[0]:.1f} and {alone[1]:.1f} ms beside as many that are read")
    return set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED} and left is not None and most - before <= 8


def read_until(address, readers, message, stopping):
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(channel(address)).unary_stream(STREAM)(message, timeout=600) for _ in range(readers)]
        while not stopping.is_set():
            for call in calls:
                next(call)
        for call in calls:
            call.cancel()


def told(codes):
    return ", ".join(f"{codes.count(code)} {code.name}" for code in sorted(set(codes), key=lambda code: code.value[0]))


class Authority:
    """A certificate authority, and certificates for localhost and 127.0.0.1 that it signs; openssl's command line."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
        self.pem = (folder / f"{name}.crt").read_bytes()

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def issue(self, certificate, key):
        (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
                     "-keyout", "new.key", "-out", "new.csr")
        self.openssl("x509", "-req", "-in", "new.csr", "-CA", f"{self.name}.crt", "-CAkey", f"{self.name}.key", "-CAcreateserial",
                     "-days", "2", "-extfile", "names", "-out", "new.crt")
        (self.folder / "new.key").replace(key)
        (self.folder / "new.crt").replace(certificate)


def rotate(daemon, model, rotations=6):
    """F33: new certificates of new authorities under load, with clients that keep their connection and clients that always make one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authorities = [Authority(folder, f"authority{i}") for i in range(rotations + 1)]
        everybody = grpc.ssl_channel_credentials(b"".join(a.pem for a in authorities))
        certificate, key = folder / "tls.crt", folder / "tls.key"
        authorities[0].issue(certificate, key)
        (folder / "config.yaml").write_text(
            f"model: {{path: {model}}}\nvariants: [{{name: fp16}}]\nthreads: 1\nlisten: 127.0.0.1:0\nhttp: 127.0.0.1:0\n"
            f"tls: {{certificate: {certificate}, key: {key}}}\n")
        process, address = start(daemon, "--config", folder / "config.yaml")
        calls, failures, delays, message = [0, 0], [], [], request(4)

        def keep(stopping):
            with channel(address, everybody) as own:
                while not stopping.is_set():
                    failures.extend(failed(lambda: own.unary_unary(GENERATE)(message, timeout=60)))
                    calls[0] += 1

        def renew(stopping):
            while not stopping.is_set():
                with channel(address, everybody) as own:
                    failures.extend(failed(lambda: own.unary_unary(GENERATE)(message, timeout=60)))
                    calls[1] += 1

        with beside(keep), beside(keep), beside(renew), beside(renew):
            for authority in authorities[1:]:
                authority.issue(certificate, key)
                began = time.monotonic()
                alone = grpc.ssl_channel_credentials(authority.pem)
                while time.monotonic() - began < 60:
                    with channel(address, alone) as own:
                        if code_of(lambda: own.unary_unary(LIST)(b"", timeout=60)) == grpc.StatusCode.OK:
                            delays.append(time.monotonic() - began)
                            break
                    time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        ended = process.wait(timeout=120)
    print(f"{len(delays)} of {rotations} new certificates in use, at the latest after {max(delays, default=60):.1f} s; {calls[0]} calls over "
          f"connections that were kept, {calls[1]} over new ones, {len(failures)} failures{': ' + told(failures) if failures else ''}")
    return len(delays) == rotations and not failures and ended == 0


def failed(call):
    code = code_of(call)
    return [] if code == grpc.StatusCode.OK else [code]


def start(daemon, *arguments):
    """vernierd, ready, and its address."""
    process = subprocess.Popen([daemon, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    words = process.stdout.readline().split()
    if words[:1] != ["ready"]:
        raise SystemExit(f"vernierd ended with {process.wait()}")
    return process, next(word[5:] for word in words if word.startswith("grpc="))


class Ending:
    """A daemon under streams, from its SIGTERM to its end."""

    def __init__(self, daemon, model, drain_seconds, clients, tokens, terms=1):
        self.codes, self.late, self.off = [], [], None
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
            config.write(f"model: {{path: {model}}}\nvariants: [{{name: fp16}}]\nthreads: 1\nlisten: 127.0.0.1:0\nhttp: 127.0.0.1:0\n"
                         f"drain_seconds: {drain_seconds}\nmax_peer_calls: 0\n")
            config.flush()
            process, self.address = start(daemon, "--config", config.name)
        going = threading.Semaphore(0)
        watching = threading.Event()
        threads = [threading.Thread(target=self.stream, args=(request(tokens), going)) for _ in range(clients)]
        threads.append(threading.Thread(target=self.watch, args=(watching,)))
        for thread in threads:
            thread.start()
        watching.wait(30)
        for _ in range(clients):
            going.acquire()
        self.began = time.monotonic()
        for _ in range(terms):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2 if terms > 1 else 0)
        with channel(self.address) as own:
            time.sleep(0.1)
            self.late.append(code_of(lambda: own.unary_unary(GENERATE)(request(1), timeout=30)))
        self.exit_code = process.wait(timeout=300)
        self.seconds = time.monotonic() - self.began
        for thread in threads:
            thread.join()

    def stream(self, message, going):
        with channel(self.address) as own:
            first = True
            try:
                for _ in own.unary_stream(STREAM)(message, timeout=600):
                    if first:
                        going.release()
                    first = False
                self.codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                self.codes.append(error.code())

    def watch(self, watching):
        with channel(self.address) as own, contextlib.suppress(grpc.RpcError):
            for state in own.unary_stream(WATCH)(READINESS, timeout=600):
                if state == SERVING:
                    watching.set()
                elif self.off is None:
                    self.off = time.monotonic()

    def figure(self):
        return (f"readiness off after {1e3 * (self.off - self.began):.0f} ms, streams {told(self.codes)}, a late call {told(self.late)}, "
                f"exit {self.exit_code} after {self.seconds:.1f} s")


def stop(daemon, model, slow_model):
    """F68: SIGTERM under load, twice, with streams longer than the grace, and while loading."""
    ok, gone = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
    load = Ending(daemon, model, drain_seconds=90, clients=48, tokens=200)
    twice = Ending(daemon, slow_model, drain_seconds=90, clients=4, tokens=1500, terms=2)
    longer = Ending(daemon, slow_model, drain_seconds=2, clients=4, tokens=1500)
    process = subprocess.Popen([daemon, "--model", slow_model, "--variants", "fp16,int8,nf4", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "loading" not in process.stderr.readline():
        pass
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    ready = process.stdout.read()
    loading_code, loading_seconds = process.wait(timeout=120), time.monotonic() - began
    print(f"48 streams: {load.figure()}; SIGTERM twice: {twice.figure()}; grace of 2 s: {longer.figure()}; "
          f"while loading: exit {loading_code} after {loading_seconds:.2f} s")
    runs = (load, twice, longer)
    return (all(run.exit_code == 0 and run.off - run.began <= 0.1 and run.late == [gone] for run in runs) and set(load.codes) == {ok} and
            set(twice.codes) == {gone} and twice.seconds < 10 and set(longer.codes) == {gone} and longer.seconds < 10 and
            loading_code == 0 and not ready)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["rapid_reset", "bomb", "rotate", "slow_reader", "stop"])
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    sys.exit(0 if globals()[given.case](*given.arguments) else 1)


if __name__ == "__main__":
    main()
