#!/usr/bin/env bash
# Installs the part of the CUDA 13 toolkit that preset `cuda` builds with: `deploy/cuda_toolkit.sh [--found|PREFIX]`, PREFIX
# being build/cuda-toolkit by default. Nothing where an nvcc of version 13 is found already; prints the folder whose bin/ has nvcc.
# --found: installs nothing, and fails where none is found.
# NVIDIA's own packages from PyPI, about 1 GB; running the module needs a driver and libcublasLt.so.13 alone.
set -euo pipefail
cd "$(dirname "$0")/.."

for nvcc in "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc; do
  [ -x "$nvcc" ] && "$nvcc" --version | grep -q 'release 13\.' || continue
  root=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
  # An nvcc may have come without the rest.
  [ -n "$(find -L "$root" -maxdepth 4 -name cublasLt.h -print -quit)" ] || continue
  echo "$root"
  exit 0
done
[ "${1:-}" != --found ] || exit 1
prefix=$(realpath -m "${1:-build/cuda-toolkit}")
root=$prefix/nvidia/cu13
if [ ! -x "$root/bin/nvcc" ]; then
  command -v python3 >/dev/null || { echo "cuda_toolkit.sh: needs python3 and pip (deploy/packages.sh build)" >&2; exit 69; }
  python3 -m pip install --quiet --no-deps --target "$prefix" \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 \
    nvidia-cuda-cccl==13.0.85 'nvidia-cublas==13.1.*' >&2 || {
    echo "cuda_toolkit.sh: pip could not install them; see its message above" >&2; exit 69; }
  # Wheels have no lib64 and no links to their versioned libraries.
  ln -sfn lib "$root/lib64"
  for library in "$root"/lib/lib*.so.13; do ln -sf "$(basename "$library")" "${library%.13}"; done
fi
[ -x "$root/bin/nvcc" ] || { echo "cuda_toolkit.sh: no nvcc in $root/bin" >&2; exit 69; }
echo "$root"
