#!/usr/bin/env python3
"""F61: the daemon under `deploy/seccomp/vernierd.json`, which is set as a container runtime sets it; and that the profile holds."""
import os
import platform
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("VERNIER_BIN", ROOT / "build/release/bin"))
sys.path.insert(0, str(ROOT / "tests/tools"))
import under_seccomp  # noqa: E402

UNDER = [sys.executable, ROOT / "tests/tools/under_seccomp.py", ROOT / "deploy/seccomp/vernierd.json"]
WHAT_A_DAEMON_DOES_NOT = """
import os, socket, threading
def tried(what):
    try:
        what()
        return "allowed"
    except OSError as error:
        return error.strerror
print("fork:", tried(os.fork))
print("netlink:", tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)))
print("link:", tried(lambda: os.symlink("a", "/dev/null/b")))
print("tcp:", tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()))
thread = threading.Thread(target=print, args=("thread: allowed",))
thread.start()
thread.join()
"""


@unittest.skipUnless(platform.machine() == "x86_64" and any(Path(h).exists() for h in under_seccomp.HEADERS),
                     "the profile is x86-64's, and its numbers come from linux-libc-dev")
class SeccompTest(unittest.TestCase):
    def test_no_process_no_other_socket_and_threads_as_ever(self):
        done = subprocess.run(UNDER + [sys.executable, "-c", WHAT_A_DAEMON_DOES_NOT], capture_output=True, text=True)
        self.assertEqual(done.stdout.splitlines(), ["fork: Operation not permitted", "netlink: Operation not permitted",
                                                    "link: Operation not permitted", "tcp: allowed", "thread: allowed"], done.stderr)

    def test_f61_the_daemon_serves_loads_unloads_and_stops(self):
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "vernierd.yaml"
            config.write_text(f"model: {{path: {ROOT}/tests/data/stories260K/hf}}\nvariants: [{{name: fp16}}, {{name: nf4}}]\n"
                              "listen: 127.0.0.1:0\nhttp: 127.0.0.1:0\nhealth: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"
                              f"engine: {{kv_bytes: 4000000}}\nexperiments: {{folder: {folder}/experiments}}\n")
            daemon = subprocess.Popen(UNDER + [BIN / "vernierd", "--config", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                words = daemon.stdout.readline().split()
                self.assertTrue(words, daemon.stderr.read() if daemon.poll() is not None else "")
                ready = dict(word.split("=", 1) for word in words[1:])
                self.assertIn("Seccomp:\t2\n", Path(f"/proc/{daemon.pid}/status").read_text())
                prompt = ["--ids", "1,403,407"]
                self.vernier(ready["grpc"], "generate", *prompt, "--max-tokens", "4")
                self.vernier(ready["grpc"], "compare", *prompt, "--max-tokens", "4")
                self.vernier(ready["admin"], "unload", "nf4")
                self.vernier(ready["admin"], "load", "nf4")
                self.vernier(ready["admin"], "experiment", "create", "half", "--arms", "fp16,nf4", "--unit", "request")
                with urllib.request.urlopen(f"http://{ready['http']}/metrics", timeout=10) as reply:
                    self.assertIn(b"vernier_ready 1", reply.read())
                daemon.send_signal(signal.SIGTERM)
                self.assertEqual(daemon.wait(), 0)
            finally:
                daemon.kill()
                daemon.communicate()

    def vernier(self, server, *arguments):
        done = subprocess.run([BIN / "vernier", "--server", server, *arguments], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
