"""What two processes gain: throughput of one recipe on 1, 2, ... processes of one thread each, same global batch.

    python tests/benchmarks/bench_ranks.py [--processes 1 2] [--rounds 5] [--steps 30] [--batch 128] [--models conv vit]
                                           [--strategies ddp fsdp] [--out runs/bench/ranks.json]

On the CPU, over gloo.  Efficiency is the throughput on n processes over n times that on one: 1 would be perfect.  A round runs
every number of processes once, in turn, so that a machine that becomes busy or hot is so for all; medians over the rounds are
printed.  The clock starts after a few steps and stops when the last rank is through.  Data are random images (32 x 32 x 3): what
they show does not matter to the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

import reprkit as rk
from reprkit.testing.processes import ranks

MODELS = {
    "conv": ("conv(width=32)", "conv(width=32)"),
    "vit": ("vit(patch=4, width=128, depth=4, heads=4)", "vit(patch=4, width=64, depth=2, heads=4)"),
}
WARM = 3  # steps before the clock starts: first allocations, k-means, compiled kernels


def timed(
    rank: int, model: str, strategy: str, steps: int, batch: int, latent: str
) -> tuple[float, int, float]:
    """Images a second of a run on this many processes; parameters; the last loss."""
    torch.set_num_threads(1)
    data = rk.dataset(torch.rand(4 * batch, 32, 32, 3, generator=torch.Generator().manual_seed(0)))
    encoder, decoder = MODELS[model]
    made = rk.build(data=data, encoder=encoder, latent=latent, decoder=decoder)
    size = sum(parameter.numel() for parameter in made.parameters())
    started, loss = 0.0, torch.zeros(())
    for step in rk.loop(
        made,
        data,
        steps=WARM + steps,
        batch=batch,
        device="cpu",
        strategy=strategy,
        log_every=0,
        progress=False,
    ):
        if step.index == WARM:
            started = time.perf_counter()
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        loss = losses.total
    return steps * batch / (time.perf_counter() - started), size, float(loss.detach())


def main() -> None:
    """Run the rounds and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--strategies", nargs="+", default=["ddp"], choices=["ddp", "fsdp"])
    parser.add_argument("--latent", default="gaussian(dim=16)")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()

    cases = [(m, s, n) for m in asked.models for s in asked.strategies for n in asked.processes]
    # One process has nothing to cut or to exchange: its one row is the measure for all strategies.
    cases = list(dict.fromkeys((m, "ddp" if n == 1 else s, n) for m, s, n in cases))
    found: dict[tuple[str, str, int], list[float]] = {case: [] for case in cases}
    sizes: dict[str, int] = {}
    for round_ in range(asked.rounds):
        for model, strategy, n in cases if round_ % 2 == 0 else cases[::-1]:
            told = ranks(n, timed, model, strategy, asked.steps, asked.batch, asked.latent, timeout=1800)
            found[model, strategy, n].append(min(rate for rate, *_ in told))
            sizes[model] = told[0][1]

    threads = os.cpu_count()
    print(f"{platform.machine()}, {threads} CPUs, torch {torch.__version__}; global batch {asked.batch}, ")
    print(f"{asked.latent}, {asked.rounds} rounds of {asked.steps} steps, one thread a process\n")
    print("| model | parameters | strategy | processes | images/s (median) | spread | efficiency |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for (model, strategy, n), rates in found.items():
        median = statistics.median(rates)
        base = found.get((model, "ddp", 1))
        efficiency = median / (n * statistics.median(base)) if base else float("nan")
        spread = (max(rates) - min(rates)) / median
        print(
            f"| {model} | {sizes[model] / 1e6:.2f} M | {'-' if n == 1 else strategy} | {n} | {median:.1f} | {spread:.0%} "
            f"| {efficiency:.2f} |"
        )
        rows.append(
            {"model": model, "parameters": sizes[model], "strategy": strategy, "processes": n, "images_per_second": rates,
             "efficiency": efficiency}
        )  # fmt: skip
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        settings = {key: str(value) for key, value in vars(asked).items()}
        asked.out.write_text(
            json.dumps({"settings": settings, "torch": torch.__version__, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
