"""Figures of docs/results/compression/pictures.md: bytes and errors of held-out photographs, crops and full size.

    python tests/benchmarks/figures_pictures.py runs/compress/rate-0.25 runs/compress/rate-0.5 runs/compress/rate-1
    python tests/benchmarks/figures_pictures.py --untrained 0.34 --untrained 0.2 --untrained 0.12 --untrained 0.08
    python tests/benchmarks/figures_pictures.py --untrained 0.34 --seed 1 --only full

The photographs are those of ``photos(fetched=True)`` that the split of ``--seed`` holds out by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from PIL import Image
from reprkit_compress.evaluators.rate_distortion import RateDistortion, measured_rates, to_8_bit

import reprkit as rk
from reprkit.data.base import Subset

CROPS = "photos(size=256, crops=1, side=512, fetched=True)"


def untrained(step: float, known: rk.Dataset) -> rk.Model:
    """Return the cosine transform with counted contexts, without training."""
    model = rk.build(
        data=known,
        encoder=f"cosine(blocks=0, step={step})",
        latent="context-tables(dim=192)",
        decoder=f"cosine(blocks=0, smoothing=0, width=8, step={step}, scale=0.03)",
        seed=0,
    )
    model.fit_frequencies(Subset(known, range(min(64, len(known)))), batch=16)
    return model


def full_size(names: set[str], side: int = 512) -> list[np.ndarray]:
    """Return the fetched photographs of these names, downscaled to ``side`` pixels on their shorter side."""
    from reprkit.utils.cache import cache_folder

    found = []
    for file in sorted((cache_folder("vision") / "photos").glob("*.webp")):
        if file.stem in names:
            picture = Image.open(file).convert("RGB")
            factor = min(1.0, side / min(picture.size))
            size = round(picture.width * factor), round(picture.height * factor)
            found.append(np.asarray(picture.resize(size, Image.Resampling.LANCZOS)))
    return found


def main(
    models: Annotated[list[Path] | None, typer.Argument()] = None,
    untrained_steps: Annotated[list[float] | None, typer.Option("--untrained")] = None,
    seed: int = 0,
    most: int = 24,
    only: Annotated[Literal["crops", "full"] | None, typer.Option(help="one of the two tables")] = None,
) -> None:
    torch.set_num_threads(1)
    known, unseen = rk.dataset(CROPS).split(seed=seed)
    loaded = {float(place): rk.load(str(folder)) for place, folder in enumerate(models or ())}
    loaded |= {step: untrained(step, known) for step in untrained_steps or ()}
    evaluator = RateDistortion(examples=0)
    crops = [to_8_bit(unseen[index]["x"], unseen.signature["x"]) for index in range(min(most, len(unseen)))]
    if only != "full":
        print(
            f"seed {seed}: {len(crops)} crops of 256 x 256\n{measured_rates(evaluator.measure(loaded, crops))}",
            flush=True,
        )
    if only == "crops":
        return
    names = {unseen.signature["photo"].classes[int(unseen[index]["photo"])] for index in range(len(unseen))}
    pictures = full_size(names)[:most]
    print(
        f"seed {seed}: {len(pictures)} photographs at full size\n{measured_rates(evaluator.measure(loaded, pictures))}"
    )


if __name__ == "__main__":
    typer.run(main)
