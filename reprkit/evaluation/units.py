"""Units: the examples that activate each dimension of the code most, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le

from reprkit.evaluation.encoding import encoded, label_if_any
from reprkit.interfaces import Evaluator
from reprkit.models.factor import resolve_factor

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


class Units(Evaluator):
    """The examples for which each dimension of ``model.represent`` has its largest values (Erhan et al. 2009, section 2.2).

    - ``units``: the number of dimensions that vary, ``n``: that of examples;
    - ``alike``: how alike the top examples of a unit are: 1 minus their variance over that of all examples, summed over elements, a
      mean over the units that vary; absent where the data is not real values of one shape;
    - ``selectivity``: the largest share of one class among a unit's top examples, a mean over these units; absent without labels.

    The figure has a row for each of the units of largest variance.

    Args:
        top: examples of each unit.
        shown: units in the figure.
        label: the label field of ``selectivity``; None takes "label" where the data has it.
        factor: the factor whose code and input are meant; the only one by default.
    """

    def __init__(
        self,
        top: Annotated[int, Ge(2), Le(1000)] = 8,
        *,
        shown: Annotated[int, Ge(1), Le(1000)] = 12,
        label: str | None = None,
        factor: str | None = None,
    ) -> None:
        super().__init__()
        self.top, self.shown, self.label, self.factor = top, shown, label, factor

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the numbers, and the figure of the units that vary.

        Raises:
            BuildError: no such factor.
            DataError: no such label field.
        """
        name = resolve_factor(model.factors, self.factor, "units")
        label = label_if_any(data, self.label, "units")
        found = encoded(model, data, factor=name)
        x = found.x.astype(np.float64)
        varying = np.flatnonzero(x.std(0) > 1e-9 * max(np.abs(x).max(), 1e-30))
        metrics: dict[str, Any] = {"units": len(varying), "n": len(x)}
        if not len(varying):
            return metrics
        tops = np.argsort(-x[:, varying], 0, kind="stable")[: self.top].T
        if label is not None:
            classes = found.labels[label][tops]
            metrics["selectivity"] = float(np.mean([np.bincount(row).max() / len(row) for row in classes]))
        assert model.signature is not None
        input_name = model.factors[name].input
        field = model.signature[input_name]
        if not field.discrete and None not in field.shape:
            alike = _alike(data, input_name, tops)
            if alike is not None:
                metrics["alike"] = alike
        order = np.argsort(-x[:, varying].std(0), kind="stable")[: self.shown]
        metrics["figures"] = self._figures(
            data, input_name, field, {int(varying[place]): tops[place] for place in order}
        )
        return metrics

    def _figures(self, data: Dataset, name: str, field: Any, tops: dict[int, np.ndarray]) -> dict[str, Any]:
        from reprkit.reporting.field_figures import exhibit

        title, drawn = "Examples that activate each unit most", []
        rows, lengths = {}, {}
        for unit, examples in tops.items():
            batch = data.batch(torch.from_numpy(examples))
            rows[f"unit {unit}"] = batch[name].cpu().numpy()
            mask = batch.get(f"{name}_mask")
            lengths[f"unit {unit}"] = None if mask is None or None not in field.shape else mask.sum(1).numpy()
        caption = (
            "The examples with the unit's largest values, the largest first; units of largest variance first."
        )
        if None in field.shape:  # lengths differ by unit
            for label, row in rows.items():
                drawn += exhibit(
                    f"{title}: {label}",
                    field,
                    {label: row},
                    lengths=lengths[label],
                    caption=caption,
                )
        else:
            drawn = exhibit(title, field, rows, caption=caption)
        return {f"units {n}" if n else "units": figure for n, figure in enumerate(drawn)}


def _alike(data: Dataset, name: str, tops: np.ndarray) -> float | None:
    """Return 1 minus the variance of each unit's top examples over that of all examples, a mean; None if nothing varies."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in data.batches():
        values = batch[name].double().flatten(1)
        count, total, squares = count + len(values), total + values.sum(0), squares + values.square().sum(0)
    variance = float((squares / count - (total / count).square()).sum())
    if variance <= 0:
        return None
    shares = [
        float(data.batch(torch.from_numpy(row))[name].double().flatten(1).var(0, correction=0).sum())
        for row in tops
    ]
    return 1 - float(np.mean(shares)) / variance
