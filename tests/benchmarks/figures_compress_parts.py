"""Latents of reprkit-compress on photographs held out by name: bits a pixel by real bytes, and PSNR.

    python tests/benchmarks/figures_compress_parts.py --steps 600 --latents rounded hyperprior context

One network (``strided``) for each latent, trained for the same number of steps on random crops of the training photographs (reprkit
vision fetch photos), tables counted there, results on
crops of the test photographs; one seed.  ``rounded`` is also priced under tables by
neighbors that are counted on its own codes (``rounded, context tables``), which isolates what neighbors say.
"""

from __future__ import annotations

import argparse
import time

import torch
from reprkit_compress.latents.context import Context

import reprkit as rk
from reprkit.types import Code


def train(model: rk.Model, data: rk.Dataset, steps: int, batch: int, seed: int) -> float:
    """Train by Adam, with a tenth of the learning rate in the last fifth; return the processor's seconds."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(seed)
    start = time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 if step < 0.8 * steps else 1e-4
        rows = torch.randint(len(data), (batch,), generator=generator)
        losses = model(data.batch(rows))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        model.update()
    return time.process_time() - start


@torch.no_grad()
def measure(model: rk.Model, data: rk.Dataset) -> tuple[float, float]:
    """Return bits a pixel by the bytes of ``Latent.write``, without header, and the mean PSNR."""
    size, pixels, quality = 0, 0, 0.0
    for rows in data.batches(16):
        code = model.encode(rows)
        size += sum(map(len, model.latent().write(code["code"])))
        x = rows["x"]
        error = (model.to_batch(model.decode(code))["x"].clamp(0, 1) - x).square().flatten(1).mean(1)
        quality += float((-10 * error.log10()).sum())
        pixels += x.shape[0] * x.shape[1] * x.shape[2]
    return 8 * size / pixels, quality / len(data)


@torch.no_grad()
def with_neighbors(model: rk.Model, train: rk.Dataset, test: rk.Dataset) -> float:
    """Return bits a pixel of a factorized model's codes under tables by neighbors, counted on the training photographs."""
    own = model.latent()
    latent = Context(own.out_dim, limit=own.limit).eval()
    counts = latent.zero_counts()
    for rows in train.batches(64):
        latent.count_symbols(model.encode(rows)["code"], counts)
    latent.set_frequencies(counts)
    size, pixels = 0, 0
    for rows in test.batches(16):
        code = model.encode(rows)["code"]
        strings = latent.write(code)
        assert latent.read(strings, Code.of(code, z=torch.zeros_like(code.z))).indices.equal(code.indices)
        size += sum(map(len, strings))
        pixels += rows["x"].shape[0] * rows["x"].shape[1] * rows["x"].shape[2]
    return 8 * size / pixels


def main() -> None:
    """Print one row for each latent."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latents", nargs="+", default=["rounded", "hyperprior", "context"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--scale", type=float, default=0.04)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    photos = f"photos(size={given.size}, crops=12, side=512, fetched=True)"
    learn, test = rk.dataset(photos).split(0)
    print(f"{len(learn)} crops to learn from, {len(test)} of other photographs to test; {given}", flush=True)
    transform = f"strided(width={given.width}, depth={given.depth}"
    for name in given.latents:
        torch.manual_seed(given.seed)
        model = rk.build(
            encoder=f"{transform})",
            latent=f"{name}(dim={given.width})",
            decoder=f"{transform}, scale={given.scale})",
            objective="reconstruction",
            data=learn,
        )
        seconds = train(model, learn, given.steps, 8, given.seed)
        model.eval()
        model.fit_frequencies(learn)
        bits, quality = measure(model, test)
        print(f"{name:24s} {bits:.4f} bits a pixel, {quality:.2f} dB, {seconds:.0f} s", flush=True)
        if name == "rounded":
            print(
                f"{'rounded, context tables':24s} {with_neighbors(model, learn, test):.4f} bits a pixel",
                flush=True,
            )


if __name__ == "__main__":
    main()
