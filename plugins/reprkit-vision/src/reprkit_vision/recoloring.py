"""Predicted colors of pictures, and how near they are to the true ones: the area under a curve of errors, and a judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit import Dataset, Evaluator, Model
from reprkit.errors import BuildError, DataError
from reprkit.evaluation.encoding import batches
from reprkit.registry.constraints import CountOrZero, Positive
from reprkit.reporting.figures import Images
from reprkit.types import Batch
from reprkit_vision.color_classes import CLASSES, TEMPERATURE, annealed_mean, nearest_classes, smooth_prior
from reprkit_vision.lab import to_lab, to_rgb

# What is compared of a method, with the name of the same measure of pictures without color.
MEASURES = {
    "auc": "gray_auc",
    "balanced_auc": "gray_balanced_auc",
    "chroma": "",
    "judge.agreement": "judge.gray_agreement",
    "judge.distance": "judge.gray_distance",
}
LIMIT = 150.0  # the largest error of the curve, in units of a and b


@torch.no_grad()
def predict_colors(
    model: Model, batch: Batch, temperature: float = TEMPERATURE
) -> Float[np.ndarray, "b r c 2"]:
    """Return the colors a, b that a model predicts for a batch, one for each cell of its output.

    The output is a map of the 313 classes, of which the annealed mean is taken, or an image of a and b over 128.

    Raises:
        BuildError: another output.
    """
    field, decoded = model.output_field, model.score(batch).decoded
    if field.kind == "map" and field.vocab == CLASSES:
        color = annealed_mean(decoded.params["logits"].squeeze(2), temperature)
    elif field.kind == "image" and field.channels == 2:
        color = 128 * decoded.x.float().unflatten(-1, (-1, 2)).squeeze(2)
    else:
        raise BuildError(
            f"only classes of color (a map of {CLASSES} symbols) or colors (an image of 2 channels) can be shown, and the output "
            f"{model.output!r} is {field.kind} {field.shape}"
        )
    rows, columns = (int(each or 0) for each in field.shape[:2])
    return color.unflatten(1, (rows, columns)).cpu().numpy()


def enlarge_colors(
    color: Float[np.ndarray, "b r c 2"], height: int, width: int
) -> Float[np.ndarray, "b h w 2"]:
    """Interpolate the colors of cells to pixels, bilinearly."""
    ab = torch.from_numpy(color).movedim(-1, 1).float()
    return F.interpolate(ab, (height, width), mode="bilinear").movedim(1, -1).numpy()


def recolor(
    pictures: Float[np.ndarray, "b h w 3"], color: Float[np.ndarray, "b r c 2"]
) -> Float[np.ndarray, "b h w 3"]:
    """Give pictures in [0, 1] other colors a, b, those of cells, and keep their lightness."""
    lightness = to_lab(pictures)[..., :1]
    ab = enlarge_colors(color, *lightness.shape[1:3])
    return to_rgb(np.concatenate([lightness, ab], -1))


def color_auc(errors: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"] | None = None) -> float:
    """Return the area under the share of pixels whose error is within a threshold, for thresholds from 0 to 150, over 150.

    Equal to the mean of 1 - error / 150, where an error above 150 counts as 150.
    """
    return float(np.average((1 - errors / LIMIT).clip(0, 1), weights=weights))


def choose_temperature(model: Model, data: Dataset, temperatures: Sequence[float]) -> float:
    """Return the temperature of the annealed mean with the largest balanced AuC on data, a validation part.

    The paper's 0.38 is a compromise of vivid and natural pictures, for a network trained on a million of them.  Where colors are
    less certain, a higher one, nearer to the mean, has smaller errors.  A single temperature is returned as it is, and the first
    one for a model that predicts no classes.

    Raises:
        DataError: no temperature, or one that is not positive.
    """
    if not temperatures or min(temperatures) <= 0:
        raise DataError(f"temperatures must be above 0, and at least one, not {list(temperatures)}")
    if len(temperatures) == 1 or model.output_field.kind != "map":
        return temperatures[0]
    found = [Recoloring(each, examples=0)(model, data)["balanced_auc"] for each in temperatures]
    return temperatures[int(np.argmax(found))]


def summarize_seeds(
    found: Mapping[str, Sequence[Mapping[str, float]]], reference: str = "l2"
) -> dict[str, dict[str, float]]:
    """Summarize flat results of ``Recoloring``, a list of seeds for each method: means, and differences paired by seed.

    A method may add ``temperature``, that of its annealed mean, to its results.

    Returns:
        A row for each method, and one for "gray".  ``above gray`` and ``above l2`` (the method ``reference``, if it is there) are
        the mean differences in balanced AuC, with ``deviation``, the standard deviation over seeds, and ``won``, the number of
        seeds in which the method has more.
    """
    first = next(iter(found.values()))
    measures = [name for name in MEASURES if name in first[0]]
    gray = [{name: each.get(MEASURES[name], 0.0) for name in measures} for each in first]
    table: dict[str, dict[str, float]] = {}
    for name, rows in {"gray": gray, **found}.items():
        table[name] = {measure: float(np.mean([row[measure] for row in rows])) for measure in measures}
        if "temperature" in rows[0]:
            table[name]["temperature"] = float(np.mean([row["temperature"] for row in rows]))
        for other, beside in {"gray": gray, reference: found.get(reference, [])}.items():
            if beside and name not in ("gray", other):
                apart = [
                    one["balanced_auc"] - two["balanced_auc"] for one, two in zip(rows, beside, strict=True)
                ]
                table[name] |= {
                    f"above {other}": float(np.mean(apart)),
                    f"deviation, {other}": float(np.std(apart)),
                    f"won, {other}": float(np.sum(np.array(apart) > 0)),
                }
    return table


class Recoloring(Evaluator):
    """Colors from lightness beside the true ones, as in Zhang et al. 2016 (arXiv 1603.08511, section 3.1); lightness stays.

    ``auc``: area under the curve of pixels whose error in a and b is within 0 to 150, in [0, 1]; ``balanced_auc``: pixels weighted
    by the inverse of the share of their true class of color (of 313, smoothed) in the evaluated pictures.  ``gray_auc`` and
    ``gray_balanced_auc``: of the pictures without color.  ``chroma``: mean distance of the predicted colors from gray;
    ``true_chroma``: of the true ones.

    A judge, a classifier of photographs (``reprkit_vision.efficientnet_lite``), reads the pictures, too. ``judge.agreement``:
    share of the pictures whose class it names as in true colors; ``judge.distance``: half the sum of absolute differences between
    its probabilities and those in true colors, in [0, 1]; ``judge.gray_agreement`` and ``judge.gray_distance``: without color.

    Args:
        temperature: of the annealed mean of classes.
        judge: "efficientnet-lite0", which needs its packages, or "none".
        judged: number of pictures that the judge reads, evenly spaced.
        examples: number of pictures in the figure, evenly spaced; 0 for none.
        picture: the field of the pictures, of color, in [0, 1].

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the judge's packages are missing.
    """

    def __init__(
        self,
        temperature: Positive = TEMPERATURE,
        *,
        judge: Literal["none", "efficientnet-lite0"] = "none",
        judged: CountOrZero = 48,
        examples: CountOrZero = 12,
        picture: str = "x",
    ) -> None:
        super().__init__()
        self.temperature, self.judge, self.judged = float(temperature), judge, judged
        self.examples, self.picture = examples, picture
        self.read_classes: Callable[[np.ndarray], Tensor] | None = None
        if judge != "none" and judged:
            from reprkit_vision.efficientnet_lite import load_classifier

            self.read_classes = load_classifier(judge)

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the measures over all pixels of the data, and ``n``, the number of pictures.

        Raises:
            BuildError: the model predicts no colors.
            DataError: the data has no field of color pictures.
        """
        field = dict(data.signature).get(self.picture)
        if field is None or field.kind != "image" or field.channels != 3 or field.range != (0.0, 1.0):
            raise DataError(
                f"recoloring compares color pictures in [0, 1], and field {self.picture!r} is "
                f"{'not in the data' if field is None else f'{field.kind} {field.shape}'}: use colorable(..., pictures=True)"
            )
        errors, gray, chroma, classes = [], [], [], []
        for batch in batches(data, "comparing colors"):
            true = to_lab(batch[self.picture].cpu().numpy())[..., 1:]
            color = predict_colors(model, batch, self.temperature)
            found = enlarge_colors(color, *true.shape[1:3])
            errors.append(np.linalg.norm(found - true, axis=-1).ravel())
            gray.append(np.linalg.norm(true, axis=-1).ravel())
            chroma.append(np.linalg.norm(found, axis=-1).ravel())
            classes.append(nearest_classes(true).ravel())
        error, without, occurring = np.concatenate(errors), np.concatenate(gray), np.concatenate(classes)
        prior = smooth_prior(np.bincount(occurring, minlength=CLASSES).tolist())
        weights = 1 / prior[occurring]
        results: dict[str, Any] = {
            "auc": color_auc(error),
            "balanced_auc": color_auc(error, weights),
            "gray_auc": color_auc(without),
            "gray_balanced_auc": color_auc(without, weights),
            "chroma": float(np.concatenate(chroma).mean()),
            "true_chroma": float(without.mean()),
            "n": len(data),
        }
        if self.read_classes is not None:
            results["judge"] = _judge_rows(self.read_classes, self._rows(model, data, self.judged))
        if self.examples:
            rows = self._rows(model, data, self.examples)
            results["figures"] = {"colors": Images(title="Colors", rows=rows, span=(0.0, 1.0))}
        return results

    def _rows(self, model: Model, data: Dataset, count: int) -> dict[str, np.ndarray]:
        """Gray, recolored and true pictures, evenly spaced over the data."""
        chosen = np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int)
        batch = data.batch(torch.from_numpy(chosen))
        true = batch[self.picture].cpu().numpy()
        color = predict_colors(model, batch, self.temperature)
        return {"gray": recolor(true, 0 * color), "recolored": recolor(true, color), "true": true}


def _judge_rows(judge: Callable[[np.ndarray], Tensor], rows: dict[str, np.ndarray]) -> dict[str, float]:
    shares = {name: judge(pictures) for name, pictures in rows.items()}
    results = {}
    for name, prefix in {"recolored": "", "gray": "gray_"}.items():
        same = shares[name].argmax(-1) == shares["true"].argmax(-1)
        apart = (shares[name] - shares["true"]).abs().sum(-1) / 2
        results[f"{prefix}agreement"] = float(same.float().mean())
        results[f"{prefix}distance"] = float(apart.mean())
    return results
