"""``Results``, the return value of ``evaluate``: metrics by evaluator, with the figures and gallery for the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprkit.runs.metric_direction import better_direction
from reprkit.runs.metric_units import unit_of
from reprkit.runs.metrics import flatten_metrics, format_significant, to_json_value
from reprkit.utils.plain_table import html_table

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from reprkit.data.signature import Field

_DIRECTIONS = {"min": "lower", "max": "higher", None: ""}


@dataclass
class Gallery:
    """Inputs (m ...) with the corresponding outputs, samples and latent traversals, in the output field's layout.

    Attributes:
        field: kind, shape and range of the arrays.
        inputs: the first examples of the data.
        outputs: the model's outputs for them.
        lengths: the number of unpadded steps of each, where lengths vary.
        samples: decoded from codes sampled from the prior (m ...); None if a latent has no prior.
        traversals: "dimension 3" -> (steps ...): one code, varied along one dimension from -2 to 2 standard deviations.
        notes: explanations of what is missing.
    """

    field: Field
    inputs: np.ndarray
    outputs: np.ndarray
    lengths: np.ndarray | None = None
    samples: np.ndarray | None = None
    traversals: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


class Results(dict[str, dict[str, Any]]):
    """Metrics by evaluator, plain JSON: ``results["knn"]["accuracy"]``.

    Attributes:
        figures: evaluator -> figure name -> figure (see ``reprkit.reporting.figures``).
        galleries: by output, a few inputs, outputs, samples and traversals of the evaluated model; {} if it produces none.  The key
            is "" for a model with one output.
        about: the model's parts and parameters, the data's signature, and the duration of the evaluation.
        folder: the run's folder, once a report was written there.
        left_out: evaluator -> why it was left out (``rk.evaluate(leave_out=True)``).
    """

    def __init__(
        self,
        metrics: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        figures: Mapping[str, Mapping[str, Any]] | None = None,
        gallery: Gallery | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__({name: dict(values) for name, values in (metrics or {}).items()})
        self.figures = {name: dict(values) for name, values in (figures or {}).items()}
        self.galleries: dict[str, Gallery] = {} if gallery is None else {"": gallery}
        self.about = dict(about or {})
        self.folder: Path | None = None
        self.left_out: dict[str, str] = {}

    def _repr_html_(self) -> str:
        """Return a table of all numbers with their units, for a notebook."""
        return results_html(self)

    @property
    def gallery(self) -> Gallery | None:
        """The gallery of the first output; None if there is none."""
        return next(iter(self.galleries.values()), None)

    @property
    def flat(self) -> dict[str, float]:
        """All numbers by flat name, ``{"knn.accuracy": 0.97, ...}``; see ``reprkit.runs.metrics.flatten_metrics``."""
        return flatten_metrics(self)

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as plain JSON, without figures; numbers that are not finite become None."""
        return dict(to_json_value(self))


def results_html(results: Mapping[str, Any]) -> str:
    """Return a table of all numbers of results with their units, for a notebook."""
    rows = [
        [path, format_significant(value), unit_of(path), _DIRECTIONS[better_direction(path)]]
        for path, value in flatten_metrics(results).items()
    ]
    return html_table(["metric", "value", "unit", "better"], rows)
