"""The race of compare_pytorch.sh, which says what it is and installs what this needs."""
import argparse
import datetime
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from python_rival import median_seconds
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from markers import write_between  # noqa: E402
from rival_table import processor  # noqa: E402

# SmolLM2-135M.
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD, VOCAB = 576, 1536, 30, 9, 3, 64, 49152
FORMATS = ["bf16", "bf16+abf16", "fp16", "int8", "int8+a8"]
SECONDS = 3  # of one figure


class Llama(torch.nn.Module):
    def __init__(self):
        super().__init__()
        def weight(rows, cols):
            return torch.nn.Parameter(torch.randn(rows, cols) / cols**0.5, requires_grad=False)

        self.embedding = weight(VOCAB, HIDDEN)
        self.layers = torch.nn.ModuleList()
        for _ in range(LAYERS):
            layer = torch.nn.Module()
            layer.qkv = weight((HEADS + 2 * KV_HEADS) * HEAD, HIDDEN)
            layer.o = weight(HIDDEN, HEADS * HEAD)
            layer.gate_up = weight(2 * INNER, HIDDEN)
            layer.down = weight(HIDDEN, INNER)
            layer.norms = torch.nn.Parameter(torch.ones(2, HIDDEN), requires_grad=False)
            self.layers.append(layer)
        self.norm = torch.nn.Parameter(torch.ones(HIDDEN), requires_grad=False)

    def forward(self, ids, cos, sin):
        def turned(x):
            a, b = x.chunk(2, dim=-1)
            return x * cos + torch.cat((-b, a), dim=-1) * sin

        x = F.embedding(ids, self.embedding)
        for layer in self.layers:
            qkv = F.linear(F.rms_norm(x, (HIDDEN,), layer.norms[0]), layer.qkv)
            q, k, v = (part.unflatten(-1, (-1, HEAD)).transpose(0, 1)[None]
                       for part in qkv.split([HEADS * HEAD, KV_HEADS * HEAD, KV_HEADS * HEAD], dim=-1))
            attended = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True, enable_gqa=True)
            x = x + F.linear(attended[0].transpose(0, 1).flatten(1), layer.o)
            gate, up = F.linear(F.rms_norm(x, (HIDDEN,), layer.norms[1]), layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        return F.linear(F.rms_norm(x[-1], (HIDDEN,), self.norm), self.embedding)


def inputs(tokens, dtype):
    ids = torch.randint(VOCAB, (tokens,))
    angles = torch.arange(tokens)[:, None] / 1e5 ** (torch.arange(0, HEAD, 2) / HEAD)
    both = torch.cat((angles, angles), dim=-1)
    return ids, both.cos().to(dtype), both.sin().to(dtype)


def check(model, exact, tokens):
    """The bf16 model's logits within a twentieth of fp32's, as a whole: it computes what it should."""
    torch.manual_seed(2)
    ids, cos, sin = inputs(tokens, torch.float32)
    want = exact(ids, cos, sin)
    error = (model(ids, cos.bfloat16(), sin.bfloat16()).float() - want).norm() / want.norm()
    if not error < 0.05:
        sys.exit(f"compare_pytorch: bf16 errs by {error:.3f}")


def theirs(run, tokens):
    """Tokens/s, the median over runs."""
    arguments = inputs(tokens, torch.bfloat16)
    return tokens / median_seconds(lambda: run(*arguments), SECONDS, 3)


def ours(options, threads, validate):
    """{format: tokens/s}"""
    out = subprocess.run([options.model_bench, "--model", options.model, "--formats", ",".join(FORMATS), "--threads", str(threads), "--batches",
                          "1", "--prompts", str(options.tokens), "--csv", "--skip-memory", *([] if validate else ["--skip-validation"])],
                         check=True, capture_output=True, text=True).stdout
    rows = (line.split(",") for line in out.splitlines() if line.startswith("prefill,"))
    return {row[1]: float(row[5]) for row in rows}


def render(figures, threads, options):
    out = [f"SmolLM2-135M's shapes on {processor()}, {datetime.date.today()}: prefill of {options.tokens} tokens, tokens/s of Vernier / of PyTorch "
           f"{torch.__version__.split('+')[0]} in bf16 (eager or compiled, whichever is faster), medians of {options.rounds} alternated rounds; "
           "written by `tests/bench/compare_pytorch.sh`.", "", "| threads | PyTorch bf16 | " + " | ".join(FORMATS) + " |",
           "|---:|---:|" + "---:|" * len(FORMATS)]
    for t in threads:
        rival = max(statistics.median(figures[name, t]) for name in ("eager", "compiled"))
        cells = [f"{mine:,.0f} = **{mine / rival:.2f}x**" for mine in (statistics.median(figures[name, t]) for name in FORMATS)]
        out.append(f"| {t} | {rival:,.0f} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-bench", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work")
    parser.add_argument("--readme")
    options = parser.parse_args()
    threads = [int(n) for n in options.threads.split(",")]
    torch.manual_seed(1)
    exact = Llama()
    model = Llama()
    model.load_state_dict(exact.state_dict())
    model = model.bfloat16()
    figures = {}
    with torch.inference_mode():
        check(model, exact, options.tokens)
        runs = {"eager": model, "compiled": torch.compile(model)}
        for i in range(options.rounds):
            for t in threads:
                torch.set_num_threads(t)
                for name, run in runs.items():
                    figures.setdefault((name, t), []).append(theirs(run, options.tokens))
                for name, speed in ours(options, t, i == 0).items():
                    figures.setdefault((name, t), []).append(speed)
    for key, values in figures.items():
        print(*key, *(f"{value:.0f}" for value in values), file=sys.stderr)
    table = render(figures, threads, options)
    print(table)
    if options.readme:
        write_between(options.readme, "pytorch", table)


if __name__ == "__main__":
    main()
