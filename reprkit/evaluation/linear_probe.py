"""Linear probe: what a linear classifier reads from the frozen representation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge

from reprkit.errors import DataError
from reprkit.evaluation.encoding import Pool, encode_labeled
from reprkit.evaluation.label_subset import label_subset
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Count, Positive, Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_SHOWN = 40  # more classes than this get no confusion matrix


class LinearProbe(Evaluator):
    """Multinomial logistic regression on ``model.represent``, fitted on ``fit_on``: ``accuracy`` and ``n``.

    Features are standardised by ``fit_on``'s mean and deviation; scikit-learn's L-BFGS does the fitting.
    Alain and Bengio 2016 (arXiv 1610.01644).

    Args:
        C: inverse strength of the L2 penalty, positive.
        label: the label field.
        pool: "mean" over tokens, or "flatten" them.
        factor: only this factor's code; all factors' in a row when None.
        max_iter: L-BFGS steps at most; scikit-learn warns when they do not suffice.
        labels: fit on so many labelled examples only, as many of each class as can be; None takes all.
        seed: which those are.
    """

    def __init__(
        self,
        *,
        C: Positive = 1.0,
        label: str = "label",
        pool: Pool = "mean",
        factor: str | None = None,
        max_iter: Count = 2000,
        labels: Annotated[int, Ge(2)] | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.C, self.label, self.max_iter, self.labels, self.seed = C, label, max_iter, labels, seed
        self.how: dict[str, Any] = {"pool": pool, "factor": factor}

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Accuracy on ``data``, in [0, 1].

        Raises:
            DataError: no ``fit_on``, no labels, or only one class among them.
        """
        fit_on = (
            None if fit_on is None else label_subset(fit_on, self.labels, label=self.label, seed=self.seed)
        )
        x, y = encode_labeled(model, fit_on, self.label, "linear-probe", **self.how)
        probe = fit_probe(x, y, C=self.C, max_iter=self.max_iter, label=self.label)
        test_x, test_y = encode_labeled(model, data, self.label, "linear-probe", **self.how)
        guess = probe.predict(test_x.astype(np.float64))
        found: dict[str, Any] = {"accuracy": float((guess == test_y).mean()), "n": len(test_y)}
        classes = np.union1d(y, test_y)
        if len(classes) <= _SHOWN:
            found["figures"] = {"confusion": _confusion(test_y, guess, classes)}
        return found


def fit_probe(
    x: np.ndarray, y: np.ndarray, *, C: float = 1.0, max_iter: int = 2000, label: str = "label"
) -> Any:
    """scikit-learn's pipeline of scaler and logistic regression, fitted to features (n d) and labels (n,).

    Raises:
        DataError: only one class among the labels.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(y)) < 2:
        raise DataError(f"linear-probe needs two classes at least; every label {label!r} of fit_on is {y[0]}")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=max_iter))
    return probe.fit(x.astype(np.float64), y)


def _confusion(truth: np.ndarray, guess: np.ndarray, classes: np.ndarray) -> Any:
    from sklearn.metrics import confusion_matrix

    from reprkit.reporting.figures import Matrix

    counts = confusion_matrix(truth, guess, labels=classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return Matrix(
        title="What the linear probe mistakes",
        values=shares,
        xlabel="predicted",
        ylabel="label",
        span=(0.0, 1.0),
        ticks=[str(each) for each in classes],
        detail=True,
        caption="Share of each label's examples.",
    )
