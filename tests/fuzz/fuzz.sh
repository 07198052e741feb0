#!/usr/bin/env bash
# Runs one fuzz target: `fuzz.sh BINARY SEEDS WORK`. New inputs and crashes stay in WORK; an input over 4 s is a failure: some 0.2 s
# without what is counted and checked here. The same inputs each time, as a test has them; VERNIER_FUZZ_SEED=0 draws others.
set -euo pipefail
binary=$1 seeds=$2 work=$3
mkdir -p "$work/corpus"
# Debian's Abseil and Protobuf are not instrumented, so a container's bounds differ on the two sides.
export ASAN_OPTIONS="detect_container_overflow=0:${ASAN_OPTIONS:-}"
exec "$binary" -max_total_time="${VERNIER_FUZZ_SECONDS:-20}" -timeout="${VERNIER_FUZZ_TIMEOUT:-4}" -malloc_limit_mb=64 -max_len=65536 \
  -seed="${VERNIER_FUZZ_SEED:-1}" -print_final_stats=1 -verbosity=0 -artifact_prefix="$work/" "$work/corpus" "$seeds"
