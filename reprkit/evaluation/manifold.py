"""Manifold: whether the code keeps the neighborhoods, the dimension and the tangents of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float

from reprkit.errors import BuildError, DataError
from reprkit.evaluation.encoding import Pool, batches, draw_examples, encoded
from reprkit.interfaces import Evaluator, require
from reprkit.registry.constraints import LARGEST_COUNT, Count, CountOrZero, Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_AT_ONCE = 16  # examples whose Jacobians are in memory together


class Manifold(Evaluator):
    """Comparison of the data with its code as sets of points, by Euclidean neighbors.

    ``trustworthiness``: whether neighbors in the code are neighbors in the data, and ``continuity``: whether neighbors in the data
    are neighbors in the code, both in [0, 1], about 0.5 by chance (Venna and Kaski 2001; both by scikit-learn).  ``dimension`` and
    ``data_dimension``: the local dimension of the code and of the data, the maximum-likelihood estimate from distances to ``k``
    neighbors (Levina and Bickel 2004), whose inverses are averaged over points (MacKay and Ghahramani 2005).  Neighbors at distance
    0 are left out; a dimension is 0 if all are.

    With ``tangents``, for a continuous latent: ``tangent_cosine``, the mean cosine of the angles between the directions in which
    the code responds most, the leading right singular vectors of its Jacobian (Rifai et al. 2011, NIPS, section 3), and the
    principal components of the nearest neighbors in the data; ``tangent_chance`` is the same for random directions.

    The data are the values of the factor's field, all of one shape; symbols have no distances, and are refused.

    Args:
        k: number of neighbors.
        tangents: number of directions; 0 omits both metrics.
        examples: number of examples whose Jacobian is computed.
        limit: number of examples that are compared, drawn by ``seed``: time and memory are quadratic in it.
        factor: the factor; None is the only one.
        pool: "mean" over tokens, or "flatten" them.
        seed: of the draw of examples and of the random directions.

    Raises:
        PartArgumentError: a value is out of its range, or more tangents than neighbors.
    """

    def __init__(
        self,
        k: Annotated[int, Ge(2), Le(LARGEST_COUNT)] = 10,
        *,
        tangents: CountOrZero = 0,
        examples: Count = 64,
        limit: Annotated[int, Ge(8), Le(LARGEST_COUNT)] = 1000,
        factor: str | None = None,
        pool: Pool = "flatten",
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        require(
            tangents <= k, f"manifold takes at most k={k} tangents, not {tangents}: k neighbors span no more"
        )
        self.k, self.tangents, self.examples, self.limit = k, tangents, examples, limit
        self.factor, self.pool, self.seed = factor, pool, seed

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above and ``n``.

        Raises:
            BuildError: no encoder, several factors of which none is named, or tangents of a discrete latent.
            DataError: symbols, examples of different shapes, or not over twice as many examples as neighbors.
        """
        from sklearn.manifold import trustworthiness

        from reprkit.models.factor import resolve_factor

        name = resolve_factor(model.factors, self.factor, "manifold")
        field = model.factors[name].input
        if data.signature[field].discrete or None in data.signature[field].shape:
            raise DataError(
                f"manifold compares distances of real values of one shape; field {field} is {data.signature[field].kind} "
                f"{data.signature[field].shape}"
            )
        if self.tangents and model.latent(name).vocab is not None:
            raise BuildError(
                "manifold(tangents=...) differentiates the code, and that of a discrete latent has no derivative"
            )
        data = draw_examples(data, self.limit, self.seed)
        if len(data) <= 2 * self.k:
            raise DataError(
                f"manifold(k={self.k}) needs over {2 * self.k} examples, and there are {len(data)}"
            )
        points = np.concatenate(
            [
                model.factors[name].view(model.to_device(batch))["x"].flatten(1).cpu().double()
                for batch in batches(data)
            ]
        )
        codes = encoded(model, data, factor=name, pool=self.pool).x.astype(np.float64)
        metrics: dict[str, Any] = {
            "trustworthiness": float(trustworthiness(points, codes, n_neighbors=self.k)),
            "continuity": float(trustworthiness(codes, points, n_neighbors=self.k)),
            "dimension": local_dimension(codes, self.k),
            "data_dimension": local_dimension(points, self.k),
        }
        if self.tangents:
            metrics.update(self._tangents(model, data, name, points))
        return {**metrics, "n": len(points)}

    def _tangents(
        self, model: Model, data: Dataset, name: str, points: Float[np.ndarray, "n i"]
    ) -> dict[str, float]:
        from sklearn.neighbors import NearestNeighbors

        count, width = min(self.examples, len(points)), points.shape[1]
        if self.tangents > width:
            raise DataError(f"manifold: {self.tangents} tangents of data of {width} dimensions")
        rows = [number * len(points) // count for number in range(count)]
        near = NearestNeighbors(n_neighbors=self.k).fit(points)
        neighbors = near.kneighbors(points[rows], self.k + 1, return_distance=False)
        random = np.random.default_rng(self.seed)
        cosines, chances = [], []
        for start in range(0, count, _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            jacobians = model.jacobian(data.batch(some), factor=name).detach().cpu().double().numpy()
            for row, jacobian, found in zip(some, jacobians, neighbors[start:], strict=False):
                local = points[found[found != row][: self.k]]
                tangent = _leading(local - local.mean(0), self.tangents)
                drawn = random.normal(size=(self.tangents, width))
                cosines.append(_mean_cosine(tangent, _leading(jacobian, self.tangents)))
                chances.append(_mean_cosine(tangent, _leading(drawn, self.tangents)))
        return {"tangent_cosine": float(np.mean(cosines)), "tangent_chance": float(np.mean(chances))}


def local_dimension(x: Float[np.ndarray, "n d"], k: int) -> float:
    """Return the maximum-likelihood estimate of the local dimension from distances to k neighbors (Levina and Bickel 2004).

    The inverse of a point's estimate is the mean of log(T_k / T_j) over j < k, with T_j the distance to neighbor j; their mean over
    points is inverted (MacKay and Ghahramani 2005).  Neighbors at distance 0 are left out.
    """
    from sklearn.neighbors import NearestNeighbors

    distances = NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(distances[:, -1:] / distances[:, :-1])
    logs = logs[np.isfinite(logs)]
    return float(1 / logs.mean()) if logs.any() else 0.0


def _leading(rows: Float[np.ndarray, "n i"], count: int) -> Float[np.ndarray, "m i"]:
    """Return the leading right singular vectors, at most ``count``, without those of singular value 0."""
    _, values, vectors = np.linalg.svd(rows, full_matrices=False)
    return vectors[:count][values[:count] > 1e-9 * max(float(values.max(initial=0.0)), 1e-300)]


def _mean_cosine(one: Float[np.ndarray, "m i"], other: Float[np.ndarray, "l i"]) -> float:
    """Return the mean cosine of the principal angles between the spans of orthonormal rows; 0 if one is empty."""
    if not len(one) or not len(other):
        return 0.0
    return float(np.linalg.svd(one @ other.T, compute_uv=False).clip(0, 1).mean())
