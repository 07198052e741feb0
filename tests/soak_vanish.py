#!/usr/bin/env python3
"""F28: clients that vanish in every phase of a request, and how soon the server has let go of it: prints its figure.

Usage: soak_vanish.py VERNIERD MODEL [PHASE...]; ends with 1 where something is kept, counted twice or freed too late. A client
reaches the server through a relay of this script, which either resets the server's side (as a killed client's kernel does) or stops
carrying anything in both directions and keeps its sockets (a pulled cable: nobody hears of an end). Needs Python's grpcio.
"""
import argparse
import contextlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter

from soak_transport import STREAM, channel, generate_request, request
from vernier_client.proto.vernier.v1 import evaluation_pb2

COMPARE = "/vernier.v1.Evaluation/Compare"
# A step of SmolLM2 on one thread, 50 ms, and a tick of the gauges; keepalive: 30 s without a sign of life and 10 s for the answer.
RESET_SECONDS, CABLE_SECONDS = 1.0, 41.0
LONG = 4000  # tokens, which take longer than either
PHASES = ("queued", "prefill", "decode", "compare")


class Relay:
    """Carries one connection to `address`, until it is told not to."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.server = socket.create_connection((host, int(port)))
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % listener.getsockname()[1]
        self.carrying = True
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        self.client, _ = listener.accept()
        for source, target in ((self.client, self.server), (self.server, self.client)):
            threading.Thread(target=self.carry, args=(source, target), daemon=True).start()

    def carry(self, source, target):
        with contextlib.suppress(OSError):
            while self.carrying and (data := source.recv(1 << 16)) and self.carrying:
                target.sendall(data)

    def reset(self):
        self.carrying = False
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.shutdown(socket.SHUT_RD)  # wakes the thread that reads it, so that close() is the last of it
        self.server.close()

    def pull(self):
        self.carrying = False

    def close(self):
        for end in (self.server, self.client):
            with contextlib.suppress(OSError):
                end.close()


class Daemon:
    def __init__(self, path, model):
        config = tempfile.NamedTemporaryFile("w", suffix=".yaml")
        config.write(f"model: {{path: '{model}'}}\nvariants: [{{name: fp16}}, {{name: nf4}}]\nthreads: 1\nlisten: 127.0.0.1:0\n"
                     "http: 127.0.0.1:0\nengine: {max_sequences: 3}\n")
        config.flush()
        self.process = subprocess.Popen([path, "--config", config.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ready = dict(word.split("=", 1) for word in self.process.stdout.readline().split()[1:])
        self.address, self.http = ready["grpc"], ready["http"]

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as page:
            lines = [line.rsplit(" ", 1) for line in page.read().decode().splitlines() if not line.startswith("#")]
        out = Counter()
        for name, value in lines:
            if name.startswith(("vernier_requests_running", "vernier_requests_waiting")):
                out["alive"] += float(value)
            elif name.startswith("vernier_kv_cache_blocks") and 'state="used"' in name:
                out["blocks"] += float(value)
            elif name.startswith("vernier_requests_total"):
                out["ended"] += float(value)
                out[re.search('finished_reason="([a-z_]*)"', name)[1]] += float(value)
        return out

    def until(self, holds, seconds):
        """Seconds until `holds` of the metrics; None where that is never."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if holds(self.metrics()):
                return time.monotonic() - began
            time.sleep(0.01)
        return None


def start(phase, own):
    """Starts the call of `phase`, and returns once it is there."""
    if phase == "compare":
        call = own.unary_unary(COMPARE).future(evaluation_pb2.CompareRequest(base=generate_request(LONG, 8)).SerializeToString(), timeout=600)
        time.sleep(2)  # some tokens of one variant or of both
        return call
    call = own.unary_stream(STREAM)(request(LONG, 3000 if phase == "prefill" else 8), timeout=600)
    if phase == "decode":
        next(call)
    else:
        time.sleep(0.5)
    return call


def vanish(daemon, phase, how):
    """Seconds until all is as it was, and what was counted meanwhile."""
    with contextlib.ExitStack() as stack:
        blockers = []
        if phase == "queued":  # all places are taken
            beside = stack.enter_context(channel(daemon.address))
            blockers = [beside.unary_stream(STREAM)(request(LONG, 8), timeout=600) for _ in range(3)]
            for blocker in blockers:
                next(blocker)
        time.sleep(0.2)
        before = daemon.metrics()
        relay = Relay(daemon.address)
        stack.callback(relay.close)
        own = stack.enter_context(channel(relay.address))
        call = start(phase, own)
        assert daemon.metrics()["alive"] > before["alive"], phase
        getattr(relay, how)()
        limit = RESET_SECONDS if how == "reset" else CABLE_SECONDS
        # Blockers take blocks as they go on, so those alone cannot be waited for.
        freed = daemon.until(lambda now: now["alive"] <= before["alive"] and (blockers or now["blocks"] <= before["blocks"]), 2 * limit)
        after = daemon.metrics()
        for blocker in blockers:
            blocker.cancel()
        call.cancel()
    daemon.until(lambda now: now["alive"] == 0, 10)
    return freed, after - before, limit


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vernierd")
    parser.add_argument("model")
    parser.add_argument("phases", nargs="*", default=PHASES)
    given = parser.parse_args()
    daemon = Daemon(given.vernierd, given.model)
    figures, good = [], True
    try:
        for how in ("reset", "pull"):
            times = []
            for phase in given.phases:
                freed, counted, limit = vanish(daemon, phase, how)
                wanted = 2 if phase == "compare" else 1  # a request a variant
                good = good and freed is not None and freed <= limit and counted["cancelled"] == counted["ended"] == wanted
                times.append(f"{phase} {'never' if freed is None else f'{freed:.2f} s'} ({counted['cancelled']:.0f} of {counted['ended']:.0f} "
                             "cancelled)")
            figures.append(f"{'reset' if how == 'reset' else 'cable pulled'}: {', '.join(times)}")
        left = daemon.metrics()
        figures.append(f"left: {left['alive']:.0f} requests, {left['blocks']:.0f} blocks")
        good = good and left["alive"] == 0 and left["blocks"] == 0
    finally:
        daemon.process.kill()
    print("; ".join(figures))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
