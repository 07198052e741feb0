#!/usr/bin/env python3
"""Records what PyPI's package gguf reads from blocks of every tensor type that Vernier decodes, and a file that it writes.

Usage: record_gguf_vectors.py OUT_FOLDER

Needs gguf 0.19.0 and numpy. Writes OUT_FOLDER/blocks.json (bytes of blocks and the float32 values they stand for, both as hex,
little-endian) and OUT_FOLDER/types.gguf (a tensor of each type with the same bytes, and metadata of each kind). Run once; the
output is committed in tests/data/gguf.
"""
import importlib.metadata
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import GGUFValueType as Value

ROWS, COLS = 4, 64
TYPES = [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1]
# Where their blocks keep fp16 scales. The package cannot make these, or not all: every code is random.
SCALES = {Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2],
          Type.Q6_K: [208], Type.IQ4_NL: [0]}


def blocks_of(kind, random):
    """[ROWS, bytes of a row]: two rows of quantized normal values, then two of random codes under extreme scales."""
    data = random.standard_normal((ROWS, COLS)).astype(np.float32)
    data[1] *= np.float32(1e-3)
    if kind == Type.F32:
        data[2, :6] = [0.0, -0.0, 1e-45, -3.4028235e38, 1.17549435e-38, 65504.0]
        return data.view(np.uint8)
    rows = gguf.quants.quantize(data, kind)
    values, size = gguf.GGML_QUANT_SIZES[kind]
    if values == 1:
        bits = rows.view(np.uint16).copy()
        bits[2, :6] = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF]  # zeros, subnormals, halves' largest
        return bits.view(np.uint8)
    blocks = rows.reshape(-1, size).copy()
    extreme = random.integers(0, 256, blocks[4:].shape, dtype=np.uint8)
    extreme[:, :2] = np.array([0x0001, 0x7BFF, 0xFBFF, 0x8000], np.uint16).view(np.uint8).reshape(-1, 2)
    if kind == Type.Q4_1:
        extreme[:, 2:4] = np.array([0xFBFF, 0x03FF, 0x0000, 0x3C00], np.uint16).view(np.uint8).reshape(-1, 2)
    blocks[4:] = extreme
    return blocks.reshape(ROWS, -1)


def random_blocks_of(kind, random):
    """[2, bytes of a row]: random codes; scales of usual sizes in the first row, extreme ones in the last block."""
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (2 * max(COLS // values, 1), size), dtype=np.uint8)
    for number, at in enumerate(SCALES[kind]):
        scales = (random.standard_normal(len(blocks)) * 0.01).astype(np.float16)
        scales.view(np.uint16)[-1] = [0x7BFF, 0x0001][number]  # halves' largest, and their smallest subnormal
        blocks[:, at:at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(2, -1)


def main():
    out = Path(sys.argv[1])
    random = np.random.default_rng(20240229)
    writer = gguf.GGUFWriter(out / "types.gguf", "test")
    for number, (kind, value) in enumerate([
            (Value.UINT8, 255), (Value.INT8, -128), (Value.UINT16, 65535), (Value.INT16, -32768),
            (Value.UINT32, 4294967295), (Value.INT32, -2147483648), (Value.UINT64, 2**64 - 1), (Value.INT64, -2**63),
            (Value.FLOAT32, 0.1), (Value.FLOAT64, 0.1), (Value.BOOL, True), (Value.STRING, "h\u00e9llo")]):
        writer.add_key_value(f"test.{kind.name.lower()}", value, kind)
    writer.add_array("test.strings", ["a", "", "bc"])
    writer.add_array("test.integers", [1, -2, 3])
    writer.add_array("test.floats", [0.5, -1.5])
    writer.add_array("test.bools", [True, False])

    vectors = []
    for kind in [*TYPES, *SCALES]:
        rows = blocks_of(kind, random) if kind in TYPES else random_blocks_of(kind, random)
        values = gguf.quants.dequantize(rows, kind).astype("<f4")
        assert np.isfinite(values).all()
        vectors.append({"type": kind.name.lower(), "id": int(kind), "rows": values.shape[0], "cols": values.shape[1],
                        "bytes": rows.tobytes().hex(), "values": values.tobytes().hex()})
        shaped = rows.view(np.float32) if kind == Type.F32 else rows
        writer.add_tensor(f"{kind.name.lower()}.weight", shaped, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    record = {"gguf": importlib.metadata.version("gguf"), "types": [[int(t), t.name.lower()] for t in Type]}
    lines = ",\n".join(json.dumps(v) for v in vectors)
    (out / "blocks.json").write_text(f'{json.dumps(record)[:-1]}, "vectors": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
