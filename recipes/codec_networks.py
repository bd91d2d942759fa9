"""JPEG between two networks: a compact picture that JPEG writes, and a network that restores what JPEG gives back.

The file is a complete JPEG file with a small header.  The page shows PSNR over bits per pixel beside plain JPEG at its best
options, WebP and AVIF, of photographs that were not trained on.  With scale=1 the networks correct JPEG's artifacts; with scale=2
JPEG writes a picture of half the sides, which is for low rates.  The compact network stays as it starts unless
``--learn-compact`` is given.

Paper: Jiang et al. 2017, "An end-to-end compression framework based on convolutional neural networks", arXiv 1708.00838.
Data: photographs of reprkit-vision, split by name; 10 come with packages, 218 more with ``reprkit vision fetch photos``.
Expected (one core, about three minutes): docs/results/compression/pictures.md.

    python recipes/codec_networks.py
    python recipes/codec_networks.py --scale 2 --quality 60 --rates 30 --rates 60 --rates 85
    python recipes/codec_networks.py --latent "webp(quality={quality})"
"""

from typing import Annotated

import torch
import typer
from reprkit_compress.evaluators.rate_distortion import measured_rates, to_8_bit

import reprkit as rk
from reprkit.data.base import Subset
from reprkit.utils.collectives import rank


def main(
    data: str = "photos(size=64, crops=32, side=512, fetched={fetched})",
    test: str = "photos(size=256, crops=1, side=512, fetched={fetched})",
    fetched: bool = False,
    scale: int = 1,
    quality: int = 35,
    encoder: str = "compact(scale={scale}, width=16, blocks=1)",
    latent: str = "jpeg(quality={quality}, beta=1.0)",
    decoder: str = "restore(scale={scale}, width=24, blocks=2, likelihood='gaussian', spread=0.03)",
    rates: Annotated[list[float], typer.Option(help="qualities; repeatable")] = [20.0, 35.0, 50.0, 70.0],  # noqa: B006
    learn_compact: bool = False,
    steps: int = 600,
    batch: int = 8,
    lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/codec_networks",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    train = rk.dataset(data.format(fetched=fetched)).split(seed=seed)[0]
    unseen = rk.dataset(test.format(fetched=fetched)).split(seed=seed)[1]
    parts = {
        name: part.format(scale=scale, quality=quality)
        for name, part in {"encoder": encoder, "latent": latent, "decoder": decoder}.items()
    }
    model = rk.build(data=train, objective="reconstruction", seed=seed, **parts)
    if not learn_compact:
        model.freeze("encoder", "adapters")  # the plain reduction, or the picture itself
    for step in rk.loop(
        model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **launch
    ):
        x = step.batch["x"]
        flipped = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(2), x)
        losses = step.model({**step.batch, "x": flipped})
        step.backward(losses.total)
        step.update()
        if step.every(50):
            step.log(losses)
    model.save(f"{out}/model")

    evaluator = rk.create("evaluator", "rate-distortion", rates=tuple(rates))
    pictures = [to_8_bit(unseen[index]["x"], unseen.signature["x"]) for index in range(len(unseen))]
    measured = evaluator.measure(model, pictures)
    results = rk.evaluate(model, Subset(train, range(min(len(train), 64))), "reconstruction")
    results.figures["rate-distortion"] = measured.pop("figures")
    results["rate-distortion"] = measured
    page = rk.report(out, results)
    if rank() == 0:
        print(measured_rates(measured))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
