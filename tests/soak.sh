#!/usr/bin/env bash
# Long cases, and those that assert durations: run by hand, `tests/soak.sh [ROW...]` (no row: list them).
# Each run appends its figure, the date and the processor to tests/soak_results.md.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=build/release/bin
results=tests/soak_results.md

processor() { sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1; }
record() { # ROW FIGURE
  [ -f "$results" ] || printf '# Long cases as run by `tests/soak.sh`\n\n| date | row | figure | processor |\n|---|---|---|---|\n' >"$results"
  printf '| %s | %s | %s | %s |\n' "$(date -u +%F)" "$1" "$2" "$(processor)" >>"$results"
  echo "$1: $2"
}

start_daemon() { # prints nothing; sets daemon_pid, address, http
  local model; model=$(deploy/fetch_model.sh)
  log=$(mktemp)
  "$bin/vernierd" --model "$model" --variants fp16,int8,nf4 --listen 127.0.0.1:0 --http 127.0.0.1:0 >"$log" 2>&1 &
  daemon_pid=$!
  trap 'kill $daemon_pid 2>/dev/null || true' EXIT
  until grep -q '^ready' "$log"; do kill -0 $daemon_pid || { cat "$log"; exit 1; }; sleep 0.1; done
  address=$(sed -n 's/^ready.*grpc=\([^ ]*\).*/\1/p' "$log")
  http=$(sed -n 's/^ready.*http=\([^ ]*\).*/\1/p' "$log")
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

row_scrape() { # R8: scrapes at 20 a second beside 64 silent connections, and a stream in each precision
  start_daemon
  local variant
  for variant in fp16 int8 nf4; do
    "$bin/vernier" --server "$address" generate --variant $variant --max-tokens 400 --ignore-eos --raw "a story" >/dev/null 2>&1 &
  done
  local figure; figure=$(python3 - "$http" <<'PYTHON'
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
print(f"{times[len(times) // 2] * 1e3:.1f} {times[int(len(times) * 0.99) - 1] * 1e3:.1f}")
PYTHON
)
  record scrape "200 scrapes, median and p99 in ms beside 64 silent connections and three streams: $figure"
}

row_rollout() { # R4: 200 rolling restarts under load, behind nginx and with a client that balances by itself
  local python=python3 figure
  [ ! -x build/python/bin/python ] || python=build/python/bin/python
  figure=$(VERNIER_RESTARTS=200 "$python" tests/deploy/client_test.py 2>&1 | sed -n 's/.*\(200 restarts, .*\)/\1/p' | paste -sd';')
  record rollout "${figure:-failed}"
  [ "$(grep -o '0 failures' <<<"$figure" | wc -l)" = 2 ]
}

rows=$(declare -F | sed -n 's/^declare -f row_//p')
[ $# -gt 0 ] || { echo "rows:" $rows; exit 0; }
for row in "$@"; do
  declare -F "row_$row" >/dev/null || { echo "soak.sh: no row '$row'; rows:" $rows >&2; exit 64; }
  "row_$row"
done
