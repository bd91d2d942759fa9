"""Split-brain autoencoder: one half of a network predicts the colors of a picture from its lightness, the other half the reverse.

Neither half can copy its input, as each predicts what the other reads; the representation of a picture is both codes together.
Targets are classes: 261 bins of the colors a, b and 100 of the lightness L (CIE Lab), means of ``side`` x ``side`` pixels.
Pictures of one channel are divided into a left and a right half, of 16 classes.  The table compares a linear probe on both codes,
and on each, with an autoencoder of about as many weights, which reads all that it predicts, and with the untrained network.

Paper: Zhang et al. 2017, "Split-brain autoencoders: unsupervised learning by cross-channel prediction", arXiv 1611.09842.
Data: tuxpaint's stamps in 8 classes and crops of 228 photographs: reprkit vision fetch stamps; reprkit vision fetch photos.
Expected: both halves tell .57 of the stamps, the untrained network .53, the autoencoder .49, means of five seeds; ten minutes of
one core: docs/results/pictures.md.

    python recipes/split_brain.py --repeats 5
    python recipes/split_brain.py --data digits --more "" --side 2 --encoder "conv(depth=1)" --plain "conv(width=90, depth=1)"
    python recipes/split_brain.py --data "images(root='album', size=32, labels=True)" --more "" --latent "vq(codes=256, dim=16)"
"""

from typing import Annotated

import numpy as np
import torch
import typer
from reprkit_vision.halves import divide, group_names
from reprkit_vision.lab import color_bins, to_rgb

import reprkit as rk
from reprkit.data import Arrays
from reprkit.errors import DataError
from reprkit.reporting import Section, compare, exhibit
from reprkit.utils.collectives import rank

PROBE = "linear-probe(pool='flatten', C=0.01, max_iter=200, factor={!r})"


def join(own: rk.Dataset, more: str) -> rk.Dataset:
    """The pictures of both, without labels; the own ones are repeated until they are about as many as the others."""
    parts = [each.batch(range(len(each)))["x"] for each in (own, *([rk.dataset(more)] if more else []))]
    if len({each.shape[1:] for each in parts}) > 1:
        sizes = " and ".join("x".join(map(str, each.shape[1:])) for each in parts)
        raise DataError(
            f"pictures of --data and --more have different sizes, {sizes}: give both the same size="
        )
    repeated = [parts[0]] * max(1, len(parts[-1]) // len(parts[0]))
    return Arrays({"x": torch.cat([*repeated, *parts[1:]])}, kinds={"x": "image"}, ranges={"x": (0, 1)})


def recolor(model, data: rk.Dataset, count: int = 12) -> dict[str, np.ndarray]:
    """Pictures, their lightness, and the lightness with the predicted colors: the mean over the classes."""
    batch = data.batch(range(count))
    with torch.no_grad():
        decoded = model.eval().score(batch, output="color_classes").decoded
    logits = decoded.params["logits"].squeeze(2).cpu()
    grid = data.signature["color_classes"].shape
    ab = (logits.softmax(-1) @ torch.from_numpy(color_bins())).unflatten(1, grid).movedim(-1, 1)
    lightness = 100 * batch["lightness"]
    ab = torch.nn.functional.interpolate(ab, lightness.shape[1:3], mode="bilinear").movedim(1, -1)
    shown = {"picture": 128 * batch["color"], "lightness": 0 * ab, "recolored": ab}
    return {name: to_rgb(torch.cat([lightness, each], -1).numpy()) for name, each in shown.items()}


def main(
    data: str = "stamps",
    more: Annotated[
        str, typer.Option(help="further pictures to train on; empty: none")
    ] = "photos(size=32, side=64, crops=16, fetched=True)",
    encoder: str = "conv(width=16, depth=2, blocks=1)",
    latent: Annotated[str, typer.Option(help="of each half")] = "continuous(dim=16)",
    plain: Annotated[
        str, typer.Option(help="encoder of the autoencoder")
    ] = "conv(width=23, depth=2, blocks=1)",
    whole: Annotated[str, typer.Option(help="latent of the autoencoder")] = "continuous(dim=32)",
    decoder: str = "conv(width=32, depth=0)",
    side: Annotated[int, typer.Option(help="pixels of a side of the squares that are predicted")] = 4,
    repeats: Annotated[int, typer.Option(help="number of seeds, from --seed on")] = 1,
    steps: int = 1_000,
    batch: int = 32,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/split_brain",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    found: dict[str, list[float]] = {}
    sections = []
    options = {"steps": steps, "batch": batch, "lr": lr, "resume": resume, **launch}
    for number in range(seed, seed + repeats):
        own, test = rk.dataset(data).split(seed=number)
        seen, known, test = divide(join(own, more), side), divide(own, side), divide(test, side)
        one, two = group_names(seen)
        halves = {name: rk.factor(encoder, latent, input=name) for name in (one, two)}
        across = {
            f"{one}_classes": rk.output(decoder, reads=two),
            f"{two}_classes": rk.output(decoder, reads=one),
        }
        both = {f"{name}_classes": rk.output(decoder, reads="both") for name in (one, two)}
        models = {
            "untrained": (halves, across),
            "split-brain": (halves, across),
            "autoencoder": ({"both": rk.factor(plain, whole, input="both")}, both),
        }
        for name, (factors, outputs) in models.items():
            model = rk.build(data=seen, factors=factors, decoder=outputs, seed=number)
            if name != "untrained":
                rk.fit(model, seen, seed=number, out=f"{out}/{name}-{number}", **options)
            if name == "split-brain" and not sections and one == "lightness":
                rows = recolor(model, test)
                field = rk.Field(kind="image", shape=rows["picture"].shape[1:], range=(0.0, 1.0))
                sections.append(Section("Colors", exhibit("Test pictures recolored", field, rows)))
            parts = {name: None} | ({f"{name}, {half}": half for half in halves} if factors is halves else {})
            for row, factor in parts.items() if "label" in test.signature else ():
                results = rk.evaluate(model, test, PROBE.format(factor), fit_on=known)
                found.setdefault(row, []).append(results["linear-probe"]["accuracy"])
    table = {name: {"probe": np.mean(each), "deviation": np.std(each)} for name, each in found.items()}
    columns = {"probe": "linear probe", "deviation": "standard deviation"}
    page = rk.report(out, table, columns=columns, sections=sections, title="Split-brain autoencoder")
    if rank() == 0:
        print(compare(table, columns) if table else "the data has no labels: there is no probe")
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
