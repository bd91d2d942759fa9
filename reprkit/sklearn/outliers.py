"""Outlier detection by a model of rows, as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples

from reprkit.sklearn.rows import RowModel

if TYPE_CHECKING:
    import pandas as pd

    from reprkit.evaluation.contributions import Contributions

Measure = Literal["nll", "error"]


class OutlierDetector(OutlierMixin, RowModel):
    """Detect rows that a model of normal rows describes badly; fit it to rows most of which are normal.

    The score of a row is that of the evaluator ``anomaly``: its negative log-likelihood given its code (An and Cho 2015), or its
    squared reconstruction error.  The threshold is a quantile of the scores of held-out rows, since those of training rows are
    too small.

    ::

        from reprkit.sklearn import OutlierDetector

        detector = OutlierDetector(quantile=0.99, random_state=0).fit(x)
        detector.predict(x_new)  # -1 for outliers, 1 for the others
        detector.explain(x_new)  # the columns that make rows unusual, with the values that the model expects

    Args:
        latent: a reference to any latent, as for ``rk.build``.
        encoder: a reference to an encoder of vectors.
        decoder: a reference to a decoder of vectors.
        objective: a reference or a weighted sum of them.
        measure: "nll", nats, or "error", the squared error of the standardized row.
        quantile: share of held-out rows whose score is below the threshold, in (0, 1).
        held_out: share of the rows that set the threshold and are not trained on, in (0, 1).
        steps: number of optimizer steps.
        batch: rows per step; all of them where there are fewer.
        lr: learning rate of AdamW, with a cosine schedule to 0.
        device: "cpu", "cuda", ...; None takes a GPU if there is one.
        random_state: an integer, a ``RandomState``, or None for a different fit each time.

    Attributes:
        model_: the trained ``rk.Model``, in evaluation mode.
        offset_: the threshold of ``score_samples``: rows below it are outliers.
        held_out_: indices of the rows that set the threshold.
        mean_, scale_, columns_, loss_, n_features_in_, feature_names_in_: as of ``Representation``.
    """

    def __init__(
        self,
        latent: str = "continuous(dim=8)",
        *,
        encoder: str = "mlp",
        decoder: str = "mlp",
        objective: str = "reconstruction",
        measure: Measure = "nll",
        quantile: float = 0.95,
        held_out: float = 0.2,
        steps: int = 500,
        batch: int = 128,
        lr: float = 2e-3,
        device: str | None = "cpu",
        random_state: Any = None,
    ) -> None:
        super().__init__(
            latent,
            encoder=encoder,
            decoder=decoder,
            objective=objective,
            steps=steps,
            batch=batch,
            lr=lr,
            device=device,
            random_state=random_state,
        )
        self.measure = measure
        self.quantile = quantile
        self.held_out = held_out

    def fit(self, X: Any, y: Any = None) -> OutlierDetector:
        """Fit the model to most rows (b d), and the threshold to the others; labels are ignored.

        Raises:
            ReprkitError: parts that do not exist or do not fit each other, or a column that no rule decides.
            ValueError: an array that is not a table of finite numbers, fewer than three rows, or a setting out of its range.
        """
        if self.measure not in ("nll", "error"):
            raise ValueError(f"measure is 'nll' or 'error', not {self.measure!r}")
        for name in ("quantile", "held_out"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} lies between 0 and 1, not {getattr(self, name)}")
        random = check_random_state(self.random_state)
        order = random.permutation(_num_samples(X))
        count = min(max(1, round(self.held_out * len(order))), max(0, len(order) - 2))
        data = self.learn_rows(X, np.sort(order[count:]))
        if not count:
            raise ValueError(
                f"an OutlierDetector needs 3 rows, two to train on and one for the threshold, not {len(order)}"
            )
        self.held_out_ = np.sort(order[:count])
        self.train(data, int(random.randint(2**31 - 1)))
        rows, known = self.read_rows(X, unseen_is_missing=True)
        scores = self._anomaly(rows[self.held_out_], known[self.held_out_])
        self.offset_ = -float(np.quantile(scores, self.quantile))
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return the negative anomaly score of rows (b,): the higher, the more normal.

        Raises:
            DataError: a DataFrame that lacks a column, or holds a class that was not learned.
        """
        return -self._anomaly(*self.read_rows(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return ``score_samples`` above the threshold (b,): below 0 for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return -1 for outliers and 1 for the other rows (b,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def contributions(self, X: Any) -> NDArray[np.float64]:
        """Return what each column adds to the anomaly score of rows (b columns); a row's sum is ``-score_samples``.

        Raises:
            DataError: as ``score_samples``.
            BuildError: the score is no sum over columns.
        """
        return self._contributions(X).values

    def explain(self, X: Any, top: int | None = 3) -> pd.DataFrame:
        """Return the columns that add most to the anomaly score of each row: row, column, value, expected, contribution.

        ``value`` and ``expected``, what the model returns, are in the rows' own units.

        Args:
            X: rows (b d).
            top: columns of each row; None for all.

        Raises:
            DataError, BuildError: as ``contributions``.
        """
        return self._contributions(X).frame(top)

    def _contributions(self, X: Any) -> Contributions:
        from reprkit.data.signature import Column, Field
        from reprkit.evaluation.anomaly import Anomaly
        from reprkit.evaluation.contributions import contributions_of

        rows, known = self.read_rows(X)
        found = contributions_of(Anomaly(self.measure), self.model_, self.batches(rows, known))
        found = replace(found, values=found.values[: len(rows)], expected=found.expected[: len(rows)])
        if self.columns_:
            return replace(found, observed=found.observed[: len(rows)], known=known)
        names = getattr(self, "feature_names_in_", range(rows.shape[1]))
        columns = tuple(
            Column(str(name), mean=float(mean), std=float(std))
            for name, mean, std in zip(names, self.mean_, self.scale_, strict=True)
        )
        expected = found.expected * self.scale_ + self.mean_
        return replace(
            found,
            observed=rows,
            expected=expected,
            field=Field(kind="vector", shape=(len(columns),), columns=columns),
        )

    def _anomaly(self, rows: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the anomaly score of rows (b,)."""
        import torch

        from reprkit.evaluation.anomaly import example_errors, example_nats

        measured = example_nats if self.measure == "nll" else example_errors
        with torch.no_grad():
            found = [
                measured(self.model_, batch, self.model_.encode(batch)) for batch in self.batches(rows, known)
            ]
        return torch.cat(found).cpu().numpy()[: len(rows)]
