#!/usr/bin/env bash
# Installs the Debian 12 / Ubuntu 24.04 packages that Vernier needs: `deploy/packages.sh [build] [test] [analysis] [bundle]`.
# Asks for root (or sudo) only when something is missing; a second run takes a moment.
set -euo pipefail

build=(build-essential cmake ninja-build ccache pkg-config curl python3 python3-pip
  libabsl-dev libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libssl-dev
  prometheus-cpp-dev libboost-dev libyaml-cpp-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev libcli11-dev libxxhash-dev libsqlite3-dev)
test=(git libgtest-dev libgmock-dev jq prometheus bubblewrap nginx-light
  golang-go golang-github-masterminds-sprig-dev python3-yaml python3-venv)
analysis=(clang clang-tidy clang-format libclang-rt-dev)
bundle=(patchelf)

wanted=()
for group in "${@:-build}"; do
  case "$group" in
    build) wanted+=("${build[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    analysis) wanted+=("${analysis[@]}") ;;
    bundle) wanted+=("${bundle[@]}") ;;
    *) echo "packages.sh: unknown group '$group' (build, test, analysis, bundle)" >&2; exit 64 ;;
  esac
done

command -v dpkg-query >/dev/null || {
  echo "packages.sh: this is neither Debian nor Ubuntu; install by hand: ${wanted[*]}" >&2; exit 69; }
missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

run=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "packages.sh: run as root, or install sudo; wanted: ${missing[*]}" >&2; exit 77; }
  run=(sudo)
fi
echo "installing ${#missing[@]} packages: ${missing[*]}"
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null ||
  echo "packages.sh: apt-get update failed; trying with the lists at hand" >&2
# The tests start prometheus and nginx themselves, on ports of their own: nothing of them is to run, now or after a boot.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${run[@]}" tee "$policy" >/dev/null && "${run[@]}" chmod 755 "$policy"
  trap '"${run[@]}" rm -f "$policy"' EXIT
fi
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" || {
  echo "packages.sh: apt-get could not install them; see its message above" >&2; exit 69; }
for service in prometheus nginx; do
  for package in "${missing[@]}"; do
    case "$package" in
      "$service"*) "${run[@]}" systemctl disable -q "$service" 2>/dev/null || true ;;
    esac
  done
done
