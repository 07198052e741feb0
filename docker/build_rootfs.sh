#!/usr/bin/env bash
# Lays out the files of docker/rootfs.txt: `docker/build_rootfs.sh FOLDER`. Needs a build (build/release/bin), no root and no daemon.
# VERNIER_BIN: where the programs are, when not there.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 1 ] || { echo "usage: docker/build_rootfs.sh FOLDER" >&2; exit 64; }
out=$1
[ ! -e "$out" ] || [ -z "$(ls -A "$out")" ] || { echo "build_rootfs.sh: $out is not empty" >&2; exit 64; }

source_of() { # where a line's source is
  case "$1" in
    build/release/bin/*) echo "${VERNIER_BIN:-build/release/bin}/${1##*/}" ;;
    *) echo "$1" ;;
  esac
}
libraries_of() { # the shared libraries of a program, as paths, and the loader
  ldd "$1" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p'
}

while read -r kind path source; do
  case "$kind" in
    ''|'#'*) continue ;;
    dir) install -d -m 755 "$out$path" ;;
    file) install -D -m 644 "$(source_of "$source")" "$out$path" ;;
    program)
      program=$(source_of "$source")
      install -D -m 755 "$program" "$out$path"
      strip "$out$path"
      libraries_of "$program" | while read -r library; do
        [ -e "$out$library" ] || install -D -m 755 "$library" "$out$library"
      done ;;
    *) echo "build_rootfs.sh: rootfs.txt: unknown kind '$kind'" >&2; exit 65 ;;
  esac
done < docker/rootfs.txt
# Whatever the time of the build: the same files give the same image.
find "$out" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
