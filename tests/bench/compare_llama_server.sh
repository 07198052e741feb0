#!/usr/bin/env bash
# Streaming clients of vernierd beside those of llama-server, on the same weights, threads and machine, in turns.
#
#   tests/bench/compare_llama_server.sh [--threads 2] [--rounds 3] [--seconds 25] [--clients 16] [--inter-token 0.035] [--work DIR] [--readme README.md]
#
# Clients run on the same cores: vernier-loadtest for vernierd, sse_client.py for llama-server, both in a closed loop over prompts of
# 128 random tokens and answers of 64. Both heads are of 8 bits or less. vernierd's prompts are cut so that a step takes at most
# --inter-token seconds (0.035; its default is 0.1): llama-server lets first tokens wait instead. llama-server is built as compare_llama_cpp.sh builds it, in
# --work. Prints the table of medians; --readme puts it between that file's markers.
set -euo pipefail
cd "$(dirname "$0")/../.."
threads=2 rounds=3 seconds=25 clients=16 inter_token=0.035 work=${TMPDIR:-/tmp}/vernier_llama_cpp readme=
while [ $# -gt 0 ]; do
  case $1 in
    --threads) threads=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --clients) clients=$2; shift 2 ;;
    --inter-token) inter_token=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --readme) readme=$2; shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
  esac
done
bin=${VERNIER_BIN:-build/release/bin}
model=${VERNIER_MODEL:-$(deploy/fetch_model.sh)}
tests/bench/compare_llama_cpp.sh --build-only --work "$work"

csv=$work/server_rivals.csv
echo "round,engine,type,figure,value" >"$csv"
lengths=(--concurrency "$clients" --prompt-tokens 128 --output-tokens 64)
trap '[ -z "${server:-}" ] || kill "$server" 2>/dev/null || true' EXIT

since() { awk -v began="$1" -v now="$EPOCHREALTIME" 'BEGIN { print now - began }'; }
stop() { # ROUND ENGINE TYPE: of what runs as $server, whose reports are in $report; its memory and figures
  echo "$1,$2,$3,resident_bytes,$(awk '/^VmRSS/ {print $2 * 1024}' "/proc/$server/status")" >>"$csv"
  kill "$server"
  wait "$server" || true
  server=
  python3 - "$report" "$1,$2,$3" >>"$csv" <<'EOF'
import json, sys
figures = json.load(open(sys.argv[1]))["runs"][0]["figures"]
for name in ("output_tokens_per_second", "first_token_p50_seconds", "first_token_p99_seconds", "inter_token_p50_seconds",
             "inter_token_p99_seconds", "failed"):
    print(f"{sys.argv[2]},{name},{figures[name]}")
EOF
}
ours() { # ROUND FORMAT
  local log=$work/vernierd.log config=$work/vernierd.yaml began
  printf '%s\n' "model: {path: '$model'}" "threads: $threads" "engine: {max_sequences: $clients, inter_token_seconds: $inter_token}" \
    "variants: [{name: $2, lm_head: int8}]" >"$config"
  : >"$log"  # or the first look finds none
  began=$EPOCHREALTIME
  "$bin/vernierd" --config "$config" --listen 127.0.0.1:0 --http 127.0.0.1:0 >"$log" 2>&1 &
  server=$!
  until grep -q '^ready' "$log"; do kill -0 "$server"; sleep 0.01; done
  echo "$1,vernier,$2,ready_seconds,$(since "$began")" >>"$csv"
  report=$work/report.json
  "$bin/vernier-loadtest" run --server "$(sed -n 's/^ready.*grpc=\([^ ]*\).*/\1/p' "$log")" --seconds "$seconds" --quiet "${lengths[@]}" \
    --json "$report" >/dev/null
  stop "$1" vernier "$2"
}
theirs() { # ROUND TYPE
  local log=$work/llama-server.log port=18090 began
  began=$EPOCHREALTIME
  "$work/bin/llama-server" -m "$work/$2.gguf" -t "$threads" -np "$clients" -c $((clients * 256)) --port $port --no-webui >"$log" 2>&1 &
  server=$!
  until curl -sf "http://127.0.0.1:$port/health" >/dev/null; do kill -0 "$server"; sleep 0.01; done
  echo "$1,llama-server,$2,ready_seconds,$(since "$began")" >>"$csv"
  report=$work/report.json
  python3 tests/bench/sse_client.py --port $port --seconds "$seconds" "${lengths[@]}" >"$report"
  stop "$1" llama-server "$2"
}

for round in $(seq "$rounds"); do
  ours "$round" int8; theirs "$round" Q8_0
  ours "$round" nf4; theirs "$round" Q4_0
done
python3 tests/tools/server_rival_table.py "$csv" "$threads" "$clients" "$inter_token" ${readme:+"$readme"}
