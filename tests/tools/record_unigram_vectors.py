#!/usr/bin/env python3
"""Trains a small SentencePiece unigram model and records its ids.

Usage: record_unigram_vectors.py TEXTS.jsonl FOLDER [NORMALIZATION]
Writes FOLDER/unigram.model and FOLDER/vectors.jsonl. TEXTS has a "text" a line: all train, every
third is recorded. NORMALIZATION is one of SentencePiece's names; without it a few rules of our own,
which keep the file small. Needs `pip install sentencepiece`.
"""

import json
import os
import sys
import tempfile

import sentencepiece

# Code points in hex: what is replaced, by what. Long matches, growth, deletion.
RULES = """\
41 308\tC4
FB01\t66 69
2460\t31
FF21\t41
2026\t2E 2E 2E
200B\t
3000\t20
9\t20
A\t20
"""
PROBES = ["", " ", "  two  spaces ", "ﬁn①Ａ…", "A\u0308A", "zero\u200bwidth", "\ttab\nline\u3000wide",
          "\U0001f642\U0001f642 東京", "<s>", "▁ literal ▁▁", "a" * 300, "unk ☃☃☃ unk"]


def main() -> None:
    texts_path, folder = sys.argv[1:3]
    with open(texts_path, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    os.makedirs(folder, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write(RULES)
        rules.flush()
        normalization = (
            {"normalization_rule_name": sys.argv[3]} if len(sys.argv) > 3
            else {"normalization_rule_tsv": rules.name})
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_prefix=os.path.join(folder, "unigram"),
            model_type="unigram", vocab_size=800, character_coverage=0.98, num_threads=1,
            user_defined_symbols=["<sep>"], max_sentence_length=1 << 20, hard_vocab_limit=False,
            **normalization)
    os.remove(os.path.join(folder, "unigram.vocab"))
    model = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "unigram.model"))
    with open(os.path.join(folder, "vectors.jsonl"), "w", encoding="utf-8") as out:
        for text in PROBES + texts[::3]:
            ids = model.encode(text)
            line = {"text": text, "ids": ids, "decoded": model.decode(ids)}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"sentencepiece {sentencepiece.__version__}, {model.vocab_size()} pieces")


if __name__ == "__main__":
    main()
