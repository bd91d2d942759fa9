"""What ``rk.loop`` costs: the same model, batches and fused AdamW under the loop and under a bare PyTorch loop.

    python tests/benchmarks/bench_loop.py [--rounds 31] [--steps 100] [--device cpu] [--out runs/bench/loop.json]

A small VAE (encoder and decoder of one hidden layer each, 16-d Gaussian, batch 128) on data of the size of the digits and of
MNIST.  The runs alternate, each starts from the same weights, and the ratio of medians is reported; on the CPU it is processor time
of one thread, so that a busy machine does not decide, on a GPU the clock's.  "bare" calls ``model.update()``, as any loop must; "no
update" leaves it out, which shows what the core itself adds to plain PyTorch.  The clock starts with the first step; what starting
and ending a loop takes (once a run) stands in a column of its own.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import reprkit as rk
from reprkit.data.loading.order import Order, loader
from reprkit.training.optimizers import create_optimizer

Clock = Callable[[], float]
SIZES = {"digits": (64, 256), "mnist": (784, 512)}


def synthetic(pixels: int, size: int = 4096) -> rk.Dataset:
    """Values of the right shape; what they are does not matter to the clock."""
    generator = torch.Generator().manual_seed(0)
    return rk.dataset(torch.rand(size, pixels, generator=generator))


def bare(model: rk.Model, data: rk.Dataset, steps: int, clock: Clock, *, update: bool) -> float:
    """The loop that one would write by hand; returns the time of its steps."""
    model.train()
    optimiser = create_optimizer("adamw", model.parameters(), lr=1e-3)
    started = clock()
    for batch in loader(data, Order(len(data), 128), stop=steps):
        losses = model(model.to_device(batch))
        losses.total.backward()
        optimiser.step()
        optimiser.zero_grad()
        if update:
            model.update()
    return clock() - started


def looped(model: rk.Model, data: rk.Dataset, steps: int, clock: Clock, device: str) -> float:
    """The same under ``rk.loop``, with its defaults."""
    started = ended = 0.0
    for step in rk.loop(model, data, steps=steps, batch=128, lr=1e-3, device=device):
        started = started or clock()
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.last:
            ended = clock()
    return ended - started


def compare(name: str, rounds: int, steps: int, device: str) -> dict[str, float]:
    """Milliseconds a step of the three loops, and what the loop costs more."""

    def clock() -> float:
        if device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    pixels, width = SIZES[name]
    data = synthetic(pixels)
    model = rk.build(
        data=data,
        encoder=f"mlp(widths=({width},))",
        latent="gaussian(dim=16)",
        decoder=f"mlp(widths=({width},))",
    ).to(device)
    start = copy.deepcopy(model.state_dict())
    loops: dict[str, Callable[[], float]] = {
        "bare": lambda: bare(model, data, steps, clock, update=True),
        "bare_no_update": lambda: bare(model, data, steps, clock, update=False),
        "loop": lambda: looped(model, data, steps, clock, device),
    }
    times: dict[str, list[float]] = {each: [] for each in (*loops, "set_up")}
    for turn in range(rounds + 1):
        for each, run in loops.items():
            model.load_state_dict(start)
            before = clock()
            spent = run()
            if turn:  # the first round warms up
                times[each].append(spent / steps * 1e3)
                if each == "loop":
                    times["set_up"].append((clock() - before - spent) * 1e3)
    found = {f"{each}_ms": statistics.median(values) for each, values in times.items()}
    found["overhead"] = found["loop_ms"] / found["bare_ms"] - 1
    found["overhead_over_no_update"] = found["loop_ms"] / found["bare_no_update_ms"] - 1
    return found


def main() -> None:
    """Print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="runs/bench/loop.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = {name: compare(name, given.rounds, given.steps, given.device) for name in SIZES}
    print(f"{'VAE':8} {'bare':>9} {'no update':>10} {'rk.loop':>9}  overhead (over no update)  once a run")
    for name, found in results.items():
        print(
            f"{name:8} {found['bare_ms']:6.3f} ms {found['bare_no_update_ms']:7.3f} ms {found['loop_ms']:6.3f} ms  "
            f"{found['overhead']:+.1%} ({found['overhead_over_no_update']:+.1%})            {found['set_up_ms']:.0f} ms"
        )
    record = {
        "device": given.device,
        "torch": torch.__version__,
        "machine": platform.processor(),
        "results": results,
    }
    path = Path(given.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
