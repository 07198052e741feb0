#!/usr/bin/env bash
# Installs what the tests need, builds, and runs them all: `tests/run.sh [--release|--asan|--tsan] [CTEST ARGS]`.
#   --release  everything, as it is served (default), and the CUDA module where nvcc 13 is found
#   --asan     by clang with thread-safety analysis as errors: everything but the long end-to-end cases under
#              AddressSanitizer and UndefinedBehaviorSanitizer, and each fuzz target for 20 s
#   --tsan     kernels and engine under ThreadSanitizer
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
case "${1:-}" in
  --release|--asan|--tsan) preset=${1#--}; shift ;;
  --help|-h) sed -n '2,6s/^# //p' "$0"; exit 0 ;;
esac

groups=(build test)
[ "$preset" = asan ] && groups+=(analysis)
deploy/packages.sh "${groups[@]}"
# Schemas for the tests of manifests, which skip by name without them.
if [ "$preset" = release ] && [ ! -e build/python/bin/python ]; then
  { python3 -m venv build/python && build/python/bin/pip install -q -r tests/deploy/requirements.txt; } ||
    { rm -rf build/python; echo "run.sh: no Python packages; tests that need them are skipped" >&2; }
fi
# The tests on a real model skip by name where it cannot be had.
[ "$preset" = release ] && { deploy/fetch_model.sh >/dev/null || echo "run.sh: no model fetched; its tests are skipped" >&2; }

cuda=OFF
if [ "$preset" = release ] && toolkit=$(deploy/cuda_toolkit.sh --found); then
  cuda=ON
  export CUDACXX=$toolkit/bin/nvcc
fi

mkdir -p build
cmake --preset "$preset" -DVERNIER_BUILD_TESTS=ON -DVERNIER_CUDA=$cuda >build/configure.log 2>&1 || { cat build/configure.log >&2; exit 1; }
cmake --build --preset "$preset"
select=()
case "$preset" in
  asan) select=(-LE long) ;;
esac
ctest --preset "$preset" "${select[@]}" "$@"
[ "$preset" = release ] || exit 0
if [ "$cuda" = OFF ]; then
  echo "run.sh: kernels/cuda was neither built nor tested: no nvcc 13 here (deploy/cuda_toolkit.sh brings it)"
elif nvidia-smi >/dev/null 2>&1; then
  echo "run.sh: kernels/cuda was built, and tested on this machine's GPU"
else
  echo "run.sh: kernels/cuda was built; its plans were tested, its kernels not: no GPU here (tests/gpu.sh runs them on one)"
fi
