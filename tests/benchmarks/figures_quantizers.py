"""The figures of docs/results/contracts/quantizers.md: quantizers at equal bits; speed against vector-quantize-pytorch.

    python tests/benchmarks/figures_quantizers.py --only table     reconstruction, usage, probe and speed; three seeds
    python tests/benchmarks/figures_quantizers.py --only speed     one training step beside the library's

Protocol of the table: scikit-learn's digits, split by seed into train, valid and test (70/10/20 %); trained on train, reported
on test.  One convolutional network with 16 tokens an image and 9 bits a token: 144 bits an image.  ``rounded`` has no fixed rate:
its bits are those of its entropy model, at two weights ``beta``.  ``top-k`` and
``continuous`` have no finite rate; they are there for comparison.  The probe is logistic regression on the mean of the tokens,
as of the same network untrained.  No settings were searched.  "library" is the quantizer of vector-quantize-pytorch with its own
defaults in the same model, where it has one; equal outputs of fsq, lfq and sim-vq are tested in tests/latents.

Protocol of the speed: forward and backward, one thread, float32, alternating sides, medians of milliseconds.
"""

import json
import statistics
import time
import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.types import Features

NET = {"encoder": "conv(width=32, depth=1, blocks=0)", "decoder": "conv(width=32, depth=1, blocks=0)"}
LATENTS = [
    "vq(codes=512, dim=16)",
    "residual-vq(codes=8, layers=3, dim=16)",
    "sim-vq(codes=512, dim=16)",
    "fsq(levels=(8, 8, 8))",
    "lfq(bits=9)",
    "binary(bits=9)",
    "one-hot(classes=8, groups=3)",
    "rounded(dim=9)",
    "rounded(dim=9, beta=2.0)",
    "top-k(dim=64, k=3)",
    "continuous(dim=9)",
]


class Library(rk.Latent):
    """A quantizer of vector-quantize-pytorch as a latent; its loss, a mean over elements, is brought to nats of an example."""

    def __init__(self, module, dim, vocab, bits):
        super().__init__(in_dim=dim, out_dim=dim, vocab=vocab, weights={"commit": 1.0})
        self.module, self.rate = module, bits

    def forward(self, features):
        """Return the library's code."""
        z, indices, *loss = self.module(features.x)
        size, tokens = indices.shape[:2]
        losses = {"commit": loss[0].sum() * tokens * self.in_dim} if loss else {}
        bits = torch.full((size,), self.rate * tokens)
        indices = indices.reshape(size, tokens, len(self.vocab)).long()
        return rk.Code.of(features, z=z, indices=indices, bits=bits, losses=losses)


def library():
    """Return name -> a constructor of the library's quantizer at 9 bits a token; empty where it is not installed."""
    try:
        import vector_quantize_pytorch as peer
    except ImportError:
        return {}
    residual = {"dim": 16, "codebook_size": 8, "num_quantizers": 3}
    return {
        "library: VectorQuantize": lambda: Library(peer.VectorQuantize(16, 512), 16, (512,), 9.0),
        "library: VectorQuantize, rotation trick off": lambda: Library(
            peer.VectorQuantize(16, 512, rotation_trick=False), 16, (512,), 9.0
        ),
        "library: ResidualVQ": lambda: Library(peer.ResidualVQ(**residual), 16, (8,) * 3, 9.0),
        "library: SimVQ": lambda: Library(peer.SimVQ(16, 512), 16, (512,), 9.0),
        "library: FSQ": lambda: Library(peer.FSQ([8, 8, 8]), 3, (512,), 9.0),
        "library: LFQ": lambda: Library(peer.LFQ(dim=9, codebook_size=512), 9, (512,), 9.0),
    }


def measure(model, train_part, test):
    found = rk.evaluate(
        model, test, "reconstruction", "codebook", "linear-probe", fit_on=train_part, examples=0
    )
    kept = {
        "error": ("reconstruction", "error"),
        "bits": ("codebook", "bits"),
        "usage": ("codebook", "usage"),
        "perplexity": ("codebook", "perplexity"),
        "probe": ("linear-probe", "accuracy"),
    }
    return {name: found.get(evaluator, {}).get(key) for name, (evaluator, key) in kept.items()}


def table(latents, seeds, steps, batch, with_library):
    rows, others = {}, library() if with_library else {}
    for latent in [*latents, *others]:
        for seed in seeds:
            train_part, _, test = rk.dataset("digits").split(seed=seed, valid=True)
            torch.manual_seed(seed)
            part = others[latent]() if latent in others else latent
            model = rk.build(data=train_part, latent=part, seed=seed, **NET)
            untrained = measure(model, train_part, test)["probe"]
            options = {"batch": batch, "lr": 2e-3, "schedule": "cosine", "seed": seed}
            begin = time.process_time()
            model = rk.fit(model, train_part, steps=steps, progress=False, **options).model
            spent = (time.process_time() - begin) / steps * 1e3
            found = measure(model, train_part, test) | {"untrained": untrained, "ms a step": spent}
            rows.setdefault(latent, []).append(found)
        show(latent, rows[latent])
    return rows


def show(name, runs):
    cells = []
    for key in ("error", "bits", "usage", "perplexity", "probe", "untrained", "ms a step"):
        values = [run[key] for run in runs if run[key] is not None]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}" if values else "–")
    print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


def cases():
    """Return name -> (ours, theirs, width): the same quantizer on both sides, without projections."""
    import vector_quantize_pytorch as peer

    from reprkit.latents.fsq import FSQ
    from reprkit.latents.lfq import LFQ
    from reprkit.latents.sim_vq import SimVQ

    return {
        "fsq, levels (8, 5, 5, 5)": (FSQ(), peer.FSQ([8, 5, 5, 5]), 4),
        "lfq, 9 bits": (LFQ(9), peer.LFQ(dim=9, codebook_size=2**9, commitment_loss_weight=0.25), 9),
        "lfq, 14 bits": (LFQ(14), peer.LFQ(dim=14, codebook_size=2**14, commitment_loss_weight=0.25), 14),
        "sim-vq, 1,024 codes of 64": (SimVQ(1024, 64), peer.SimVQ(64, 1024, rotation_trick=False), 64),
    }


def speed(tokens, repeats):
    rows = {}
    for name, (ours, theirs, width) in cases().items():
        x = torch.randn(tokens // 64, 64, width).requires_grad_()

        def our_step(ours=ours, x=x):
            code = ours(Features(x=x))
            (code.z.sum() + sum(code.losses.values())).backward()
            ours.update()

        def their_step(theirs=theirs, x=x):
            z, *rest = theirs(x)
            loss = rest[1] if len(rest) > 1 else 0.0
            (z.sum() + loss).backward()

        taken = {"ours": [], "theirs": []}
        for round_ in range(repeats + 1):
            for side, step in (("ours", our_step), ("theirs", their_step)):
                begin = time.process_time()
                step()
                if round_:  # the first warms up
                    taken[side].append((time.process_time() - begin) * 1e3)
        rows[name] = {side: statistics.median(each) for side, each in taken.items()}
        ratio = rows[name]["theirs"] / rows[name]["ours"]
        print(
            f"| {name} | {rows[name]['theirs']:.1f} | {rows[name]['ours']:.1f} | {ratio:.1f} × |", flush=True
        )
    return rows


def main(
    only: Annotated[str, typer.Option(help="table or speed; both if empty")] = "",
    latents: Annotated[list[str], typer.Option()] = LATENTS,
    seeds: int = 3,
    first: int = 10,
    steps: int = 400,
    batch: int = 64,
    with_library: Annotated[bool, typer.Option("--library/--no-library", help="rows of the library")] = True,
    tokens: int = 4_096,
    repeats: int = 11,
    out: str = "runs/figures/quantizers.json",
) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    record = {}
    if only in ("", "table"):
        print(
            "| latent | error | bits | usage | perplexity | probe | untrained | ms a step |"
            + "\n"
            + "|---" * 8
            + "|"
        )
        record["table"] = table(latents, range(first, first + seeds), steps, batch, with_library)
    if only in ("", "speed"):
        print("| step | vector-quantize-pytorch, ms | ours, ms | ratio |\n|---|---|---|---|")
        record["speed"] = speed(tokens, repeats)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    typer.run(main)
