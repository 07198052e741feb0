#!/usr/bin/env python3
"""Lays out the image's root, starts it in a sandbox as a container would, and packs it, without a container daemon.

The sandbox (bubblewrap): that root read-only, uid 65532, empty environment, no /tmp and no home, new pid, ipc and user namespaces.
"""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import unittest
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("VERNIER_BIN", ROOT / "build/release/bin"))
sys.path.insert(0, str(ROOT / "docker"))
import build_image  # noqa: E402

LARGEST_LAYER_BYTES = 40e6  # goal R15
LARGEST_CUDA_LAYER_BYTES = 250e6  # without cuBLASLt
CUDA_MODULE = ROOT / "build/cuda/lib/libvernier_cuda.so"
SANDBOX = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--uid", "65532", "--gid", "65532", "--clearenv",
           "--die-with-parent"]


def sandbox_works():
    if shutil.which("bwrap") is None:
        return False
    return subprocess.run(SANDBOX + ["--ro-bind", "/", "/", "true"], capture_output=True).returncode == 0


class ImageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.rootfs = Path(cls.folder.name) / "rootfs"
        subprocess.run([ROOT / "docker/build_rootfs.sh", cls.rootfs], check=True, env={**os.environ, "VERNIER_BIN": str(BIN)})

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_there_is_no_shell_and_nothing_that_gains_privileges(self):
        files = [p for p in self.rootfs.rglob("*") if p.is_file()]
        self.assertFalse([p for p in files if p.name in ("sh", "bash", "dash", "busybox", "apt", "dpkg", "perl", "python3")])
        self.assertFalse([p for p in files if p.stat().st_mode & 0o6022])

    def test_programs_are_hardened(self):
        for name in ("vernierd", "vernier"):
            elf = subprocess.run(["readelf", "-lhdW", self.rootfs / "usr/bin" / name], capture_output=True, text=True, check=True).stdout
            self.assertIn("DYN (Position-Independent Executable", elf)
            self.assertRegex(elf, r"GNU_RELRO")
            self.assertRegex(elf, r"FLAGS.*(NOW|BIND_NOW)")
            self.assertRegex(elf, r"GNU_STACK.* RW ")
            symbols = subprocess.run(["readelf", "-sW", "--dyn-syms", self.rootfs / "usr/bin" / name], capture_output=True, text=True).stdout
            self.assertIn("__stack_chk_fail", symbols)

    def test_the_image_is_what_oci_wants_small_and_the_same_twice(self):
        first, second = (Path(self.folder.name) / name for name in ("one.tar", "two.tar"))
        size = build_image.build(self.rootfs, first, "test")
        build_image.build(self.rootfs, second, "test")
        self.assertEqual(first.read_bytes(), second.read_bytes())
        self.assertLess(size, LARGEST_LAYER_BYTES)
        print(f"compressed layer: {size / 1e6:.1f} MB", file=sys.stderr)
        with tarfile.open(first) as tar:
            def blob(descriptor):
                data = tar.extractfile("blobs/" + descriptor["digest"].replace(":", "/")).read()
                self.assertEqual(f"sha256:{hashlib.sha256(data).hexdigest()}", descriptor["digest"])
                self.assertEqual(len(data), descriptor["size"])
                return data
            manifest = json.loads(blob(json.load(tar.extractfile("index.json"))["manifests"][0]))
            config = json.loads(blob(manifest["config"]))
            blob(manifest["layers"][0])
        self.assertEqual(config["config"]["User"], "65532:65532")

    @unittest.skipUnless(CUDA_MODULE.exists(), "no CUDA module in build/cuda")
    def test_the_cuda_image_is_the_same_files_and_the_module(self):
        rootfs, out = Path(self.folder.name) / "cuda", Path(self.folder.name) / "cuda.tar"
        environment = {name: value for name, value in os.environ.items() if name != "VERNIER_BIN"}
        subprocess.run([ROOT / "docker/build_rootfs.sh", "--cuda", "--without-cublas", rootfs], check=True, env=environment)
        more = {p.relative_to(rootfs) for p in rootfs.rglob("*")} - {p.relative_to(self.rootfs) for p in self.rootfs.rglob("*")}
        names = {p.name for p in more if (rootfs / p).is_file()}
        self.assertIn("libvernier_cuda.so", names)
        # Of the C library and Abseil, and neither the driver's nor cuBLASLt.
        self.assertEqual({n for n in names if not n.startswith(("libabsl_", "libdl.", "librt.", "libpthread."))}, {"libvernier_cuda.so"})
        size = build_image.build(rootfs, out, "test")
        self.assertLess(size, LARGEST_CUDA_LAYER_BYTES)
        print(f"compressed CUDA layer without cuBLASLt: {size / 1e6:.1f} MB", file=sys.stderr)

    def test_both_dockerfiles_ship_what_build_rootfs_lays_out_and_alike(self):
        def shipped(name):
            text = (ROOT / "docker" / name).read_text()
            self.assertRegex(text, r"docker/build_rootfs\.sh .*/rootfs\n")
            last = text[text.index("FROM scratch"):].splitlines()
            return [line for line in last if not line.startswith(("#", "ENV NVIDIA"))]
        self.assertEqual(shipped("Dockerfile.cpu"), shipped("Dockerfile.cuda"))

    def test_the_compose_file_mounts_what_is_there_and_hardens_the_daemon(self):
        services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
        for service in services.values():
            for option in service.get("security_opt", []):
                self.assertTrue(not option.startswith("seccomp:") or (ROOT / "docker" / option.split(":", 1)[1]).exists(), option)
            for volume in service["volumes"]:
                source = volume.split(":")[0]
                self.assertTrue(source.startswith("${MODEL") or (ROOT / "docker" / source).exists(), source)
        self.assertTrue(services["vernierd"]["read_only"])
        self.assertEqual(services["vernierd"]["cap_drop"], ["ALL"])
        flags = [word for word in services["vernierd"]["command"] if word.startswith("--")]
        known = subprocess.run([BIN / "vernierd", "--help"], capture_output=True, text=True).stdout
        self.assertEqual([flag for flag in flags if flag not in known], [])

    @unittest.skipUnless(sandbox_works(), "no sandbox here (bubblewrap, user namespaces)")
    def test_f52_it_serves_from_a_read_only_root_with_nothing_else(self):
        command = SANDBOX + ["--ro-bind", self.rootfs, "/", "--ro-bind", ROOT / "tests/data/stories260K", "/models", "--proc", "/proc",
                             "--dev", "/dev", "/usr/bin/vernierd", "--model", "/models/hf", "--variants", "fp16,nf4", "--listen",
                             "127.0.0.1:0", "--http", "127.0.0.1:0", "--health", "127.0.0.1:0", "--kv-bytes", "4000000"]
        sandbox = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            words = sandbox.stdout.readline().split()
            self.assertTrue(words, sandbox.stderr.read() if sandbox.poll() is not None else "")
            ready = dict(word.split("=", 1) for word in words[1:])
            done = subprocess.run([BIN / "vernier", "--server", ready["grpc"], "generate", "--ids", "1,403,407", "--max-tokens", "4"],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            with urllib.request.urlopen(f"http://{ready['http']}/healthz", timeout=10) as reply:
                self.assertEqual(reply.status, 200)
            self.assertEqual(subprocess.run([BIN / "vernierd", "--healthcheck", ready["health"]]).returncode, 0)
            daemon = self.only_child_of(self.only_child_of(sandbox.pid))
            os.kill(daemon, signal.SIGTERM)
            self.assertEqual(sandbox.wait(), 0)
        finally:
            sandbox.kill()
            sandbox.communicate()

    def only_child_of(self, pid):
        """bwrap's child is the init of the new pid namespace, and its child the daemon."""
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.assertEqual(len(children), 1)
        return int(children[0])


if __name__ == "__main__":
    sys.argv[:] = sys.argv[:1] + ["-v"]
    unittest.main()
