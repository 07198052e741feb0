"""The race of compare_onnxruntime.sh, which says what it is and installs what this needs."""
import argparse
import csv
import datetime
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quantize_dynamic
from python_rival import median_seconds

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from markers import write_between  # noqa: E402
from rival_table import processor  # noqa: E402

HIDDEN, INNER, LAYERS = 768, 3072, 12
SECONDS = 0.5  # of one figure


def write_chain(path):
    """x [rows, HIDDEN] through LAYERS pairs of products, weights of which keep its size."""
    values = np.random.default_rng(1)
    nodes, weights, name = [], [], "x"
    for i in range(2 * LAYERS):
        shape = (HIDDEN, INNER) if i % 2 == 0 else (INNER, HIDDEN)
        weight = values.standard_normal(shape, dtype=np.float32) / np.sqrt(shape[0], dtype=np.float32)
        weights.append(onnx.numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(onnx.helper.make_node("MatMul", [name, f"w{i}"], [f"y{i}"]))
        name = f"y{i}"
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes, "chain", [tensor("x", onnx.TensorProto.FLOAT, ["rows", HIDDEN])],
                                   [tensor(name, onnx.TensorProto.FLOAT, ["rows", HIDDEN])], weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return [onnx.numpy_helper.to_array(weight) for weight in weights]


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def microseconds(run, rows):
    """Of one layer's two products, the median over runs."""
    x = np.random.default_rng(2).standard_normal((rows, HIDDEN), dtype=np.float32)
    return median_seconds(lambda: run.run(None, {"x": x}), SECONDS, 5) / LAYERS * 1e6


def check(run, weights):
    """The quantized chain within a tenth of the exact one, as a whole: it computes what it should."""
    x = np.random.default_rng(3).standard_normal((4, HIDDEN), dtype=np.float32)
    exact = x.astype(np.float64)
    for weight in weights:
        exact = exact @ weight
    error = np.linalg.norm(run.run(None, {"x": x})[0] - exact) / np.linalg.norm(exact)
    if not error < 0.1:
        sys.exit(f"compare_onnxruntime: the quantized chain errs by {error:.3f}")
    return error


def ours(options, threads):
    """{(format, rows): microseconds of the two products}"""
    out = subprocess.run([options.kernel_bench, "--csv", "--formats", "int8+a8,int8", "--threads", str(threads), "--shapes",
                          f"{INNER}x{HIDDEN},{HIDDEN}x{INNER}", "--rows", options.rows], check=True, capture_output=True, text=True).stdout
    found = {}
    for row in csv.DictReader(line for line in out.splitlines() if not line.startswith("#")):
        key = row["format"], int(row["rows"])
        found[key] = found.get(key, 0) + float(row["us"])
    return found


def render(figures, threads, rows, rounds, error):
    out = [f"{processor()}, {datetime.date.today()}: microseconds of the two products of GPT-2's MLP, as one of twelve layers; medians of "
           f"{rounds} alternated rounds, each of medians; ONNX Runtime {ort.__version__}, quantize_dynamic, a scale a column (the whole chain "
           f"errs by {error:.1%}); written by `tests/bench/compare_onnxruntime.sh`.", "",
           "| threads | rows of x | ONNX Runtime, dynamic int8 | int8+a8 | int8 |", "|---:|---:|---:|---:|---:|"]
    for t in threads:
        for n in rows:
            theirs = statistics.median(figures["onnxruntime", t, n])
            cells = [f"{theirs:,.0f}"]
            for name in ("int8+a8", "int8"):
                mine = statistics.median(figures[name, t, n])
                cells.append(f"{mine:,.0f} = **{theirs / mine:.2f}x**")
            out.append(f"| {t} | {n} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel-bench", required=True)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rows", default="1,16,128,512")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work")
    parser.add_argument("--readme")
    options = parser.parse_args()
    threads, rows = ([int(n) for n in text.split(",")] for text in (options.threads, options.rows))
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        chain, quantized = Path(folder) / "chain.onnx", Path(folder) / "int8.onnx"
        weights = write_chain(chain)
        quantize_dynamic(chain, quantized, per_channel=True, weight_type=QuantType.QInt8)
        error = check(session(quantized, 1), weights)
        for _ in range(options.rounds):
            for t in threads:
                run = session(quantized, t)
                for n in rows:
                    figures.setdefault(("onnxruntime", t, n), []).append(microseconds(run, n))
                del run  # its threads would spin
                for (name, n), us in ours(options, t).items():
                    figures.setdefault((name, t, n), []).append(us)
    table = render(figures, threads, rows, options.rounds, error)
    print(table)
    if options.readme:
        write_between(options.readme, "onnxruntime", table)


if __name__ == "__main__":
    main()
