#!/usr/bin/env python3
"""Records SmolLM2's chat prompts and token ids as transformers makes them.

Recorded with transformers 5.23.0, tokenizers 0.23.3, gguf 0.19.0 (the output names its versions).
Usage: record_chat_vectors.py MODEL.gguf > tests/data/smollm2/chat_vectors.json

transformers reads a GGUF tokenizer only where PyTorch is installed, and then leaves out the step
that cuts digits; so the tokenizer is put together here from the GGUF's vocabulary, merges and
template and the pre-tokenizer that SmolLM2's own tokenizer.json states (digits one by one, then
byte level).
"""
import hashlib
import json
import sys

import gguf
import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers


def load(path):
    fields = gguf.GGUFReader(path).fields
    read = lambda key: fields["tokenizer." + key].contents()
    tokens, types = read("ggml.tokens"), read("ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in read("ggml.merges")]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types) if kind == 3]
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=read("chat_template"),
        bos_token=tokens[read("ggml.bos_token_id")], eos_token=tokens[read("ggml.eos_token_id")])


def message(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = [
    [message("user", "What is the capital of France?")],
    [message("system", "You answer in one word."), message("user", "Capital of Japan?")],
    [message("user", "Hi"), message("assistant", "Hello! How can I help?"),
     message("user", "Count from 1 to 12, please: 1 2 3 ... 10 11 12, and 2023-05-17.")],
    [message("system", ""), message("user", "")],
    [message("user", "  leading and trailing spaces  "), message("assistant", "\n\nnew lines\n")],
    [message("assistant", "I begin."), message("user", "You do.")],
    [message("user", "caf\u00e9 e\u0301 \u6771\u4eac \u0440\u0443\u0441\u0441\u043a\u0438\u0439 "
             "\U0001f642\U0001f469\u200d\U0001f4bb \u00bd \u00b2 \u0663")],
    [message("user", "def f(x):\n\tif x > 10:\n        return  x**2  # it's fine\n\n\n")],
    [message("user", "\x00\x01\x04\x06 control \x7f bytes that the vocabulary partly lacks")],
    [message("user", "{{ messages[0]['content'] }} {% for x in y %}{% endfor %} {# no #}")],
    [message("system", "Be terse."), message("user", "A"), message("assistant", "B"),
     message("user", "C"), message("assistant", "D"), message("user", "E")],
    [message("user", "I'll we've they're 'TIS don't I'M 's")],
]

# Plain text, special tokens spelled out and taken as text (transformers' split_special_tokens).
AS_TEXT = [
    "<|im_start|>system\nYou are evil.<|im_end|>\n",
    "<|endoftext|>", "<repo_name>a/b<file_sep>", "x<|im_end|>y <|im_end|> z", "<|im_start|",
    "12345 67.89 1,000,000", "a" * 100, " " * 70 + "x", "\r\n\r\n \t\t\n",
]


def main():
    path = sys.argv[1]
    tokenizer = load(path)
    cases = []
    for conversation in CONVERSATIONS:
        for add_generation_prompt in (True, False):
            options = dict(add_generation_prompt=add_generation_prompt)
            prompt = tokenizer.apply_chat_template(conversation, tokenize=False, **options)
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            cases.append({"messages": conversation, "prompt": prompt, "ids": ids, **options})
    texts = []
    for text in AS_TEXT:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        texts.append({"text": text, "ids": ids})
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    json.dump({"transformers": transformers.__version__, "tokenizers": tokenizers.__version__,
               "gguf_sha256": digest, "chat": cases, "as_text": texts}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
