#!/usr/bin/env bash
# Prefill of SmolLM2-135M beside PyTorch's in bf16, on the same machine, in turns.
#
#   tests/bench/compare_pytorch.sh [--threads 1,2] [--tokens 512] [--rounds 3] [--work DIR] [--readme README.md]
#
# PyTorch runs the same shapes with random weights: linear layers by oneDNN, attention by scaled_dot_product_attention, logits of the last
# token alone, eager and by torch.compile; the faster of both counts. Ours is model_bench's. Installs torch from PyPI in --work (3 GB: its
# wheel has CUDA). Prints the table of medians; --readme puts it between that file's markers.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/bench/python_rival.sh
enter_rival pytorch "torch==2.15.0 numpy" "$@"
exec "$python" tests/bench/compare_pytorch.py --model-bench "${VERNIER_BIN:-build/release/bin}/model_bench" \
  --model "${VERNIER_MODEL:-$(deploy/fetch_model.sh)}" "$@"
