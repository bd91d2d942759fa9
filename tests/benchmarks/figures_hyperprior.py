"""Latent ``hyperprior`` at three rates from one network, trained on photographs, beside JPEG, WebP and AVIF.

    reprkit vision fetch photos
    python tests/benchmarks/figures_hyperprior.py --seconds 200

Encoder and decoder start as JPEG's cosine transform and learn at a small rate, as in recipes/compress.py; the latent starts at
random and learns at a larger one.  Trained for a processor time (one thread, Adam, a fifth of the learning rates in the last 30 %
of it) on crops of 64 x 64; coded are crops of 256 x 256 of photographs held out by name, header counted.
"""

from __future__ import annotations

import time
from typing import Annotated

import torch
import typer
from figures_compressai import LEARN, TEST
from reprkit_compress.evaluators.rate_distortion import RateDistortion, measured_rates, to_8_bit

import reprkit as rk
from reprkit.data.base import Subset


def train(model: rk.Model, data: rk.Dataset, seconds: float, rates: tuple[float, float], seed: int) -> int:
    """Train the transforms and the latent at these learning rates; return the steps."""
    latent = list(model.latent().parameters())
    own = {id(each) for each in latent}
    transforms = [each for each in model.parameters() if id(each) not in own]
    groups = [{"params": each, "first": lr} for each, lr in zip((transforms, latent), rates, strict=True)]
    optimizer = torch.optim.Adam(groups, 1e-3)
    generator = torch.Generator().manual_seed(seed)
    start, steps = time.process_time(), 0
    while (share := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["first"] * (1 if share < 0.7 else 0.2)
        losses = model(data.batch(torch.randint(len(data), (8,), generator=generator)))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        model.update()
        steps += 1
    return steps


def main(
    seconds: Annotated[float, typer.Option(help="of training, processor time")] = 200.0,
    transforms: Annotated[float, typer.Option(help="learning rate of encoder and decoder")] = 5e-5,
    latent: Annotated[float, typer.Option(help="learning rate of the latent")] = 3e-3,
    betas: str = "(16.0, 4.0, 1.0)",
    most: int = 24,
    valid: Annotated[bool, typer.Option(help="code crops of the training photographs, to choose by")] = False,
    seed: int = 0,
) -> None:
    torch.set_num_threads(1)
    learn = rk.dataset(LEARN).split(seed=seed)[0]
    known, unseen = rk.dataset(TEST).split(seed=seed)
    model = rk.build(
        data=learn,
        encoder="cosine(step=0.1)",
        latent=f"hyperprior(dim=192, betas={betas})",
        decoder="cosine(step=0.1, width=16, likelihood='gaussian', scale=0.03)",
        objective="reconstruction",
        seed=seed,
    )
    steps = train(model, learn, seconds, (transforms, latent), seed)
    model.eval()
    model.fit_frequencies(Subset(known, range(min(16, len(known)))), batch=16)
    shown = known if valid else unseen
    pictures = [to_8_bit(shown[index]["x"], shown.signature["x"]) for index in range(min(most, len(shown)))]
    codecs = ("jpeg",) if valid else ("jpeg", "webp", "avif")
    measured = RateDistortion(codecs=codecs, examples=0).measure(model, pictures)
    print(f"seed {seed}: {steps} steps in {seconds:g} s, {len(pictures)} crops\n{measured_rates(measured)}")


if __name__ == "__main__":
    typer.run(main)
