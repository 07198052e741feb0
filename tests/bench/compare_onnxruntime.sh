#!/usr/bin/env bash
# Products of 8-bit weights with dynamically quantized rows beside ONNX Runtime's, on the same machine, in turns.
#
#   tests/bench/compare_onnxruntime.sh [--threads 1,2] [--rows 1,16,128,512] [--rounds 5] [--work DIR] [--readme README.md]
#
# The case: the two products of GPT-2's MLP, 768 to 3,072 and back, of twelve layers, one after the other: 57 MB of bytes. ONNX Runtime
# runs them as its own tool quantizes them (quantize_dynamic, signed bytes, a scale a column), ours as kernel_bench's int8+a8 and int8.
# Installs onnxruntime and onnx from PyPI in --work. Prints the table of medians; --readme puts it between that file's markers.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/bench/python_rival.sh
enter_rival onnxruntime "onnxruntime==1.32.0 onnx==1.23.2 numpy" "$@"
exec "$python" tests/bench/compare_onnxruntime.py --kernel-bench "${VERNIER_BIN:-build/release/bin}/kernel_bench" "$@"
