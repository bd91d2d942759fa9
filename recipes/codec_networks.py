"""JPEG between two networks: a compact picture that JPEG writes, and a network that restores what JPEG gives back.

The file is a complete JPEG file with a small header.  The page shows PSNR over bits per pixel beside plain JPEG at its best
options, WebP and AVIF, of photographs that were not trained on.  With scale=1 the networks correct JPEG's artifacts; with scale=2
JPEG writes a picture of half the sides, which is for low rates.

Paper: Jiang et al. 2017, "An end-to-end compression framework based on convolutional neural networks", arXiv 1708.00838.
Data: photographs of reprkit-vision, split by name; 10 come with packages, 218 more with ``reprkit vision fetch photos``.
Expected (one core, about three minutes): docs/results/compression/pictures.md.

    python recipes/codec_networks.py
    python recipes/codec_networks.py --scale 2 --quality 60 --rates 30 60 85
    python recipes/codec_networks.py --latent "webp(quality={quality})"
"""

import torch
from reprkit_compress.evaluators.rate_distortion import to_8_bit

import reprkit as rk
from reprkit.utils.collectives import rank


def main(
    data: str = "photos(size=64, crops=32, side=512, fetched={fetched})",
    test: str = "photos(size=256, crops=1, side=512, fetched={fetched})",
    fetched: bool = False,
    scale: int = 1,
    quality: int = 35,
    encoder: str = "compact(scale={scale}, width=16, blocks=1)",
    latent: str = "jpeg(quality={quality}, beta=1.0)",
    decoder: str = "restore(scale={scale}, width=48, blocks=3, likelihood='gaussian', spread=0.03)",
    rates: tuple[float, ...] = (20.0, 35.0, 50.0, 70.0),
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

    evaluator = rk.create("evaluator", "rate-distortion", rates=rates)
    pictures = [to_8_bit(unseen[index]["x"], unseen.signature["x"]) for index in range(len(unseen))]
    measured = evaluator.measure(model, pictures)
    results = rk.evaluate(model, train, "reconstruction", examples=0)
    results.figures["rate-distortion"] = measured.pop("figures")
    results["rate-distortion"] = measured
    page = rk.report(out, results)
    if rank() == 0:
        for rate in rates:
            keys = [
                key
                for key in ("bpp", "psnr", "jpeg_gain_db", "webp_gain_db")
                if f"{key}@{rate:g}" in measured
            ]
            print(
                f"quality {rate:g}: " + ", ".join(f"{key} {measured[f'{key}@{rate:g}']:.3f}" for key in keys)
            )
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
