"""The figures of docs/results/contracts/accumulation.md: one contrastive step in pieces, beside the whole batch.

    OMP_NUM_THREADS=1 python tests/benchmarks/figures_accumulation.py

128 random images (64, 64, 3), two views by masks and noise, dropout 0.1, a ViT of width 128 and depth 4; each number of pieces runs
in a process of its own.  Memory is the peak of the resident set during the step, above that before it.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import typer

import reprkit as rk

SEEDS = (0, 1, 2)
PIECES = (1, 2, 4, 8)
BATCH = 128
ENCODER = "vit(patch=8, width=128, depth=4, heads=4, dropout=0.1)"


def file_of(seed, pieces):
    """Return the file of a run's gradients."""
    return Path(tempfile.gettempdir()) / f"accumulation-{seed}-{pieces}.pt"


def make(seed):
    """Return the data and the model of a seed."""
    generator = torch.Generator().manual_seed(seed)
    data = rk.dataset({"x": torch.rand(BATCH, 64, 64, 3, generator=generator).numpy()})
    torch.manual_seed(seed)
    model = rk.build(data=data, encoder=ENCODER, latent="continuous(dim=32)", objective="contrastive")
    return data, model


def measure(seed, pieces):
    """Take one step; print the loss, the gradients' file, the peak memory above that before the step, and the time."""
    data, model = make(seed)
    options = {
        "steps": 2,
        "batch": BATCH,
        "lr": 1e-3,
        "optimizer": "sgd",
        "device": "cpu",
        "seed": seed,
        "log_every": 0,
    }
    losses, before, began = [], 0, 0.0
    for step in rk.loop(model, data, **options, accumulate=pieces, progress=False):
        if not losses:
            before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        found = step.model(step.batch)
        step.backward(found.total)
        losses.append(float(found.total.detach()))
        if len(losses) == pieces:  # the first step
            gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            seconds = time.perf_counter() - began
            break
        step.update()
    torch.save(gradients, file_of(seed, pieces))
    print(json.dumps({"loss": sum(losses) / pieces, "MB": (peak - before) / 1024, "seconds": seconds}))


def contrast_apart(seed, pieces):
    """Return the mean loss of pieces that contrast their own examples only, as before."""
    data, model = make(seed)
    size = BATCH // pieces
    torch.manual_seed(seed)
    with torch.no_grad():
        found = [float(model(data.batch(range(i, i + size))).total) for i in range(0, BATCH, size)]
    return sum(found) / pieces


def main():
    """Print the table."""
    print(
        "| pieces | loss, nats | difference of the loss | of the gradient | peak, MB | seconds | loss if apart |"
    )
    print("|---|---|---|---|---|---|---|")
    for pieces in PIECES:
        rows = []
        for seed in SEEDS:
            command = [sys.executable, __file__, str(seed), str(pieces)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            whole, own = (torch.load(file_of(seed, k)) for k in (1, pieces))
            row["gradient"] = float((whole - own).norm() / whole.norm())
            row["apart"] = contrast_apart(seed, pieces)
            rows.append(row)
        if pieces == 1:
            base = [row["loss"] for row in rows]
        difference = max(abs(row["loss"] - one) for row, one in zip(rows, base, strict=True))
        mean = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
        print(
            f"| {pieces} | {mean['loss']:.4f} | {difference:.1e} | {max(r['gradient'] for r in rows):.1e} | {mean['MB']:.0f} | "
            f"{mean['seconds']:.2f} | {mean['apart']:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(int(sys.argv[1]), int(sys.argv[2]))
    else:
        typer.run(main)
