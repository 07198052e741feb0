#!/usr/bin/env bash
# Packs what runs elsewhere: `deploy/bundle.sh [--preset cuda|release] [--without-cublas] OUT.tar.gz PROGRAM...`
# PROGRAMs are names in the preset's bin/ (default: vernierd vernier). The tarball has bin/, lib/ (the CUDA module where the
# preset built one, and every shared library that is not the system's own) and runs from any folder on x86-64 Linux with
# glibc 2.36 or newer; the CUDA module also wants an NVIDIA driver. --without-cublas leaves out libcublasLt.so.13 (540 MB)
# for machines that have it.
set -euo pipefail
shopt -s nullglob  # no module: nothing in lib/ yet
cd "$(dirname "$0")/.."

preset=cuda
cublas=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --preset) preset=${2:?--preset wants a name}; shift 2 ;;
    --without-cublas) cublas=no; shift ;;
    --help|-h) sed -n '2,7s/^# //p' "$0"; exit 0 ;;
    -*) echo "bundle.sh: unknown option $1 (--help lists them)" >&2; exit 64 ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || { echo "bundle.sh: wants OUT.tar.gz; --help says more" >&2; exit 64; }
out=$(realpath -m "$1"); shift
[ $# -gt 0 ] || set -- vernierd vernier
command -v patchelf >/dev/null || { echo "bundle.sh: needs patchelf (deploy/packages.sh bundle)" >&2; exit 69; }

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/vernier/bin" "$stage/vernier/lib"
for program in "$@"; do
  [ -x "build/$preset/bin/$program" ] || { echo "bundle.sh: no build/$preset/bin/$program; build it first" >&2; exit 66; }
  cp "build/$preset/bin/$program" "$stage/vernier/bin/"
done
[ -e "build/$preset/lib/libvernier_cuda.so" ] && cp "build/$preset/lib/libvernier_cuda.so" "$stage/vernier/lib/"

# The C library is the host's, and so is what belongs to it; everything else comes along, the C++ library too.
system='/(ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libresolv|libcuda)\.so'
missing=$(ldd "$stage"/vernier/bin/* "$stage"/vernier/lib/* 2>/dev/null | awk '/not found/ {print $1}' | sort -u)
[ -z "$missing" ] || { echo "bundle.sh: not found: $missing" >&2; exit 66; }
ldd "$stage"/vernier/bin/* "$stage"/vernier/lib/* | awk '/=> \// {print $3}' | sort -u | grep -vE "$system" |
  while read -r library; do
    [ "$cublas" = no ] && [[ "$library" == *libcublasLt* ]] && continue
    cp -Lu "$library" "$stage/vernier/lib/"
  done
strip --strip-unneeded "$stage"/vernier/bin/* "$stage"/vernier/lib/libvernier_cuda.so 2>/dev/null || true
# One rule finds the libraries from bin/ and from lib/, and before the host's.
for file in "$stage"/vernier/bin/* "$stage"/vernier/lib/*; do
  patchelf --force-rpath --set-rpath '$ORIGIN/../lib' "$file"
done
cp LICENSE "$stage/vernier/"
tar -C "$stage" -czf "$out" vernier
echo "$out: $(du -h "$out" | cut -f1)"
