"""Retrieval: whether the code of one factor finds the same example's code of another factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import Tensor
from torch.nn.functional import normalize

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import encoded
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Count
from reprkit.utils.progress import track_progress

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_BLOCK = 1 << 24  # similarities in memory at a time


class Retrieval(Evaluator):
    """Retrieval between the codes of two factors, both ways, as between pictures and captions.

    Each example's vector of one factor (``model.represent``) ranks the vectors of the other factor of all examples of the data.
    ``recall_at_k``: the share of examples whose own counterpart is among the first k; ``median_rank``, counted from 1, is
    the median of its ranks.  A counterpart is ranked after all others of equal similarity, so that a collapsed code finds nothing.
    Metrics are named by the direction, ``image_to_text.recall_at_1``.

    Args:
        query: a factor; None is the first of two.
        target: the other factor; None is the second of two.
        at: the numbers k; each at most the number of examples counts.
        metric: "cosine", "euclidean" or "dot".
    """

    def __init__(
        self,
        query: str | None = None,
        target: str | None = None,
        *,
        at: Annotated[tuple[Count, ...], MinLen(1)] = (1, 5, 10),
        metric: Literal["cosine", "euclidean", "dot"] = "cosine",
    ) -> None:
        super().__init__()
        self.query, self.target, self.at, self.metric = query, target, at, metric

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics of both directions, and ``n``.

        Raises:
            BuildError: the model does not have two factors, a name is unknown, or their vectors differ in width.
        """
        query, target = self._factors(model)
        sides = [torch.from_numpy(encoded(model, data, factor=name).x).double() for name in (query, target)]
        if sides[0].shape[1] != sides[1].shape[1]:
            raise BuildError(
                f"retrieval compares vectors of one width, and factor {query} has {sides[0].shape[1]} dimensions, {target} has "
                f"{sides[1].shape[1]}: give their latents one width"
            )
        metrics: dict[str, Any] = {}
        for name, rows, known in (
            (f"{query}_to_{target}", sides[0], sides[1]),
            (f"{target}_to_{query}", sides[1], sides[0]),
        ):
            ranks = ranks_of_counterparts(rows, known, self.metric)
            for k in self.at:
                metrics[f"{name}.recall_at_{k}"] = float((ranks <= k).double().mean())
            metrics[f"{name}.median_rank"] = float(ranks.double().quantile(0.5))
        return {**metrics, "n": len(sides[0])}

    def _factors(self, model: Model) -> tuple[str, str]:
        names = list(model.factors)
        if self.query is None and self.target is None and len(names) == 2:
            return names[0], names[1]
        if self.query is None or self.target is None:
            raise BuildError(
                f"retrieval needs two factors, and the model has {', '.join(names) or 'none'}: name them, "
                "retrieval(query='image', target='text')"
                if len(names) > 1
                else f"retrieval compares two factors, and the model has {', '.join(names) or 'none'}"
            )
        for name in (self.query, self.target):
            if name not in names:
                raise BuildError(
                    f"retrieval: no factor named {name!r}; there are: {', '.join(names) or 'none'}"
                )
        if self.query == self.target:
            raise BuildError(f"retrieval compares two factors, and both are {self.query!r}")
        return self.query, self.target


def ranks_of_counterparts(x: Tensor, known: Tensor, metric: str) -> Tensor:
    """Return the rank (n,), from 1, of row i of ``known`` (n d) among all its rows, by similarity to row i of ``x`` (n d).

    Rows of equal similarity are ranked before it.
    """
    if metric == "cosine":
        x, known = normalize(x, dim=-1), normalize(known, dim=-1)
    found = []
    rows = max(1, _BLOCK // len(known))
    for start in track_progress(range(0, len(x), rows), "ranking", total=-(-len(x) // rows)):
        block = x[start : start + rows]
        similarity = -torch.cdist(block, known) if metric == "euclidean" else block @ known.T
        own = similarity[torch.arange(len(block)), start + torch.arange(len(block))]
        found.append((similarity >= own.unsqueeze(1)).sum(1))
    return torch.cat(found)
