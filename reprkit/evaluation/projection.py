"""Projection of the representation to two dimensions, by principal components and by t-SNE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from reprkit.evaluation.encoding import Pool, draw_examples, encoded, label_if_any
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


_COMPARED = 2000  # examples whose neighbors are compared: memory is quadratic in their number


class Projection(Evaluator):
    """Two-dimensional maps of ``model.represent``, colored by label if there is one.

    ``explained``, the share of variance in the first two principal components; ``trustworthiness`` of the
    t-SNE map, in [0, 1]: whether neighbors in the map are neighbors in the code (Venna and Kaski 2001).
    t-SNE: van der Maaten and Hinton 2008; started from the principal components (Kobak and Berens 2019, doi
    10.1038/s41467-019-13056-x).

    Args:
        limit: maximum number of examples, drawn by ``seed``.
        perplexity: of t-SNE, at least 2; at most a third of the examples.
        tsne: whether to compute it; PCA alone is quick.
        label: the label field for the colors; None takes "label" where the data has it.
        pool: "mean" over tokens, or "flatten" them.
        factor: this factor's code only; None concatenates all factors'.
        seed: of the draw of examples and of t-SNE.
    """

    def __init__(
        self,
        limit: Annotated[int, Ge(4), Le(10**7)] = 1000,
        *,
        perplexity: Annotated[float, Ge(2), Le(10**6)] = 30.0,
        tsne: bool = True,
        label: str | None = None,
        pool: Pool = "mean",
        factor: str | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.limit, self.perplexity, self.tsne, self.label, self.seed = limit, perplexity, tsne, label, seed
        self.options: dict[str, Any] = {"pool": pool, "factor": factor}

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics, and the maps as figures ``pca`` and ``tsne``."""
        from reprkit.reporting.figures import Scatter

        data = draw_examples(data, self.limit, self.seed)
        label = label_if_any(data, self.label, "projection")
        encoding = encoded(model, data, **self.options)
        labels = None if label is None else encoding.labels[label]
        names = None if label is None else dict(enumerate(data.signature[label].classes))
        x = encoding.x.astype(np.float64)
        plane, explained = principal_plane(x)
        size = f"{len(x):,} examples."
        figures: dict[str, Any] = {
            "pca": Scatter(
                title="Principal components",
                points=plane,
                labels=labels,
                names=names,
                caption=f"{size} They explain {explained:.0%} of the variance.",
            )
        }
        metrics: dict[str, Any] = {"explained": explained}
        if self.tsne and len(x) >= 4 and plane[:, 0].std() > 0:
            points, trust = self._tsne(x, plane)
            metrics["trustworthiness"] = trust
            figures["tsne"] = Scatter(
                title="t-SNE",
                points=points,
                labels=labels,
                names=names,
                caption=f"{size} Distances between clusters mean little.",
            )
        return {**metrics, "figures": figures}

    def _tsne(self, x: np.ndarray, plane: np.ndarray) -> tuple[np.ndarray, float]:
        from sklearn.manifold import TSNE, trustworthiness

        perplexity = min(self.perplexity, (len(x) - 1) / 3)
        start = (plane / plane[:, 0].std() * 1e-4).astype(np.float32)
        points = TSNE(perplexity=perplexity, init=start, random_state=self.seed).fit_transform(
            x.astype(np.float32)
        )
        rows = slice(None, None, -(-len(x) // _COMPARED))
        neighbors = max(1, min(12, len(x[rows]) // 2 - 1))
        return points, float(trustworthiness(x[rows], points[rows], n_neighbors=neighbors))


def principal_plane(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the first two principal components (n 2) and their share of the variance; zeros for missing ones."""
    from sklearn.decomposition import PCA

    count = min(2, *x.shape)
    total = float(x.var(0).sum())
    plane = np.zeros((len(x), 2))
    if total <= 1e-12:
        return plane, 0.0
    pca = PCA(count, svd_solver="full")
    plane[:, :count] = pca.fit_transform(x)
    return plane, float(pca.explained_variance_ratio_.sum())
