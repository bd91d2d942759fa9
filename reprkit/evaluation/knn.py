"""k-nearest-neighbor classification on the representation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from reprkit.errors import DataError
from reprkit.evaluation.encoding import Pool, encode_labeled
from reprkit.evaluation.label_subset import label_subset
from reprkit.interfaces import Evaluator, require
from reprkit.registry.constraints import Count, Positive, Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_BLOCK = 1 << 24  # distances in memory at a time
_PROTOCOLS: dict[str | None, dict[str, Any]] = {
    None: {"k": 5, "metric": "euclidean", "temperature": None},
    "dino": {"k": 20, "metric": "cosine", "temperature": 0.07},
}


class KNN(Evaluator):
    """Majority class of the k nearest examples of ``fit_on``: ``accuracy`` on the data, and ``n``.

    Exact search in blocks of one matrix product each, on the model's device.  Ties go to the lower class.
    With a temperature, votes are weighted by exp(cosine / temperature) (Wu et al. 2018, arXiv 1805.01978,
    section 3.4).  The protocol "dino" is that of Caron et al. 2021 (arXiv 2104.14294, section 4.2.1): 20 neighbors by cosine,
    weighted with temperature 0.07.

    Args:
        k: number of neighbors; None takes 5, or the protocol's.
        metric: "euclidean" or "cosine"; None takes "euclidean", or the protocol's.
        temperature: of the votes' weights, positive, with "cosine" only; None weights votes equally, or by the protocol's.
        protocol: "dino" sets what is None of the three.
        label: the label field.
        pool: "mean" over tokens, or "flatten" them.
        factor: this factor's code only; None concatenates all factors'.
        labels: search among this many labeled examples only, balanced over classes; None takes all.
        seed: of their choice.
    """

    def __init__(
        self,
        k: Count | None = None,
        *,
        metric: Literal["euclidean", "cosine"] | None = None,
        temperature: Positive | None = None,
        protocol: Literal["dino"] | None = None,
        label: str = "label",
        pool: Pool = "mean",
        factor: str | None = None,
        labels: Count | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        usual = _PROTOCOLS[protocol]
        k, metric = usual["k"] if k is None else k, usual["metric"] if metric is None else metric
        require(
            protocol is None or metric == usual["metric"],
            f"knn(protocol={protocol!r}) compares by {usual['metric']}, not by {metric}: leave metric out",
        )
        temperature = usual["temperature"] if temperature is None else temperature
        require(
            temperature is None or metric == "cosine", "knn takes a temperature with metric='cosine' only"
        )
        require(labels is None or labels >= k, f"knn takes labels of at least k={k}, or None, not {labels}")
        self.k, self.metric, self.temperature, self.label = k, metric, temperature, label
        self.labels, self.seed = labels, seed
        self.options: dict[str, Any] = {"pool": pool, "factor": factor}

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return ``accuracy`` on ``data``, in [0, 1], and ``n``.

        Raises:
            DataError: no ``fit_on``, no labels, or fewer than k examples.
        """
        fit_on = (
            None if fit_on is None else label_subset(fit_on, self.labels, label=self.label, seed=self.seed)
        )
        x, y = encode_labeled(model, fit_on, self.label, "knn", **self.options)
        test_x, test_y = encode_labeled(model, data, self.label, "knn", **self.options)
        if len(x) < self.k:
            raise DataError(f"knn needs {self.k} neighbors, but fit_on has {len(x)} examples")
        classes, class_indices = np.unique(y, return_inverse=True)
        device = model.device
        known, votes = torch.from_numpy(x).to(device), torch.from_numpy(class_indices).to(device)
        rows = max(1, _BLOCK // max(len(known), len(classes)))
        guesses = [
            self._vote(block.to(device), known, votes, len(classes)).cpu()
            for block in torch.from_numpy(test_x).split(rows)
        ]
        correct = classes[torch.cat(guesses).numpy()] == test_y
        return {"accuracy": float(correct.mean()), "n": len(test_y)}

    def _vote(self, x: Tensor, known: Tensor, class_indices: Tensor, classes: int) -> Tensor:
        """Return the winning class (b,) of queries (b d) among ``known`` (n d)."""
        if self.metric == "cosine":
            similarity = normalize(x, dim=-1) @ normalize(known, dim=-1).T
        else:
            # 2 x·k − |k|² has the order of the negative distance; centered first, for float32 precision.
            mean = known.mean(0)
            x, known = x - mean, known - mean
            similarity = torch.addmm(-known.square().sum(-1), x, known.T, alpha=2.0)
        value, nearest = similarity.topk(self.k, dim=-1)
        weight = (
            torch.ones_like(value) if self.temperature is None else (value / self.temperature).softmax(-1)
        )
        totals = torch.zeros(len(x), classes, device=x.device)
        return totals.scatter_add_(1, class_indices[nearest], weight).argmax(-1)
