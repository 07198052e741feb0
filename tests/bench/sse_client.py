#!/usr/bin/env python3
"""A closed loop of streaming clients of llama-server's /completion; prints figures as vernier-loadtest's JSON names them.

Usage: sse_client.py --port PORT --seconds 25 --concurrency 16 --prompt-tokens 128 --output-tokens 64 [--vocab 49152] [--seed 1]

Each client sends random token ids, reads its stream to the end and begins anew; what is still open at the end counts with the tokens
that it has brought. Latency counts from the moment of sending. Standard library alone, one thread.
"""
import argparse
import asyncio
import json
import random
import sys
import time


class Figures:
    def __init__(self):
        self.first, self.gaps, self.tokens, self.failed = [], [], 0, 0


async def messages(reader):
    """The objects of `data:` lines; a chunk's length lines are no such."""
    while True:
        line = await reader.readline()
        if not line:
            return
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


async def one_call(options, body, deadline, figures):
    reader, writer = await asyncio.open_connection("127.0.0.1", options.port)
    try:
        writer.write(b"POST /completion HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body) + body)
        last, seen = time.monotonic(), 0
        async for message in messages(reader):
            now = time.monotonic()
            if now >= deadline:
                return
            count = len(message.get("tokens") or [])
            if count > 0:
                (figures.gaps if seen else figures.first).append(now - last)
                last, seen = now, seen + count
                figures.tokens += count
            if message.get("stop"):
                break
        if seen != options.output_tokens:
            figures.failed += 1
    finally:
        writer.close()


async def client(options, seed, deadline, figures):
    values = random.Random(seed)
    while time.monotonic() < deadline:
        prompt = [values.randrange(100, options.vocab) for _ in range(options.prompt_tokens)]
        body = json.dumps({"prompt": prompt, "n_predict": options.output_tokens, "stream": True, "ignore_eos": True,
                           "cache_prompt": False, "return_tokens": True, "temperature": 0}).encode()
        try:
            await one_call(options, body, deadline, figures)
        except (OSError, ValueError) as error:
            print(f"sse_client.py: {error}", file=sys.stderr)
            figures.failed += 1
            await asyncio.sleep(0.1)


def percentile(values, share):
    """Linear between ranks, as numpy's."""
    if not values:
        return float("nan")
    values = sorted(values)
    at = share * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


async def run(options):
    figures = Figures()
    deadline = time.monotonic() + options.seconds
    clients = [client(options, options.seed * 1000 + i, deadline, figures) for i in range(options.concurrency)]
    await asyncio.wait_for(asyncio.gather(*clients), options.seconds + 60)
    return {"output_tokens_per_second": figures.tokens / options.seconds, "failed": figures.failed,
            "first_token_p50_seconds": percentile(figures.first, 0.5), "first_token_p99_seconds": percentile(figures.first, 0.99),
            "inter_token_p50_seconds": percentile(figures.gaps, 0.5), "inter_token_p99_seconds": percentile(figures.gaps, 0.99)}


def main():
    parser = argparse.ArgumentParser()
    for name in ("port", "concurrency", "prompt-tokens", "output-tokens"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--vocab", type=int, default=49152)
    parser.add_argument("--seed", type=int, default=1)
    print(json.dumps({"runs": [{"figures": asyncio.run(run(parser.parse_args()))}]}))


if __name__ == "__main__":
    main()
