#!/usr/bin/env bash
# Fetches and builds what gemm_bench times beside our kernels, and prints the flags that name it:
#
#   tests/bench/gemm_rivals.sh [FOLDER]
#
# bitsandbytes' library for CUDA 13 from its wheel on PyPI, and Marlin's kernel from its repository (MARLIN_REPOSITORY, a folder or an
# address), compiled with nvcc 13 for Hopper. Both need libcudart.so.13 where they run, bitsandbytes libcublas.so.13 and
# libcublasLt.so.13 too. Nothing of them becomes part of the project.
set -euo pipefail
[ "${1:-}" != --help ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0; }
folder=${1:-${TMPDIR:-/tmp}/vernier_gemm_rivals}
bitsandbytes_version=0.50.0
marlin_commit=2f6d7c10e124b3c5fa29ff8d77d568bd7af3274c
mkdir -p "$folder"
cd "$folder"
[ -e libbitsandbytes_cuda130.so ] || {
  python3 -m pip download --quiet --no-deps --dest . "bitsandbytes==$bitsandbytes_version" >&2
  python3 -m zipfile -e bitsandbytes-"$bitsandbytes_version"-*.whl wheel
  mv wheel/bitsandbytes/libbitsandbytes_cuda130.so .
  rm -r wheel
}
[ -e libmarlin.so ] || {
  [ -e marlin ] || git clone --quiet "${MARLIN_REPOSITORY:-https://github.com/IST-DASLab/marlin}" marlin
  git -C marlin checkout --quiet --force "$marlin_commit"
  # Hopper takes the policy of its streamed copies for an illegal instruction: a hint to the cache alone.
  sed -i -e '/createpolicy.fractional/d' -e 's/\.L2::cache_hint \[%0\], \[%1\], %2, p;/ [%0], [%1], %2;/' marlin/marlin/marlin_cuda_kernel.cu
  "${NVCC:-nvcc}" -O3 -std=c++17 -arch=sm_90 -shared -Xcompiler -fPIC --cudart shared --expt-relaxed-constexpr -w \
    -x cu -o libmarlin.so marlin/marlin/marlin_cuda_kernel.cu
}
echo "--bitsandbytes $PWD/libbitsandbytes_cuda130.so --marlin $PWD/libmarlin.so"
