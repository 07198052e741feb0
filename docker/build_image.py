#!/usr/bin/env python3
"""Makes an OCI image of a root folder, without a container daemon: `build_image.py ROOTFS OUT.tar [--tag TAG]`.

One layer, one architecture; the same files give the same bytes. `docker load` of a recent Docker, `podman load` and
`skopeo copy oci-archive:OUT.tar` take it. Format: OCI image specification 1.0, image-layout.md and config.md.
"""
import argparse
import gzip
import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PORTS = {"50051/tcp": {}, "50052/tcp": {}, "9090/tcp": {}}


def layer_of(rootfs):
    """The folder as a tar: sorted, owned by root, without times."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(rootfs.rglob("*")):
            info = tar.gettarinfo(path, arcname=str(path.relative_to(rootfs)))
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            if info.isreg():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return out.getvalue()


class Layout:
    """Blobs by digest, and where each is needed."""

    def __init__(self):
        self.blobs = {}

    def add(self, data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def add_json(self, value, media_type):
        return self.add(json.dumps(value, sort_keys=True).encode(), media_type)

    def write(self, path, manifest):
        files = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
                 "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}, sort_keys=True).encode()}
        files.update({f"blobs/sha256/{digest}": data for digest, data in sorted(self.blobs.items())})
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def build(rootfs, out, tag):
    """Writes the image, and returns the compressed size of its layer in bytes."""
    tar = layer_of(rootfs)
    layout = Layout()
    layer = layout.add(gzip.compress(tar, 6, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    config = layout.add_json({
        "architecture": ARCHITECTURES[platform.machine()], "os": "linux",
        "config": {"User": "65532:65532", "Entrypoint": ["/usr/bin/vernierd"],
                   "Cmd": ["--config", "/etc/vernier/vernierd.yaml"], "ExposedPorts": PORTS, "StopSignal": "SIGTERM",
                   "Labels": {"org.opencontainers.image.title": "vernier", "org.opencontainers.image.version": tag,
                              "org.opencontainers.image.licenses": "Apache-2.0"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
        "history": [{"created_by": "docker/build_image.py"}]}, "application/vnd.oci.image.config.v1+json")
    manifest = layout.add_json({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
                                "layers": [layer]}, "application/vnd.oci.image.manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": tag}
    layout.write(out, manifest)
    return layer["size"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rootfs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tag", default="0.1.0")
    arguments = parser.parse_args()
    size = build(arguments.rootfs, arguments.out, arguments.tag)
    print(f"{arguments.out}: layer of {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
