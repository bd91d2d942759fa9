"""What ``evaluate`` returns: metrics by evaluator, and what a report can show of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprkit.runs.metrics import flatten_metrics

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from reprkit.data.signature import Field


@dataclass
class Gallery:
    """Inputs (m ...) beside outputs, samples and latent traversals, in the output field's own layout.

    Attributes:
        field: what the arrays are (kind, shape, range).
        inputs: the first examples of the data.
        outputs: what the model makes of them.
        lengths: how many steps of each are real, where lengths vary.
        samples: decoded from codes drawn from the prior (m ...); None where a latent has none.
        traversals: "dimension 3" -> (steps ...): one code, moved along one dimension from -2 to 2 deviations.
        notes: why something is not there, in plain words.
    """

    field: Field
    inputs: np.ndarray
    outputs: np.ndarray
    lengths: np.ndarray | None = None
    samples: np.ndarray | None = None
    traversals: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


class Results(dict[str, dict[str, Any]]):
    """``results["knn"]["accuracy"]``: evaluator -> metric -> number, plain JSON.

    Attributes:
        figures: evaluator -> figure name -> figure (see ``reprkit.reporting.figures``).
        gallery: a few inputs, outputs, samples and traversals of the model that was measured; None where it
            makes none.
        about: the model's parts and parameters, the data's signature, and how long measuring took.
        folder: the run's folder, once a report was written there.
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
        self.gallery = gallery
        self.about = dict(about or {})
        self.folder: Path | None = None

    @property
    def flatten_metrics(self) -> dict[str, float]:
        """``{"knn.accuracy": 0.97, ...}``: every number under one name; see ``reprkit.runs.metrics.flatten_metrics``."""
        return flatten_metrics(self)
