#!/usr/bin/env python3
"""Writes the seeds of tokenizer_fuzz: small files that are read, one a feature. Run once; the output is committed.

Usage: make_tokenizer_seeds.py tests/fuzz/corpus/tokenizer
"""
import json
import struct
import sys
from pathlib import Path

LETTERS = {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5, "\u0120": 6, "\u0120a": 7}
SPACED = {"<unk>": 0, "<s>": 1, "\u2581": 2, "a": 3, "b": 4, "ab": 5, "\u2581a": 6, "<0x0A>": 7, "<0xC3>": 8, "<0x9F>": 9}
ADDED = [{"id": 1, "content": "<s>", "special": True},
         {"id": 20, "content": "<X>", "normalized": True, "single_word": True, "lstrip": True, "rstrip": True}]


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def raw(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def character_map():
    """One key, "A", that becomes "bc"."""
    units = [0] * 256
    units[0] = 1 << 10
    units[1 ^ 65] = 65 | 1 << 8 | 2 << 10
    units[1 ^ 65 ^ 2] = 1 << 31
    return struct.pack("<I", 1024) + struct.pack("<256I", *units) + b"bc\0"


def model(kind, more_trainer=b"", normalizer=b""):
    pieces = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3), ("\u2581", -3, 1), ("a", -4, 1), ("b", -5, 1), ("ab", -1, 1),
              ("\u2581a", -2, 1), ("ba", 0, 4), ("bb", -2.5, 5), ("<0xC3>", 0, 6), ("<0x9F>", 0, 6)]
    out = b"".join(raw(1, raw(1, text.encode()) + b"\x15" + struct.pack("<f", score) + number(3, type_))
                   for text, score, type_ in pieces)
    return out + raw(2, number(3, kind) + more_trainer) + raw(3, normalizer)


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    spaces = {"replacement": "\u2581", "prepend_scheme": "first"}
    files = {
        "byte_level.json": {
            "model": {"type": "BPE", "vocab": LETTERS, "merges": ["a b", "b c", "ab c", "\u0120 a"]},
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"}, "behavior": "Isolated", "invert": False},
                {"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False}]},
            "decoder": {"type": "ByteLevel"}},
        "characters.json": {
            "added_tokens": ADDED,
            "model": {"type": "BPE", "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>", "vocab": SPACED,
                      "merges": [["a", "b"], ["\u2581", "a"]]},
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
                {"type": "Replace", "pattern": {"Regex": "x+"}, "content": "y"}]},
            "post_processor": {"type": "TemplateProcessing",
                               "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}},
        "unigram.json": {
            "added_tokens": ADDED,
            "model": {"type": "Unigram", "unk_id": 0, "vocab": [[piece, -float(id)] for piece, id in SPACED.items()]},
            "pre_tokenizer": {"type": "Metaspace", **spaces}, "decoder": {"type": "Metaspace", **spaces}},
    }
    for name, value in files.items():
        (out / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    (out / "bpe.model").write_bytes(model(2, number(35, 1)))
    (out / "unigram.model").write_bytes(model(1, normalizer=raw(2, character_map()) + number(4, 1)))


if __name__ == "__main__":
    main()
