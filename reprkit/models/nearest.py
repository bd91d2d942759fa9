"""Nearest neighbors of examples by their codes, such as the pictures of a folder that are most like one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn.functional import normalize

from reprkit.errors import DataError
from reprkit.models.embedding import Pool, encode_batch
from reprkit.models.isolation import isolate
from reprkit.utils.progress import track_progress

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

Distance = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class Neighbors:
    """The nearest examples of each query, nearest first.

    Attributes:
        indices: their places in the data (q k).
        distances: of their vectors (q k): 1 - cosine, or Euclidean.
        labels: their labels by field (q k), where the data has any.
    """

    indices: Int[np.ndarray, "q k"]
    distances: Float[np.ndarray, "q k"]
    labels: dict[str, Int[np.ndarray, "q k"]]


@torch.no_grad()
def find_nearest(
    model: Model,
    data: Dataset,
    queries: Dataset,
    k: int = 10,
    *,
    distance: Distance = "cosine",
    factor: str | None = None,
    pool: Pool = "mean",
    batch: int = 256,
    seed: int = 0,
    progress: bool | None = None,
) -> Neighbors:
    """Find the ``k`` examples of the data whose vectors (``model.represent``) are nearest to those of each query.

    Holds one batch of the data and k vectors' distances for each query in memory.  Equal distances keep the data's order.

    Args:
        model: a model with an encoder.
        data: the examples to search.
        queries: the examples whose neighbors are wanted.
        k: at most the number of examples is returned.
        distance: "cosine", 1 minus the cosine, from 0 to 2; or "euclidean".
        factor: this factor's code only; None concatenates the vectors of all.
        pool: how the tokens of an example become a vector.
        batch: examples at a time.
        seed: of random draws, where a latent draws in evaluation.
        progress: as in ``rk.evaluate``.

    Raises:
        DataError: data that does not fit the model, or vectors that are not finite or differ in width.
        BuildError: the model has no encoder, or no such factor.
    """
    names = data.signature.label_fields()
    with isolate(model, seed) as reseed:
        asked = torch.cat(
            [
                torch.from_numpy(encode_batch(model, rows, (), factor, pool).x).double()
                for rows in queries.batches(batch)
            ]
        )
        best = torch.empty(len(asked), 0, dtype=torch.float64)
        where = torch.empty(len(asked), 0, dtype=torch.int64)
        kept: dict[str, torch.Tensor] = {}
        for start in track_progress(range(0, len(data), batch), "searching", show=progress):
            reseed()
            rows = data.batch(torch.arange(start, min(start + batch, len(data))))
            piece = encode_batch(model, rows, names, factor, pool)
            vectors = torch.from_numpy(piece.x).double()
            found = _distances(asked, vectors, distance)
            if not found.isfinite().all():
                raise DataError("a vector of the model is not finite, so it has no distance to others")
            places = torch.arange(start, start + len(vectors)).expand(len(asked), -1)
            joined = torch.cat([best, found], 1)
            order = joined.argsort(dim=1, stable=True)[:, :k]
            best, where = joined.gather(1, order), torch.cat([where, places], 1).gather(1, order)
            for name, values in piece.labels.items():
                fresh = torch.from_numpy(values).expand(len(asked), -1)
                before = kept.get(name, torch.empty(len(asked), 0, dtype=fresh.dtype))
                kept[name] = torch.cat([before, fresh], 1).gather(1, order)
    return Neighbors(where.numpy(), best.numpy(), {name: values.numpy() for name, values in kept.items()})


def _distances(asked: torch.Tensor, vectors: torch.Tensor, distance: Distance) -> torch.Tensor:
    if asked.shape[1] != vectors.shape[1]:
        raise DataError(
            f"vectors of {asked.shape[1]} and {vectors.shape[1]} numbers: examples of different lengths need pool='mean'"
        )
    if distance == "euclidean":
        return torch.cdist(asked, vectors)
    return (1 - normalize(asked, dim=-1) @ normalize(vectors, dim=-1).T).clamp(min=0)
