#!/usr/bin/env bash
# Long cases, and those that assert durations: run by hand, `tests/soak.sh [ROW...]` (no row: list them).
# Each run appends its figure, the date and the processor to tests/soak_results.md. Elsewhere than in a checkout's build folder, for
# example with a machine's cores to themselves (needs vernierd, vernier-loadtest and vernier in one folder, python3, curl):
#   SOAK_BIN=DIR SOAK_OUT=DIR SOAK_MODEL=random-weights:smollm2-135m SOAK_SERVER_CPUS=0-3 SOAK_CLIENT_CPUS=4-7 tests/soak.sh overload_smollm2
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${SOAK_BIN:-build/release/bin}
reports=${SOAK_OUT:-build/soak}    # JSON, CSV and pages of the load tests; `tests/tools/load_table.py` reads them
results=${SOAK_OUT:-tests}/soak_results.md
seconds=${SOAK_SECONDS:-60}        # of each load; F64 in full: 600
threads=${SOAK_THREADS:-1}         # that compute, of a daemon under load
server_cpus=${SOAK_SERVER_CPUS:+taskset -c $SOAK_SERVER_CPUS}
client_cpus=${SOAK_CLIENT_CPUS:+taskset -c $SOAK_CLIENT_CPUS}
mkdir -p "$reports"
stories='{path: tests/data/stories260K/hf, name: stories260k}' # models as YAML
smollm2() { echo "{path: '${SOAK_MODEL:-$(deploy/fetch_model.sh)}', name: smollm2-135m}"; }

python=python3                     # with the packages of tests/deploy/requirements.txt, where tests/run.sh has put them
[ ! -x build/python/bin/python ] || python=build/python/bin/python

processor() { sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1; }
record() { # ROW FIGURE
  [ -f "$results" ] || printf '# Long cases as run by `tests/soak.sh`\n\n| date | row | figure | processor |\n|---|---|---|---|\n' >"$results"
  printf '| %s | %s | %s | %s |\n' "$(date -u +%F)" "$1" "$2" "$(processor)${server_cpus:+, server on cores $SOAK_SERVER_CPUS}${client_cpus:+, client on $SOAK_CLIENT_CPUS}" >>"$results"
  echo "$1: $2"
}

launch() { # FLAG... of vernierd; prints nothing; sets daemon_pid, log, address, http, admin
  log=$(mktemp)
  $server_cpus "$bin/vernierd" "$@" >"$log" 2>&1 &
  daemon_pid=$!
  trap 'kill $daemon_pid 2>/dev/null || true' EXIT
  until grep -q '^ready' "$log"; do kill -0 $daemon_pid || { cat "$log"; exit 1; }; sleep 0.1; done
  address=$(sed -n 's/^ready.*grpc=\([^ ]*\).*/\1/p' "$log")
  http=$(sed -n 's/^ready.*http=\([^ ]*\).*/\1/p' "$log")
  admin=$(sed -n 's/^ready.*admin=\([^ ]*\).*/\1/p' "$log")
}
start_daemon() { # SmolLM2 in three formats
  local model; model=${SOAK_MODEL:-$(deploy/fetch_model.sh)}
  launch --model "$model" --variants fp16,int8,nf4 --listen 127.0.0.1:0 --http 127.0.0.1:0
}
start_under_load() { # MODEL [YAML LINE...]: few compute threads and short queues, so that refusals come soon
  config=$(mktemp)
  local model=$1; shift
  printf '%s\n' "model: $model" "backend: cpu" "threads: $threads" "behind_proxy: true" \
    "variants: [{name: fp16, formats: [['*', fp16]]}, {name: nf4, formats: [['*', nf4]]}]" "$@" >"$config"
  launch --config "$config" --listen 127.0.0.1:0 --http 127.0.0.1:0
}
load() { # NAME VERB FLAG...: one load test, its reports in $reports/NAME.*
  local name=$1 verb=$2; shift 2
  $client_cpus "$bin/vernier-loadtest" "$verb" --server "$address" --metrics "$http" --quiet \
    --json "$reports/$name.json" --csv "$reports/$name.csv" --html "$reports/$name.html" "$@"
}
figure() { # NAME PYTHON: of the report's runs `r`, each with figures, tenants, timeline
  python3 -c 'import json, sys; r = json.load(open(sys.argv[1]))["runs"]; knee = json.load(open(sys.argv[1]))["knee"]; print(eval(sys.argv[2]))' "$reports/$1.json" "$2"
}
holds() { # PYTHON: fails where it is not true
  python3 -c 'import sys; sys.exit(not eval(sys.argv[1]))' "$1" || { echo "soak.sh: not so: $1" >&2; return 1; }
}
metric() { # REGEX of a series' name: the value of the first that matches
  curl -s "http://$http/metrics" | awk -v name="^$1([{}]|\$)" '$1 ~ name && !found++ { print $NF }'
}
rss_kb() { sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$daemon_pid/status"; }

row_memory() { # R12, one hour's shape in minutes: RSS growth over 2,000 short requests
  start_daemon
  for _ in $(seq 50); do "$bin/vernier" --server "$address" generate --max-tokens 4 --raw "warm" >/dev/null; done
  local before; before=$(rss_kb)
  for _ in $(seq 2000); do "$bin/vernier" --server "$address" generate --max-tokens 4 --raw "once upon" >/dev/null; done
  local growth=$(( $(rss_kb) - before ))
  record memory "RssAnon grew ${growth} kB over 2,000 requests"
  [ "$growth" -lt 4096 ]
}

row_cancel() { # F29: clients killed at random times leave no block behind
  start_daemon
  for i in $(seq 300); do
    "$bin/vernier" --server "$address" generate --max-tokens 200 --ignore-eos --raw "a story" >/dev/null 2>&1 &
    local client=$!
    sleep "0.$((RANDOM % 9 + 1))"
    kill -9 $client 2>/dev/null || true
    wait $client 2>/dev/null || true
  done
  sleep 2
  local usage; usage=$(curl -s "http://$http/metrics" | sed -n 's/^vernier_pod_kv_cache_usage_ratio //p')
  record cancel "KV use after 300 killed clients: $usage"
  [ "$(printf '%.0f' "${usage:-1}")" = 0 ]
}

row_drain() { # R4: SIGTERM with a running stream: it finishes, exit 0
  start_daemon
  "$bin/vernier" --server "$address" generate --max-tokens 100 --ignore-eos --raw "a story" >/dev/null &
  local client=$!
  sleep 1
  local began; began=$(date +%s%N)
  kill -TERM $daemon_pid
  local client_status=0 daemon_status=0
  wait $client || client_status=$?
  wait $daemon_pid || daemon_status=$?
  record drain "stream ended with $client_status, daemon with $daemon_status, $(( ($(date +%s%N) - began) / 1000000 )) ms after SIGTERM"
  [ $client_status = 0 ] && [ $daemon_status = 0 ]
}

scrapes() { # prints what 200 scrapes at 20 a second took, beside 64 silent connections
  $client_cpus python3 - "$http" <<'PYTHON'
import socket, sys, time
host, port = sys.argv[1].rsplit(":", 1)
silent, times = [], []
def connect():
    return socket.create_connection((host, int(port)))
for i in range(200):
    silent = silent[-63:] + [connect()]  # the server closes them after a second: there are always new ones
    if len(silent) < 64:
        silent += [connect() for _ in range(64 - len(silent))]
    began = time.monotonic()
    with connect() as scrape:
        scrape.sendall(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n")
        bytes_read = 0
        while part := scrape.recv(1 << 16):
            bytes_read += len(part)
    times.append(time.monotonic() - began)
    assert bytes_read > 100000
    time.sleep(max(0, 0.05 - times[-1]))
times.sort()
late = []  # what the scraper itself waits for a processor: no scrape can be measured finer than that
for i in range(200):
    began = time.monotonic()
    time.sleep(0.02)
    late.append(time.monotonic() - began - 0.02)
def shares(values):
    values.sort()
    return f"median {values[len(values) // 2] * 1e3:.1f} ms, p99 {values[int(len(values) * 0.99) - 1] * 1e3:.1f} ms"
print(f"200 scrapes at 20 a second beside 64 silent connections: {shares(times)}; the scraper's own wake-ups: {shares(late)}")
PYTHON
}

row_scrape() { # R8: and a stream in each precision
  start_daemon
  local variant
  for variant in fp16 int8 nf4; do
    "$bin/vernier" --server "$address" generate --variant $variant --max-tokens 600 --ignore-eos --raw "a story" >/dev/null 2>&1 &
  done
  record scrape "beside three streams, $(nproc) cores: $(scrapes)"
}

row_scrape_load() { # R8: while ten times as many requests come as can be served
  start_under_load "$stories"
  local shape=(--prompt-tokens 64 --output-tokens 32 --warmup 0)
  load scrape_capacity run "${shape[@]}" --concurrency 32 --requests 100000 --seconds 10
  local rate; rate=$(figure scrape_capacity 'round(10 * r[0]["figures"]["completed"] / r[0]["figures"]["seconds"])')
  load scrape_load run "${shape[@]}" --rate "$rate" --requests 10000000 --seconds 25 &
  local client=$!
  sleep 5
  local figure; figure=$(scrapes)
  wait $client
  record scrape_load "$rate requests a second, ten times the capacity, $(figure scrape_load '"%.0f %% refused" % (100 * r[0]["figures"]["refused"] / r[0]["figures"]["sent"])'); $figure"
}

row_seccomp() { # F61: the server's whole suite under the profile; what is allowed besides is what the tests themselves do
  local out; out=$(mktemp)
  local build; build=$(realpath "$bin")
  VERNIER_TEST_DATA=$PWD/tests/data VERNIER_MODELS=$PWD/models VERNIER_BIN=$build python3 tests/tools/under_seccomp.py \
    --allow clone,wait4,kill,sendfile,fchmodat,chmod deploy/seccomp/vernierd.json "$build/server_test" >"$out" 2>&1 || true
  record seccomp "$(grep -c '^\[       OK' "$out") of $(grep -c '^\[ RUN' "$out") tests of the server pass under deploy/seccomp/vernierd.json; $("$python" tests/deploy/seccomp_test.py 2>&1 | sed -n 's/^Ran \([0-9]*\) tests.*/seccomp_test: \1 tests/p')"
  grep -q '^\[  PASSED' "$out" && ! grep -q '^\[  FAILED' "$out"
}

row_restart() { # F69: SIGKILL under load, then another on the same port: what clients are told, and how soon it is ready
  local model times="" told=0 i began port; model=${SOAK_MODEL:-$(deploy/fetch_model.sh)}
  launch --model "$model" --variants fp16,int8,nf4 --listen 127.0.0.1:0 --http 127.0.0.1:0
  port=$address
  for i in $(seq 10); do
    "$bin/vernier" --server "$address" generate --max-tokens 2000 --ignore-eos --raw "a story" >/dev/null 2>"$reports/restart.txt" &
    local client=$! status=0
    sleep 1
    kill -KILL $daemon_pid; wait $daemon_pid 2>/dev/null || true
    wait $client || status=$?
    [ "$status" = 0 ] || ! grep -q "cannot be reached" "$reports/restart.txt" || told=$((told + 1))
    began=$(date +%s%N)
    launch --model "$model" --variants fp16,int8,nf4 --listen "$port" --http 127.0.0.1:0
    times="$times $(( ($(date +%s%N) - began) / 1000000 ))"
  done
  record restart "$told of 10 clients told that the server went away (UNAVAILABLE); ready again, SmolLM2 in three variants, page cache warm: $(tr ' ' '\n' <<<"$times" | sed '/^$/d' | sort -n | awk '{ t[NR] = $1 } END { printf "median %.2f s, most %.2f s", t[int((NR + 1) / 2)] / 1000, t[NR] / 1000 }')"
  [ "$told" = 10 ]
}

row_integrity() { # R11: a flipped bit anywhere in the weights, and a file that ends early, are refused (exit 65)
  local folder; folder=$(mktemp -d)
  cp tests/data/stories260K/hf/* "$folder"
  "$bin/vernier" inspect --model "$folder" --write-manifest >/dev/null
  local figure; figure=$(python3 - "$bin/vernierd" "$folder" <<'PYTHON'
import json, pathlib, random, struct, subprocess, sys
daemon, folder = sys.argv[1], pathlib.Path(sys.argv[2])
weights = folder / "model.safetensors"
whole = weights.read_bytes()
def refused(data):
    weights.write_bytes(data)
    try:
        done = subprocess.run([daemon, "--model", folder, "--variants", "fp16", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--threads", "1"],
                              capture_output=True, timeout=3)
    except subprocess.TimeoutExpired:  # it serves
        return False
    return done.returncode == 65
assert not refused(whole)
draw = random.Random(1)
flips = 0
for bit in draw.sample(range(8 * len(whole)), 1000):
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    flips += refused(data)
header = struct.unpack("<Q", whole[:8])[0]
edges = {8 + header + end for t, v in json.loads(whole[8:8 + header]).items() if t != "__metadata__" for end in v["data_offsets"]}
cuts = {n for edge in edges | {0, 8, 8 + header} for n in (edge - 1, edge, edge + 1) if 0 <= n < len(whole)}
cuts |= set(draw.sample(range(len(whole)), 200))
print(f"{flips} of 1000 flipped bits and {sum(refused(whole[:n]) for n in cuts)} of {len(cuts)} truncations refused, every tensor's edge and a byte to each side among them")
PYTHON
)
  rm -rf "$folder"
  record integrity "$figure"
  [[ "$figure" == "1000 of 1000 "* ]] && [[ "$figure" =~ and\ ([0-9]+)\ of\ ([0-9]+)\ trunc ]] && [ "${BASH_REMATCH[1]}" = "${BASH_REMATCH[2]}" ]
}

unittests() { # FILE: of tests/deploy; prints "N tests, M skipped", fails with them
  local out
  out=$("$python" "tests/deploy/$1" 2>&1) || { echo "$out" >&2; return 1; }
  sed -n 's/^Ran \([0-9]*\) tests.*/\1 tests/p; s/^OK (skipped=\([0-9]*\))/, \1 skipped/p' <<<"$out" | tr -d '\n'
}

row_image() { # R15: compressed sizes; the CUDA image needs a build of preset cuda
  local folder figure; folder=$(mktemp -d)
  size() { docker/build_rootfs.sh "${@:2}" "$folder/$1" && python3 docker/build_image.py "$folder/$1" "$folder/$1.tar" | sed 's/.*of //'; }
  figure="compressed: CPU $(size cpu)"
  [ ! -e build/cuda/lib/libvernier_cuda.so ] ||
    figure="$figure, CUDA $(size cuda --cuda) with cuBLASLt and $(size without --cuda --without-cublas) without"
  record image "$figure; $(find "$folder/cpu" -type f -perm /022 | wc -l) writable files, $(find "$folder/cpu" -name '*sh' -type f | wc -l) shells; image_test: $(unittests image_test.py)"
  rm -rf "$folder"
}

row_manifests() { # R16
  record manifests "kustomize: $(unittests manifests_test.py); Helm against kustomize: $(unittests helm_test.py); alerts and dashboards: $(unittests monitoring_test.py)"
}

row_contract() { # R17
  local out; out=$(VERNIER_TEST_DATA=tests/data "$bin/server_test" --gtest_filter='Contract*' 2>&1)
  record contract "$(grep -c '^\[       OK' <<<"$out") of $(grep -c '^\[ RUN' <<<"$out") cases over codes 1, 3, 4, 5, 7, 8, 9, 12, 13, 14, 16 by a stock client with retries"
  ! grep -q FAILED <<<"$out"
}

row_silent() { # F25: 3,000 connections that say nothing on the serving port: new calls, scrapes and memory beside them
  start_under_load "$stories"
  ulimit -n 8192
  record silent "$("$python" - "$address" "$http" "$daemon_pid" <<'PYTHON'
import pathlib, re, socket, sys, time, urllib.request
import grpc
address, http, pid = sys.argv[1:]
def rss():
    return int(re.search(r"RssAnon:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024
def p99(work, count):
    times = []
    for _ in range(count):
        began = time.monotonic()
        work()
        times.append(1e3 * (time.monotonic() - began))
    return sorted(times)[int(count * 0.99) - 1]
def call():  # on a connection of its own
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        channel.unary_unary("/vernier.v1.Models/ListModels")(b"", timeout=30)
def scrape():
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=30) as reply:
        reply.read()
host, port = address.rsplit(":", 1)
call_before, scrape_before, rss_before = p99(call, 200), p99(scrape, 100), rss()
silent = [socket.create_connection((host, int(port))) for _ in range(3000)]
print(f"3,000 silent connections: new call p99 {call_before:.1f} ms before, {p99(call, 200):.1f} ms beside them; "
      f"scrape p99 {scrape_before:.1f} and {p99(scrape, 100):.1f} ms; RssAnon {rss() - rss_before:.0f} MiB more")
PYTHON
)"
}

printed() { # ROW SCRIPT ARGUMENT...: what the script prints is the row's figure, and its end the row's
  local row=$1 figure status=0; shift
  figure=$("$python" "$@") || status=$?
  record "$row" "${figure:-failed}"
  return $status
}
transport() { printed "$1" tests/soak_transport.py "$@"; } # CASE ARGUMENT...

row_rapid_reset() { # F22: a million streams opened and reset, without a proxy; health calls and another's tokens meanwhile
  launch --model tests/data/stories260K/hf --variants fp16 --threads "$threads" --listen 127.0.0.1:0 --http 127.0.0.1:0
  transport rapid_reset "$address" "$daemon_pid"
}

row_slow_reader() { # F27: streams that nobody reads
  start_under_load "$(smollm2)"
  transport slow_reader "$address" "$http" "$daemon_pid"
}

row_bomb() { # F24: messages that inflate to 256 MiB are refused packed
  start_under_load "$stories"
  transport bomb "$address" "$daemon_pid"
}

row_rotate() { # F33: certificates of new authorities under load
  transport rotate "$bin/vernierd" tests/data/stories260K/hf
}

row_stop() { # F68: SIGTERM under load, twice, with streams longer than the grace, while loading
  transport stop "$bin/vernierd" tests/data/stories260K/hf "${SOAK_MODEL:-$(deploy/fetch_model.sh)}"
}

row_rollout() { # R4: 200 rolling restarts under load, behind nginx and with a client that balances by itself
  local figure
  figure=$(VERNIER_RESTARTS=200 "$python" tests/deploy/client_test.py 2>&1 | sed -n 's/.*\(200 restarts, .*\)/\1/p' | paste -sd';')
  record rollout "${figure:-failed}"
  [ "$(grep -o '0 failures' <<<"$figure" | wc -l)" = 2 ]
}

overload() { # ROW REPORT_PREFIX FROM SHAPE_FLAG...: a running daemon at 1x to 10x of what it carries: goodput, refusals, memory
  # Requests of one size: of lengths as varied as ShareGPT's, those accepted in a short run are by chance a tenth longer or shorter.
  local row=$1 prefix=$2 from=$3 capacity rates process held=0; shift 3
  local shape=("$@" --slo-ttft 2 --slo-tpot 0.1 --warmup 5)
  load ${prefix}capacity sweep "${shape[@]}" --from "$from" --seconds $((seconds < 30 ? seconds : 30)) --growth 1.5 --attainment 0.95 --max-runs 14
  capacity=$(figure ${prefix}capacity 'max(x["figures"]["goodput_per_second"] for x in r)')
  # Up and down again, so that a host that slows down or speeds up does so for every load.
  rates=$(python3 -c "up = [$capacity * x for x in (1, 1.25, 2, 5, 10)]; print(*(rate for i in range(${SOAK_ROUNDS:-3}) for rate in (up[::-1] if i % 2 else up)), sep=',')")
  for process in ${SOAK_PROCESSES:-poisson gamma}; do
    local name=${prefix}overload_$process figures
    load $name sweep "${shape[@]}" --arrivals $process --cv 3 --seconds "$seconds" --rates "$rates"
    figures=$(python3 tests/tools/overload.py "$reports/$name.json") || held=1 # R3
    record "$row ($process)" "$figures"
  done
  return $held
}

row_overload() { # F64 with stories260K, whose refusals come by the thousand a second
  start_under_load "$stories" "admission: {max_requests: 96}" "engine: {max_sequences: 32}"
  overload overload "" 40 --prompt-tokens 50 --output-tokens 45
}

row_overload_smollm2() { # F64 with SmolLM2, whose steps are long: no more at once than keep the goal of a token, and what would wait past that of the first is refused
  start_under_load "$(smollm2)" "admission: {max_requests: 96, max_wait_seconds: 0.5}" "engine: {max_sequences: 8}"
  overload overload_smollm2 smollm2_ 4 --prompt-tokens 20 --output-tokens 18
}

row_cancels() { # F29: 10,000 cancels at random times, 64 at once
  start_under_load "$stories" "engine: {max_sequences: 48, kv_blocks: 256}"
  load cancels_before run --concurrency 64 --requests 2000 --warmup 0 --length-scale 0.2 --cancel 1 --seconds 600
  local rss files threads; rss=$(rss_kb) files=$(metric process_open_fds) threads=$(metric process_threads)
  load cancels run --concurrency 64 --requests 10000 --warmup 0 --length-scale 0.2 --cancel 1 --seconds 3600 --seed 2
  sleep 1
  record cancels "$(figure cancels 'int(r[0]["figures"]["cancelled"])') of 10,000 cancelled: KV use $(metric vernier_pod_kv_cache_usage_ratio), waiting $(metric vernier_pod_requests_waiting), running $(metric vernier_pod_requests_running), RssAnon $(( $(rss_kb) - rss )) kB, descriptors $(( $(metric process_open_fds) - files )), threads $(( $(metric process_threads) - threads )) more than before"
  holds "$(metric vernier_pod_kv_cache_usage_ratio) == 0 and $(metric vernier_pod_requests_running) == 0"
}

row_vanish() { # F28: clients reset and cables pulled in every phase of a request
  printed vanish tests/soak_vanish.py "$bin/vernierd" "${SOAK_MODEL:-$(deploy/fetch_model.sh)}"
}

row_flood() { # F66: a tenant with 1 request/s alone, then beside one that sends 50
  start_under_load "$stories" "admission: {max_requests: 256, tenant: {max_requests: 192}}" "engine: {max_sequences: 32}"
  load flood_alone run --tenants victim --rate 1 --prompt-tokens 200 --output-tokens 40 --seconds "$seconds" --warmup 2
  load flood run --tenants victim=1,flood=50 --rate 51 --prompt-tokens 200 --output-tokens 40 --seconds "$seconds" --warmup 2
  record flood "victim's TTFT p50 and p99: alone $(figure flood_alone '"%.0f and %.0f ms" % tuple(1e3 * r[0]["figures"]["first_token_%s_seconds" % p] for p in ("p50", "p99"))'), beside the flood $(figure flood '"%.0f and %.0f ms" % tuple(1e3 * r[0]["tenants"]["victim"]["first_token_%s_seconds" % p] for p in ("p50", "p99"))'); of the flood $(figure flood '"%d of %d refused" % (r[0]["tenants"]["flood"]["refused"], r[0]["tenants"]["flood"]["sent"])')"
}

row_fair() { # F66: two tenants that both want more than half, one of them three times as much as the other
  start_under_load "$stories" "admission: {max_requests: 256, tenant: {max_requests: 64}}" "engine: {max_sequences: 32}"
  load fair run --tenants modest=1,greedy=3 --rate 1200 --prompt-tokens 60 --output-tokens 60 --seconds "$seconds" --warmup 2
  local jain; jain=$(figure fair '(lambda x: sum(x) ** 2 / (len(x) * sum(v * v for v in x)))([t["output_tokens_per_second"] for t in r[0]["tenants"].values()])')
  record fair "tokens/s $(figure fair '", ".join("%s %.0f (%.0f requests/s sent)" % (n, t["output_tokens_per_second"], t["offered_per_second"]) for n, t in r[0]["tenants"].items())'): Jain index $(printf %.4f "$jain")"
  holds "$jain >= 0.95"
}

row_retries() { # F67: clients with the shipped policy at 3x
  start_under_load "$stories" "admission: {max_requests: 96}" "engine: {max_sequences: 32}"
  local rate=${SOAK_RATE:-200} before calls sent
  before=$(metric 'vernier_grpc_calls_started_total[{][^}]*GenerateStream[^}]*')
  load retries run --length-scale 0.25 --rate "$rate" --seconds "$seconds" --warmup 0 --retry-policy deploy/helm/vernier/files/service-config.json
  calls=$(( $(metric 'vernier_grpc_calls_started_total[{][^}]*GenerateStream[^}]*') - before ))
  sent=$(figure retries 'int(r[0]["figures"]["sent"])')
  record retries "$(figure retries 'int(r[0]["figures"]["refused"])') of $sent refused in the end; $(( calls - sent )) retries; waiting after it: $(metric vernier_pod_requests_waiting)"
  holds "$calls - $sent <= 0.1 * $sent"
}

row_stopped() { # F43: SIGSTOP for 12 s under load: what expired ends DEADLINE_EXCEEDED, and nothing else happens
  start_under_load "$stories"
  load stopped run --concurrency 8 --requests 100000 --seconds 30 --warmup 0 --deadline 5 --prompt-tokens 20 --output-tokens 250 --give-up 20 &
  local client=$!
  sleep 6; kill -STOP $daemon_pid; sleep 12; kill -CONT $daemon_pid
  wait $client
  record stopped "after 12 s of SIGSTOP: $(figure stopped '"%d completed, %d by their deadline, %d failed, %d unfinished" % tuple(r[0]["figures"][k] for k in ("completed", "deadline", "failed", "unfinished"))'); watchdog trips $(metric vernier_watchdog_trips_total), KV use $(metric vernier_pod_kv_cache_usage_ratio)"
  holds "$(figure stopped '[r[0]["figures"]["failed"], r[0]["figures"]["unfinished"]]') == [0, 0] and $(metric vernier_watchdog_trips_total) == 0"
}

row_simulation() { # R14: the scheduler's simulation over other seeds
  local seeds=${SOAK_SEEDS:-20} seed
  for seed in $(seq "$seeds"); do
    VERNIER_SIMULATION_SEED=$((seed * 100000)) "$bin/simulation_test" --gtest_filter='*Scheduler*' --gtest_brief=1 >/dev/null || {
      echo "VERNIER_SIMULATION_SEED=$((seed * 100000)) fails" >&2; return 1; }
  done
  record simulation "$seeds seeds, none failed"
}

row_fuzz() { # each target (or those of FUZZ_TARGETS) until it has had FUZZ_SECONDS of processor time, by rounds that may be interrupted;
  # FUZZ_TIMEOUT=20 where others work too
  local want=${FUZZ_SECONDS:-3600} name binary work spent status
  for name in ${FUZZ_TARGETS:-$(ls tests/fuzz/corpus)}; do
    binary=${FUZZ_BIN:-build/asan/bin}/${name}_fuzz work=$reports/fuzz/$name
    mkdir -p "$work"
    spent=$(cat "$work/seconds" 2>/dev/null || echo 0)
    while [ "$spent" -lt "$want" ]; do
      status=0
      VERNIER_FUZZ_SEED=0 VERNIER_FUZZ_SECONDS=120 VERNIER_FUZZ_TIMEOUT=${FUZZ_TIMEOUT:-4} bash -c 'tests/fuzz/fuzz.sh "$@" 2>"$3/log"; status=$?; times >"$3/times"; exit $status' \
        _ "$binary" "tests/fuzz/corpus/$name" "$work" || status=$?
      [ "$status" = 0 ] || { tail -n 40 "$work/log" >&2; echo "soak.sh: $name fuzzing ended with $status; its input is in $work" >&2; return 1; }
      spent=$(awk -v spent="$spent" 'NR == 2 { split($1, part, /[ms]/); print int(spent + 60 * part[1] + part[2] + 0.5) }' "$work/times")
      echo "$spent" >"$work/seconds"
      sed -n 's/^stat::number_of_executed_units: *//p' "$work/log" >>"$work/executions"
    done
    [ -e "$work/recorded" ] || record "fuzz $name" "$spent s of processor time, $(awk '{ n += $1 } END { print n }' "$work/executions") inputs, $(find "$work/corpus" -type f | wc -l) kept, nothing found"
    : >"$work/recorded"
  done
}

row_experiment() { # SmolLM2: a canary of NF4 at 10 % under real requests, its report; then one whose shadows take it back
  local folder; folder=$(mktemp -d)
  printf '%s\n' "model: {path: $(deploy/fetch_model.sh)}" "variants: [{name: fp16}, {name: int8}, {name: nf4}]" \
    "listen: 127.0.0.1:0" "http: 127.0.0.1:0" "admin: 127.0.0.1:0" "experiments: {folder: $folder/experiments}" >"$folder/config.yaml"
  launch --config "$folder/config.yaml"
  # A rate that leaves the device some time: shadows are the last to get any.
  local shape=(--rate 1.5 --prompt-tokens 20 --output-tokens 8 --warmup 0 --requests 100000 --seconds "$seconds")
  "$bin/vernier" --server "$admin" experiment create canary --arms fp16,nf4 --unit request --ramp 10 --shadow 0.5 \
    --primary errors --margin 0.01 >/dev/null
  "$bin/vernier" --server "$admin" experiment start canary >/dev/null
  load experiment run "${shape[@]}"
  "$bin/vernier" --server "$admin" experiment status canary | tee "$reports/experiment.txt"
  "$bin/vernier" --server "$admin" experiment export canary --format json >"$reports/experiment_report.json"
  "$bin/vernier" --server "$admin" experiment stop canary >/dev/null
  echo '{"id": "strict", "unit": "REQUEST", "ramp": [1], "shadow_share": 1, "guardrails": {"max_kl": 0.001},
    "arms": [{"name": "full", "variant": "fp16"}, {"name": "cheap", "variant": "nf4"}]}' | "$bin/vernier" --server "$admin" experiment put - >/dev/null
  "$bin/vernier" --server "$admin" experiment start strict >/dev/null
  load experiment_strict run "${shape[@]}"
  "$bin/vernier" --server "$admin" experiment status strict >"$reports/experiment_strict.txt"
  record experiment "$(python3 - "$reports/experiment_report.json" <<'PY'
import json, sys
r = json.load(open(sys.argv[1])); r = r.get("report", r)
arms = ", ".join(f"{a['arm']} {a['requests']} requests, {a['errors']} errors, TTFT p50 {1e3 * a['first_token']['p50']:.0f} ms" for a in r["arms"])
s = r["shadows"][0]
print(f"canary at 10 %: {arms}; shadows {s['scored']} scored, {s['dropped']} dropped, KL {s['kl_mean'] or 0:.3f}, top-1 {s['top1_mean'] or 0:.3f}; valid {r['valid']}")
PY
)"
  record experiment "at most 0.001 of KL: $(sed -n '1s/.*: //p; 3s/last change: //p' "$reports/experiment_strict.txt" | paste -sd ' ')"
  rm -rf "$folder"
  grep -q '^strict: ROLLED_BACK' "$reports/experiment_strict.txt" || { echo "soak.sh: the guardrail did not act" >&2; return 1; }
}

row_prefix() { # a prompt of 2,016 tokens on SmolLM2 in nf4, and again with all but 32 of them cached
  start_daemon
  local shape=(--variants nf4 --concurrency 1 --output-tokens 2 --warmup 0 --seconds 3600)
  load prefix_cold run "${shape[@]}" --requests 5 --prompt-tokens 2016
  load prefix_first run "${shape[@]}" --requests 1 --prompt-tokens 32 --shared-prefix 1984
  load prefix_hit run "${shape[@]}" --requests 10 --prompt-tokens 32 --shared-prefix 1984
  record prefix "TTFT p50: $(figure prefix_cold '"%.2f" % r[0]["figures"]["first_token_p50_seconds"]') s cold, $(figure prefix_hit '"%.3f" % r[0]["figures"]["first_token_p50_seconds"]') s with $(figure prefix_hit 'int(r[0]["figures"]["cached_tokens_per_second"] * r[0]["figures"]["seconds"] / r[0]["figures"]["completed"])') of 2,016 tokens cached"
}

rows=$(declare -F | sed -n 's/^declare -f row_//p')
[ $# -gt 0 ] || { echo "rows:" $rows; exit 0; }
failed=
for row in "$@"; do
  declare -F "row_$row" >/dev/null || { echo "soak.sh: no row '$row'; rows:" $rows >&2; exit 64; }
  "row_$row" || failed="$failed $row"
  kill ${daemon_pid:-} 2>/dev/null || true
done
[ -z "$failed" ] || { echo "soak.sh: failed:$failed" >&2; exit 1; }
