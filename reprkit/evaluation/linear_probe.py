"""Linear probe: a linear classifier on the frozen representation."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from reprkit.errors import DataError
from reprkit.evaluation.encoding import Pool, encode_labeled
from reprkit.evaluation.label_subset import label_subset
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Count, Positive, Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_SHOWN = 40  # maximum number of classes of a confusion matrix


class LinearProbe(Evaluator):
    """Multinomial logistic regression on ``model.represent``, fitted on ``fit_on``: ``accuracy``, ``majority`` and ``n``.

    Features are standardized by ``fit_on``'s mean and standard deviation; fitted by scikit-learn's L-BFGS.
    Alain and Bengio 2016 (arXiv 1610.01644).

    Args:
        C: inverse strength of the L2 penalty, positive.
        label: the label field.
        pool: "mean" over tokens, or "flatten" them.
        factor: this factor's code only; None concatenates all factors'.
        max_iter: maximum number of L-BFGS steps; scikit-learn warns if they do not suffice.
        labels: fit on this many labeled examples only, balanced over classes; None takes all.
        seed: of their choice.
    """

    def __init__(
        self,
        *,
        C: Positive = 1.0,
        label: str = "label",
        pool: Pool = "mean",
        factor: str | None = None,
        max_iter: Count = 2000,
        labels: Annotated[int, Ge(2), Le(10**9)] | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.C, self.label, self.max_iter, self.labels, self.seed = C, label, max_iter, labels, seed
        self.options: dict[str, Any] = {"pool": pool, "factor": factor}

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return ``accuracy`` on ``data`` and that of the commonest class of ``fit_on``, in [0, 1], and ``n``.

        Warns if ``data`` has one class only, whose accuracy does not show that classes are told apart.

        Raises:
            DataError: no ``fit_on``, no labels, or only one class among them.
        """
        fit_on = (
            None if fit_on is None else label_subset(fit_on, self.labels, label=self.label, seed=self.seed)
        )
        x, y = encode_labeled(model, fit_on, self.label, "linear-probe", **self.options)
        probe = fit_probe(x, y, C=self.C, max_iter=self.max_iter, label=self.label)
        test_x, test_y = encode_labeled(model, data, self.label, "linear-probe", **self.options)
        guess = probe.predict(test_x.astype(np.float64))
        metrics: dict[str, Any] = probe_metrics(guess, y, test_y, f"linear-probe(label={self.label!r})")
        classes = np.union1d(y, test_y)
        names = data.signature[self.label].classes
        if len(classes) <= _SHOWN:
            metrics["figures"] = {"confusion": _confusion(test_y, guess, classes, names)}
        return metrics


def probe_metrics(guess: np.ndarray, fitted: np.ndarray, truth: np.ndarray, name: str) -> dict[str, Any]:
    """Return ``accuracy``, the accuracy of the commonest fitted class (``majority``), and ``n``; warn if the truth has one class.

    Args:
        guess: (n,), predicted classes.
        fitted: (m,), classes of the examples that the probe was fitted on.
        truth: (n,), classes of the data.
        name: of the evaluator, for the warning.
    """
    values, counts = np.unique(fitted, return_counts=True)
    if len(np.unique(truth)) == 1:
        warnings.warn(
            f"{name}: every example to classify has label {truth[0]}, so the accuracy does not show that classes "
            "are told apart: evaluate on data with several classes",
            stacklevel=2,
        )
    majority = float((truth == values[counts.argmax()]).mean())
    return {"accuracy": float((guess == truth).mean()), "majority": majority, "n": len(truth)}


def fit_probe(
    x: np.ndarray, y: np.ndarray, *, C: float = 1.0, max_iter: int = 2000, label: str = "label"
) -> Any:
    """Fit scikit-learn's pipeline of scaler and logistic regression to features (n d) and labels (n,).

    Raises:
        DataError: only one class among the labels.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(y)) < 2:
        raise DataError(f"linear-probe needs at least two classes; every label {label!r} of fit_on is {y[0]}")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=max_iter))
    return probe.fit(x.astype(np.float64), y)


def _confusion(truth: np.ndarray, guess: np.ndarray, classes: np.ndarray, names: tuple[str, ...]) -> Any:
    from sklearn.metrics import confusion_matrix

    from reprkit.reporting.figures import Matrix

    counts = confusion_matrix(truth, guess, labels=classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return Matrix(
        title="Confusion matrix of the linear probe",
        values=shares,
        xlabel="predicted",
        ylabel="label",
        span=(0.0, 1.0),
        ticks=[names[value] if 0 <= value < len(names) else str(value) for value in classes],
        detail=True,
        caption="Share of each label's examples.",
    )
