#!/usr/bin/env bash
# Decode and prefill beside llama.cpp's own benchmarks, on the same weights, threads and machine, in turns.
#
#   tests/bench/compare_llama_cpp.sh [--threads 1,2] [--rounds 5] [--work DIR] [--build-only] [--readme README.md]
#
# Takes llama.cpp from the source package of llama-cpp-python on PyPI and builds it in --work, which a second run uses again: with
# clang, since GCC 12 compiles its AMX code wrongly, and with the macros for AMX, which clang 14 spells in its own way. Its tool makes
# F16, Q8_0, Q4_0 and IQ4_NL of the same Q4_1 file (--allow-requantize). Prints the table of medians; --readme puts it between that
# file's markers. Needs pip, cmake, ninja, clang and objdump.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.3.36
threads=1,2 rounds=5 work=${TMPDIR:-/tmp}/vernier_llama_cpp readme= build_only=
while [ $# -gt 0 ]; do
  case $1 in
    --threads) threads=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --readme) readme=$2; shift 2 ;;
    --build-only) build_only=1; shift ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
  esac
done
mkdir -p "$work"
bench=${VERNIER_BIN:-build/release/bin}/model_bench
theirs=$work/bin
tools=(llama-bench llama-batched-bench llama-quantize llama-server)

# llama.cpp looks for the macros of GCC and of newer clangs.
amx_macros() {
  local macros feature
  macros=$(clang -march=native -dM -E - </dev/null)
  for feature in TILE INT8 BF16; do
    case $macros in *"__AMX${feature}__"*) printf -- '-D__AMX_%s__ ' "$feature" ;; esac
  done
}

if [ ! -x "$theirs/${tools[-1]}" ]; then
  pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$work" "llama-cpp-python==$version"
  tar -xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work"
  cmake -S "$work/llama_cpp_python-$version/vendor/llama.cpp" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_SERVER=ON -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ "-DCMAKE_C_FLAGS=$(amx_macros)" \
    "-DCMAKE_CXX_FLAGS=$(amx_macros)" >"$work/configure.log"
  cmake --build "$work/build" --target "${tools[@]}" >"$work/build.log"
  mkdir -p "$theirs"
  if [ -n "$(amx_macros)" ] && [ "$(objdump -d "$work/build/bin/${tools[0]}" | grep -c tdpb)" = 0 ]; then
    echo "compare_llama_cpp.sh: llama.cpp was built without AMX, which this processor has: no fair race" >&2
    exit 1
  fi
  for tool in "${tools[@]}"; do cp "$work/build/bin/$tool" "$theirs/"; done
fi
model=${VERNIER_MODEL:-$(deploy/fetch_model.sh)}
for type in F16 Q8_0 Q4_0 IQ4_NL; do
  file=$work/$type.gguf
  [ -f "$file" ] || "$theirs/llama-quantize" --allow-requantize "$model" "$file" "$type" >"$work/quantize.log" 2>&1
done
[ -z "$build_only" ] || exit 0

csv=$work/rivals.csv
echo "round,engine,type,threads,test,tokens_per_second" >"$csv"

ours() { # ROUND THREADS FORMAT [OPTION...]: decode of 1 and 16 sequences at a context of 128, prefill of 512
  local round=$1 t=$2 format=$3; shift 3
  [ "$round" = 1 ] || set -- "$@" --skip-validation
  "$bench" --model "$model" --formats "$format" --threads "$t" --batches 1,16 --prompts 512 --csv --skip-memory "$@" |
    awk -F, -v p="$round,vernier" -v t="$t" '
      $1 == "decode" {print p "," $2 "," t ",decode " $4 "," $6}
      $1 == "prefill" {print p "," $2 "," t ",prefill " $5 "," $6}' >>"$csv"
}
llama() { # ROUND THREADS TYPE: the same
  local at="$1,llama.cpp,$3,$2" file=$work/$3.gguf
  "$theirs/llama-bench" -m "$file" -t "$2" -p 512 -n 0 -r 3 -o jsonl 2>/dev/null |
    sed -n 's/.*"avg_ts": \([0-9.]*\).*/\1/p' | sed "s/^/$at,prefill 512,/" >>"$csv"
  "$theirs/llama-bench" -m "$file" -t "$2" -p 0 -n 24 -d 128 -r 1 -o jsonl 2>/dev/null |
    sed -n 's/.*"avg_ts": \([0-9.]*\).*/\1/p' | sed "s/^/$at,decode 1,/" >>"$csv"
  "$theirs/llama-batched-bench" -m "$file" -t "$2" -c 4096 -b 2048 -npp 128 -ntg 24 -npl 16 --output-format jsonl 2>/dev/null |
    sed -n 's/.*"speed_tg": \([0-9.]*\).*/\1/p' | sed "s/^/$at,decode 16,/" >>"$csv"
}

for round in $(seq "$rounds"); do
  for t in ${threads//,/ }; do
    # Their quantized types have a head of 6 to 8 bits.
    ours "$round" "$t" fp16; llama "$round" "$t" F16
    ours "$round" "$t" int8 --lm-head int8; llama "$round" "$t" Q8_0
    ours "$round" "$t" nf4 --lm-head int8; llama "$round" "$t" Q4_0; llama "$round" "$t" IQ4_NL
    ours "$round" "$t" int8; ours "$round" "$t" nf4
    ours "$round" "$t" int8+a8 --lm-head int8; ours "$round" "$t" nf4+a8 --lm-head int8 # activations of 8 bits, as theirs
  done
done
python3 tests/tools/rival_table.py "$csv" ${readme:+"$readme"}
