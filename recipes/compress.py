"""Learned compression of photographs: real bytes and errors at several rates from one network, beside JPEG, WebP and AVIF.

Encoder and decoder start as JPEG's cosine transform and learn corrections, at a small learning rate, since a large one destroys
the transform; the code is rounded to whole numbers.  Training minimizes bits and squared error together, both in nats.  Every
rate has other quantization steps around the same network; tables of symbols in their surroundings are counted on the training
photographs.  The page shows PSNR over bits per pixel, headers counted, of photographs that were not trained on, and decoded
pictures.  Each rate is saved as a model that reads and writes files of any size.

Papers: Theis et al. 2017, "Lossy image compression with compressive autoencoders", arXiv 1703.00395; Ballé et al. 2018, arXiv
1802.01436.
Data: photographs of reprkit-vision, split by name; 10 come with packages, 218 more with ``reprkit vision fetch photos``.
Expected (one core, about four minutes): docs/results/compression/pictures.md.

    python recipes/compress.py
    python recipes/compress.py --fetched --steps 2000
    python recipes/compress.py --data pictures/ --test others/
    python recipes/compress.py --encoder "strided(width=64)" --decoder "strided(width=64, scale=0.03)" --latent "rounded(dim=64)" \
--lr 1e-3 --clip 1 --steps 20000
    reprkit compress runs/compress/rate-1 photo.png -o photo.rk && reprkit decompress runs/compress/rate-1 photo.rk -o back.png
"""

from typing import Annotated

import torch
import typer
from reprkit_compress.evaluators.rate_distortion import measured_rates, to_8_bit
from reprkit_compress.rates import with_step

import reprkit as rk
from reprkit.data.base import Subset
from reprkit.utils.collectives import rank


def main(
    data: str = "photos(size=64, crops=32, side=512, fetched={fetched})",
    test: str = "photos(size=256, crops=1, side=512, fetched={fetched})",
    fetched: bool = False,
    encoder: str = "cosine(step=0.1)",
    latent: str = "context-tables(dim=192)",
    decoder: str = "cosine(step=0.1, width=16, likelihood='gaussian', scale=0.03)",
    steps: int = 400,
    batch: int = 8,
    lr: float = 5e-5,
    factors: Annotated[list[float], typer.Option(help="of the steps")] = [4.0, 2.8, 2.0, 1.4, 1.0, 0.8],  # noqa: B006
    seed: int = 0,
    out: str = "runs/compress",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    train = rk.dataset(data.format(fetched=fetched)).split(seed=seed)[0]
    whole, unseen = rk.dataset(test.format(fetched=fetched)).split(seed=seed)
    counted = Subset(whole, range(min(len(whole), 64)))
    model = rk.build(
        data=train, encoder=encoder, latent=latent, decoder=decoder, objective="reconstruction", seed=seed
    )
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

    models = {1 / factor: with_step(model, factor) for factor in factors}
    for name, each in models.items():
        each.fit_frequencies(counted, batch=16)
        each.save(f"{out}/rate-{name:.3g}")
    evaluator = rk.create("evaluator", "rate-distortion")
    pictures = [to_8_bit(unseen[index]["x"], unseen.signature["x"]) for index in range(len(unseen))]
    measured = evaluator.measure(models, pictures)
    results = rk.evaluate(
        models[max(models)], Subset(train, range(min(len(train), 64))), "rate", "reconstruction"
    )
    results.figures["rate-distortion"] = measured.pop("figures")
    results["rate-distortion"] = measured
    page = rk.report(out, results)
    if rank() == 0:
        print(measured_rates(measured))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
