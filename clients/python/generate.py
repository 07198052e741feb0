#!/usr/bin/env python3
"""Writes vernier_client/proto from the repository's proto folder: messages, stubs and type hints. Needs grpcio-tools."""
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = HERE.parents[1] / "proto"
OUT = HERE / "vernier_client" / "proto"
FILES = ["vernier/v1/common.proto", "vernier/v1/inference.proto", "vernier/v1/evaluation.proto", "vernier/v1/models.proto",
         "vernier/v1/experiments.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"]


def generate(out=OUT):
    from grpc_tools import protoc
    from importlib.resources import files
    out.mkdir(parents=True, exist_ok=True)
    well_known = str(files("grpc_tools") / "_proto")
    code = protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}",
                        f"--pyi_out={out}", *FILES])
    if code != 0:
        sys.exit(f"protoc ended with {code}")
    for folder in (out, out / "vernier", out / "vernier/v1", out / "google", out / "google/rpc"):
        (folder / "__init__.py").write_text("")
    # protoc imports by the path of the proto; ours live inside the package.
    for path in [*out.rglob("*.py"), *out.rglob("*.pyi")]:
        text = path.read_text()
        text = re.sub(r"^from (vernier\.v1|google\.rpc) import", r"from vernier_client.proto.\1 import", text, flags=re.M)
        path.write_text(text)


if __name__ == "__main__":
    generate()
