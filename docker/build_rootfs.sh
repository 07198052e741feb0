#!/usr/bin/env bash
# Lays out the files of docker/rootfs.txt: `docker/build_rootfs.sh [--cuda [--without-cublas]] FOLDER`. Needs a build (build/release, or
# build/cuda with --cuda), no root and no daemon. VERNIER_BIN: where the programs are, when not there.
# --without-cublas: for a base image or a volume that has libcublasLt.so.13 (540 MB) in the loader's path.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=release cublas=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --cuda) preset=cuda; shift ;;
    --without-cublas) cublas=no; shift ;;
    *) break ;;
  esac
done
[ $# -eq 1 ] || { echo "usage: docker/build_rootfs.sh [--cuda [--without-cublas]] FOLDER" >&2; exit 64; }
out=$1
[ ! -e "$out" ] || [ -z "$(ls -A "$out")" ] || { echo "build_rootfs.sh: $out is not empty" >&2; exit 64; }

source_of() { # where a line's source is
  case "$1" in
    build/release/bin/*) echo "${VERNIER_BIN:-build/$preset/bin}/${1##*/}" ;;
    *) echo "$1" ;;
  esac
}
libraries_of() { # the shared libraries of a program, as paths, and the loader
  ldd "$1" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p'
}

install_linked() { # PROGRAM PATH: stripped, with its libraries where the loader looks for them
  install -D -m 755 "$1" "$out$2"
  strip "$out$2"
  libraries_of "$1" | while read -r library; do
    case "$library" in
      *libcublasLt*) [ "$cublas" = yes ] || continue; to=/usr/lib/${library##*/} ;;  # the toolkit's folder is not in the image
      */libcuda.so*) continue ;;  # the driver's: the container runtime brings it
      *) to=$library ;;
    esac
    [ -e "$out$to" ] || install -D -m 755 "$library" "$out$to"
  done
}

while read -r kind path source; do
  case "$kind" in
    ''|'#'*) continue ;;
    dir) install -d -m 755 "$out$path" ;;
    file) install -D -m 644 "$(source_of "$source")" "$out$path" ;;
    program)
      install_linked "$(source_of "$source")" "$path" ;;
    module)
      [ "$preset" = release ] || install_linked "$source" "$path" ;;
    *) echo "build_rootfs.sh: rootfs.txt: unknown kind '$kind'" >&2; exit 65 ;;
  esac
done < docker/rootfs.txt
# Whatever the time of the build: the same files give the same image.
find "$out" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
