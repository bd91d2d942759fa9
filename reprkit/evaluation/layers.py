"""Layers: what each layer of an encoder holds, by a probe, its spectrum and a map, and how similar layers are."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le

from reprkit.errors import DataError
from reprkit.evaluation.activations import activations
from reprkit.evaluation.encoding import draw_examples, label_if_any
from reprkit.evaluation.linear_probe import fit_probe
from reprkit.evaluation.projection import principal_plane
from reprkit.evaluation.similarity import linear_cka
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import LARGEST_COUNT, Seed
from reprkit.utils.spectrum import rankme

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_MAPS = 12  # layers whose map is drawn: the last ones


class Layers(Evaluator):
    """For each layer of an encoder, its output and the code, averaged over tokens, in the order of ``Encoder.named_layers``.

    - ``LAYER.accuracy``: logistic regression on the standardized layer, fitted on ``fit_on`` (Alain and Bengio 2016, arXiv
      1610.01644); absent without labels;
    - ``LAYER.rankme``: the effective number of its dimensions (Garrido et al. 2023, arXiv 2210.02885).

    Figures: accuracy by layer; linear CKA between layers (Kornblith et al. 2019, arXiv 1905.00414); the first two principal
    components of each layer.

    Args:
        label: the label field of the probe and of the colors; None takes "label" where the data has it.
        factor: the factor whose encoder is meant; the only one by default.
        limit: at most this many examples of each data set, drawn with the seed.
        seed: of the draw.
    """

    def __init__(
        self,
        *,
        label: str | None = None,
        factor: str | None = None,
        limit: Annotated[int, Ge(4), Le(LARGEST_COUNT)] = 1_000,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.label, self.factor, self.limit, self.seed = label, factor, limit, seed

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the numbers of each layer, and the figures.

        Raises:
            BuildError: no such factor.
            DataError: labels and no ``fit_on``, or no such label field.
        """
        from reprkit.reporting.figures import Bars, Matrix, Scatter

        data = draw_examples(data, self.limit, self.seed)
        rows = {name: np.asarray(x, np.float64) for name, x in activations(model, data, self.factor).items()}
        label = label_if_any(data, self.label, "layers")
        metrics: dict[str, Any] = {name: {"rankme": rankme(torch.from_numpy(x))} for name, x in rows.items()}
        names = tuple(rows)
        y = None if label is None else data.label_values(label).numpy()
        figures: dict[str, Any] = {}
        if label is not None:
            if fit_on is None:
                raise DataError("layers fits a probe on labeled examples: pass evaluate(..., fit_on=train)")
            fit_on = draw_examples(fit_on, self.limit, self.seed)
            known = fit_on.label_values(label).numpy()
            for name, x in activations(model, fit_on, self.factor).items():
                probe = fit_probe(x, known, label=label)
                metrics[name]["accuracy"] = float((probe.predict(rows[name]) == y).mean())
            figures["accuracy"] = Bars(
                title="Accuracy of a linear probe on each layer",
                values=np.array([metrics[name]["accuracy"] for name in names]),
                names=names,
                ylabel="accuracy",
                level=float(np.bincount(known).max() / len(known)),
                caption="The dashed line is the share of the most frequent class.",
            )
        similarity = np.empty((len(rows), len(rows)))
        for (i, one), (j, two) in combinations_with_replacement(
            enumerate(map(torch.from_numpy, rows.values())), 2
        ):
            similarity[i, j] = similarity[j, i] = linear_cka(one, two)
        figures["similarity"] = Matrix(
            title="Linear CKA between layers",
            values=similarity,
            xlabel="layer",
            ylabel="layer",
            ticks=list(names),
            span=(0.0, 1.0),
        )
        classes = None if label is None else dict(enumerate(data.signature[label].classes))
        for number, (name, x) in enumerate(list(rows.items())[-_MAPS:]):
            plane, explained = principal_plane(x)
            figures[f"map {number}"] = Scatter(
                title=f"Principal components of {name}",
                points=plane,
                labels=y,
                names=classes,
                caption=f"{len(x):,} examples. They explain {explained:.0%} of the variance.",
            )
        return {**metrics, "figures": figures}
