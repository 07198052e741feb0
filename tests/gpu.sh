#!/usr/bin/env bash
# What only a machine with a Hopper GPU can show: `tests/gpu.sh PART...`, in the project's root there, without a build.
#
#   tests      every GPU test, in four processes side by side; tests/data must be there
#   sanitize   compute-sanitizer: memcheck, initcheck, synccheck over whole layers, memcheck over every plan of the GEMMs
#   racecheck  the same tool's racecheck over decode's attention and every plan of the GEMMs
#   gemm       every plan of the GEMMs against the reference, then their tables (CSV), beside rivals where GPU_RIVALS has gemm_rivals.sh's flags
#   launches   every plan of one shape again and again, for GPU_SECONDS (120): each launch must end
#   steps      the 8B model's steps by format and batch
#   ready      time to ready of a saved 8B folder in three variants (64 GB of memory and 20 of disk)
#   quality    perplexity of each format beside the CPU's: GPU_MODEL, and GPU_TEXT, plain text
#
# GPU_BUNDLE is a folder that deploy/bundle.sh's tarball was unpacked to, with kernels_test, gemm_bench, step_bench, quality_bench and
# vernierd (of a build with -DVERNIER_CUDA_DAWDLE=ON, tests and launches meet orders of events that hardly happen); files go to GPU_OUT (build/gpu). Each part prints its seconds and says what failed; the last line of each is its verdict.
set -uo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] && [ "$1" != --help ] || { sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0; }
bin=$(realpath "${GPU_BUNDLE:-build/cuda}/bin")
out=${GPU_OUT:-build/gpu}
mkdir -p "$out"
export VERNIER_TEST_DATA=$PWD/tests/data
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -n 1)
failed=0 checks=0

part_tests() {
  local shard status=0 pids=()
  for shard in 0 1 2 3; do
    GTEST_TOTAL_SHARDS=4 GTEST_SHARD_INDEX=$shard "$bin/kernels_test" --gtest_filter='*cuda*:*Cuda*' >"$out/tests_$shard.log" 2>&1 &
    pids+=($!)
  done
  for shard in "${pids[@]}"; do wait "$shard" || status=1; done
  cat "$out"/tests_?.log | awk '/^\[       OK/ {ok++} /^\[  FAILED  \].*\(/ {bad++; print} END {print ok + 0 " passed, " bad + 0 " failed"}'
  return $status
}

# check TOOL PROGRAM ARGUMENT...: fails where the tool, which may come with options, names an error or the program does.
check() {
  local log=$out/check_$((++checks)).log status=0 tool
  read -ra tool <<<"$1"
  "$sanitizer" --error-exitcode 86 --tool "${tool[@]}" "$bin/$2" "${@:3}" >"$log" 2>&1 || status=$?
  echo "$*: $(grep -c '^\[       OK' "$log") tests, $(grep 'SUMMARY' "$log" | tail -n 1 | sed 's/=* *//'), ended with $status"
  return $status
}
part_sanitize() {
  local status=0 formats='--gtest_filter=*ConformanceTest.*/cuda_nf4:*ConformanceTest.*/cuda_int8:*ConformanceTest.*/cuda_bf16'
  check memcheck kernels_test "$formats" || status=1
  check initcheck kernels_test "$formats" || status=1
  check synccheck kernels_test "$formats" || status=1
  check memcheck gemm_bench --validate-only --outputs 576 --inputs 960 --rows 1,16,40,200 || status=1
  check memcheck gemm_bench --validate-only --outputs 640 --inputs 960 --rows 1,16,40,200 || status=1 # gated ones too
  return $status
}

# Of whole steps the tool of CUDA 13.0 fails by itself ("failed to handle a hardware exception"), also where it looks at one kernel alone.
part_racecheck() {
  local status=0
  check "racecheck --kernel-name kns=DecodeKernel" kernels_test '--gtest_filter=*AttentionReads*/cuda_nf4:*AttentionReads*/cuda_bf16' || status=1
  check racecheck gemm_bench --validate-only --outputs 640 --inputs 960 --rows 1,20,40,200 || status=1
  return $status
}

part_gemm() {
  local status=0
  "$bin/gemm_bench" --validate-only --rows 1,3,8,16,17,64,130,300 >"$out/gemm_valid.csv" || status=1
  echo "plans: $(awk -F, 'NR > 1 && $NF == 1' "$out/gemm_valid.csv" | wc -l) right, $(awk -F, 'NR > 1 && $NF != 1' "$out/gemm_valid.csv" | wc -l) wrong"
  # shellcheck disable=SC2086 # words
  "$bin/gemm_bench" --csv --rows 1,4,8,16,32,64,128,256,512 ${GPU_RIVALS:-} >"$out/gemm.csv" || status=1
  # shellcheck disable=SC2086
  "$bin/gemm_bench" --csv --layer 0 --rows 2048 ${GPU_RIVALS:-} | tail -n +2 >>"$out/gemm.csv" || status=1
  awk -F, 'NR > 1 && ($13 > $14 || $NF != 1) {print "not right, or not twice the same: " $0}' "$out/gemm.csv"
  return $status
}

# What a launch waits for can have passed already (CopiesOf of kernels/cuda/gemm_wide_plan.h): once in some thousands of launches it showed.
part_launches() {
  local runs=0
  while [ $SECONDS -lt "${GPU_SECONDS:-120}" ]; do
    timeout 40 "$bin/gemm_bench" --tune --formats nf4 --shape 8b.qkv --rows 256,512 --replays 20 >"$out/launches.csv" 2>&1 ||
      { echo "after $runs runs: ended with $? (124: a launch never ended)"; return 1; }
    runs=$((runs + 1))
  done
  echo "$runs runs ended"
}

part_steps() {
  local status=0
  "$bin/step_bench" --backend cuda --model random-weights:llama-3.1-8b --formats fp16,int8,nf4 --batches 1,8 --context 1024 --rounds 4 | tee "$out/steps.txt" || status=1
  return $status
}

part_ready() {
  local folder begin now pid status=1
  folder=$(mktemp -d)
  "$bin/vernierd" --random-weights llama-3.1-8b --save "$folder/model" || return 1
  for _ in 1 2; do
    begin=$(date +%s.%N)
    "$bin/vernierd" --model "$folder/model" --variants fp16,int8,nf4 --listen 127.0.0.1:0 --http 127.0.0.1:0 >"$out/ready.log" 2>&1 &
    pid=$!
    until grep -q '^ready' "$out/ready.log" || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
    now=$(date +%s.%N)
    grep -q '^ready' "$out/ready.log" && status=0 || { status=1; tail -n 3 "$out/ready.log"; }
    echo "ready after $(awk "BEGIN {printf \"%.1f\", $now - $begin}") s"
    kill $pid; wait $pid 2>/dev/null
  done
  grep -i 'load' "$out/ready.log" | tail -n 12
  rm -rf "$folder"
  return $status
}

part_quality() {
  "$bin/quality_bench" --model "${GPU_MODEL:?a model}" --text "${GPU_TEXT:?a text}" \
    --rows cuda:fp16,avx512:fp16,cuda:int8,avx512:int8,cuda:nf4,avx512:nf4 --tokens 4096 --window 256 | tee "$out/quality.txt"
}

for part in "$@"; do
  declare -F "part_$part" >/dev/null || { echo "gpu.sh: no part $part (--help lists them)" >&2; exit 64; }
  SECONDS=0
  if "part_$part"; then verdict=good; else verdict=BAD; failed=1; fi
  echo "== $part: $verdict, ${SECONDS} s"
done
exit $failed
