"""Retrieval: whether the code of one factor finds the same example's code of another factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import MinLen
from torch import Tensor
from torch.nn.functional import normalize

from reprkit.errors import BuildError, DataError
from reprkit.evaluation.encoding import by_length, to_float64
from reprkit.evaluation.projection import principal_plane
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Count
from reprkit.utils.progress import track_progress

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.reporting.figures import Scatter

_BLOCK = 1 << 24  # similarities in memory at a time
_DRAWN = 1000  # examples in the map


class Retrieval(Evaluator):
    """Retrieval between the codes of two factors, both ways, as between pictures and captions.

    Each example's vector of one factor (``model.joint_vectors``: where the objective compares factors in a space of its own, as
    ``across`` does, those, else ``model.represent``) ranks the vectors of the other factor of all examples of the data.
    ``recall_at_k``: the share of examples whose own counterpart is among the first k; ``median_rank``, counted from 1, is
    the median of its ranks.  A counterpart is ranked after all others of equal similarity, so that a collapsed code finds nothing.
    Metrics are named by the direction, ``image_to_text.recall_at_1``; those of ``chance`` are of a random order of the n examples:
    k / n, and (n + 1) / 2.

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
        """Return the metrics of both directions, those of chance, and ``n``.

        Raises:
            BuildError: the model does not have two factors, a name is unknown, or their vectors differ in width.
            DataError: vectors that are not finite.
        """
        query, target = self._factors(model)
        sides = _joint_vectors(model, data, (query, target))
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
        count = len(sides[0])
        metrics |= {f"chance.recall_at_{k}": min(k / count, 1.0) for k in self.at}
        figures = {"map": self._map(query, target, sides)}
        return {**metrics, "chance.median_rank": (count + 1) / 2, "n": count, "figures": figures}

    def _map(self, query: str, target: str, sides: list[Tensor]) -> Scatter:
        """Return the plane of the principal components of both factors' vectors, of at most ``_DRAWN`` examples."""
        from reprkit.reporting.figures import Scatter

        drawn = [
            normalize(side[:_DRAWN], dim=-1) if self.metric == "cosine" else side[:_DRAWN] for side in sides
        ]
        points, explained = principal_plane(torch.cat(drawn).numpy())
        return Scatter(
            title="The joint space",
            points=points,
            labels=np.repeat([0, 1], len(drawn[0])),
            names={0: query, 1: target},
            caption=f"Principal components of both, {explained:.0%} of the variance; {len(drawn[0]):,} examples.",
        )

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


def _joint_vectors(model: Model, data: Dataset, factors: tuple[str, str]) -> list[Tensor]:
    """Return the vectors of each factor (n d), float64, in the order of the data."""
    indices: list[Tensor] = []
    pieces: dict[str, list[Tensor]] = {name: [] for name in factors}
    for rows, batch in by_length(data, "encoding"):
        indices.append(rows)
        for name, found in pieces.items():
            found.append(to_float64(model.joint_vectors(batch, name)).cpu())
    order = torch.cat(indices).argsort()
    sides = [torch.cat(found)[order] for found in pieces.values()]
    for name, side in zip(factors, sides, strict=True):
        if not side.isfinite().all():
            example = int((~side.isfinite()).nonzero()[0, 0])
            raise DataError(
                f"the vector of factor {name} of example {example} is not finite: it cannot be evaluated"
            )
    return sides


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
