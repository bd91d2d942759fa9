"""Disentanglement: whether each dimension of the code follows one factor of variation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Le, MinLen
from jaxtyping import Float, Int

from reprkit.errors import DataError
from reprkit.evaluation.encoding import Pool, draw_examples, encoded
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import LARGEST_COUNT, Count, CountOrZero, Positive, Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_STEP = 1 << 22  # numbers of the votes' batches in memory at a time


class Disentanglement(Evaluator):
    """Measures of disentanglement, as in disentanglement_lib (Locatello et al. 2019, arXiv 1811.12359), between code and labels.

    The label fields are the factors of variation; what is measured is ``model.represent``, each dimension by itself.

    - ``mig``: the mutual information gap (Chen et al. 2018, arXiv 1802.04942), of dimensions in bins of equal width;
    - ``sap``: the gap between the accuracies of the two best dimensions (Kumar et al. 2018, arXiv 1711.00848), by a linear support
      vector machine on each;
    - ``dci.disentanglement``, ``dci.completeness``, ``dci.informativeness`` (Eastwood and Williams 2018), from the importances
      of boosted trees, and their accuracy;
    - ``factor_vae``: accuracy of the majority vote (Kim and Mnih 2018, arXiv 1802.05983): the dimension of least variance,
      relative to its overall variance, among examples that share a label's value, tells which label it is;
    - ``irs``: the interventional robustness score (Suter et al. 2019, arXiv 1811.00007), with deviations at the 99th percentile.

    ``sap``, ``dci`` and the vote are fitted on ``fit_on``, and measured on the data.  Figure: the importance of each dimension for
    each label.

    Args:
        labels: the label fields; None takes all.
        bins: of the mutual information.
        trees: of each label's classifier in ``dci``; 0 omits it, which is most of the time.
        votes: of ``factor_vae``, for the fit and for the measure; each is of ``batch`` examples.
        batch: see votes.
        C: inverse strength of the penalty of the support vector machines.
        limit: at most this many examples of ``fit_on``, and of the data, drawn with the seed; None takes all.
        pool: "mean" over tokens, or "flatten" them.
        factor: this factor's code only; None concatenates all factors'.
        seed: of trees, votes and machines.
    """

    def __init__(
        self,
        labels: Annotated[tuple[str, ...], MinLen(2)] | None = None,
        *,
        bins: Annotated[int, Ge(2), Le(LARGEST_COUNT)] = 20,
        trees: CountOrZero = 100,
        votes: Count = 5_000,
        batch: Annotated[int, Ge(2), Le(LARGEST_COUNT)] = 64,
        C: Positive = 0.01,
        limit: Annotated[int, Ge(2), Le(LARGEST_COUNT)] | None = None,
        pool: Pool = "mean",
        factor: str | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.labels, self.bins, self.trees, self.votes, self.batch = labels, bins, trees, votes, batch
        self.C, self.limit, self.seed = C, limit, seed
        self.options: dict[str, Any] = {"pool": pool, "factor": factor}

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above and the figure.

        Raises:
            DataError: no ``fit_on``, fewer than two label fields, a field without a second value, or a code of one dimension.
        """
        from reprkit.reporting.figures import Matrix

        if fit_on is None:
            raise DataError("disentanglement is fitted on labeled examples: pass evaluate(..., fit_on=train)")
        names = self.labels or tuple(data.signature.label_fields())
        x, y = self._read(model, fit_on, names)
        test_x, test_y = self._read(model, data, names)
        metrics: dict[str, Any] = {
            "mig": mutual_information_gap(test_x, test_y, self.bins),
            "sap": separated_predictability(x, y, test_x, test_y, C=self.C, seed=self.seed),
            "factor_vae": self._vote(x, y, test_x, test_y),
            "irs": interventional_robustness(test_x, test_y),
        }
        if self.trees:
            importance, accuracy = self._importance(x, y, test_x, test_y)
            metrics["dci"] = {
                "disentanglement": dci_disentanglement(importance),
                "completeness": dci_completeness(importance),
                "informativeness": accuracy,
            }
            figure = Matrix(
                title="Importance of each dimension for each label",
                values=importance.T,
                xlabel="dimension",
                ylabel="label: " + ", ".join(names),
            )
            metrics["figures"] = {"importance": figure}
        return metrics

    def _read(
        self, model: Model, data: Dataset, names: tuple[str, ...]
    ) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, "n k"]]:
        data = draw_examples(data, self.limit, self.seed)
        found = encoded(model, data, **self.options)
        missing = [name for name in names if name not in found.labels]
        if missing or len(names) < 2:
            raise DataError(
                f"disentanglement needs two label fields or more, the factors of variation; the data has "
                f"{', '.join(found.labels) or 'none'}" + (f", not {', '.join(missing)}" if missing else "")
            )
        labels = np.stack([found.labels[name] for name in names], 1)
        x = found.x.astype(np.float64)
        for name, column in zip(names, labels.T, strict=True):
            if len(np.unique(column)) < 2:
                raise DataError(f"disentanglement: every label {name!r} is {column[0]}, so nothing varies")
        if x.shape[1] < 2:
            raise DataError(
                "disentanglement compares dimensions of the code, and it has one; pool='flatten' keeps all tokens"
            )
        return x, labels

    def _importance(
        self, x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
    ) -> tuple[Float[np.ndarray, "d k"], float]:
        """Return the importances of boosted trees, and the mean accuracy on the data."""
        from sklearn.ensemble import GradientBoostingClassifier

        columns, accuracies = [], []
        for label in range(y.shape[1]):
            trees = GradientBoostingClassifier(n_estimators=self.trees, random_state=self.seed)
            trees.fit(x, y[:, label])
            columns.append(np.abs(trees.feature_importances_))
            accuracies.append(float((trees.predict(test_x) == test_y[:, label]).mean()))
        return np.stack(columns, 1), float(np.mean(accuracies))

    def _vote(self, x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
        overall = x.var(0, ddof=1)
        random = np.random.default_rng(self.seed)
        counted = [
            count_votes(each, overall, *self._draw_batches(labels, random), labels=y.shape[1])
            for each, labels in ((x, y), (test_x, test_y))
        ]
        return vote_accuracy(*counted)

    def _draw_batches(
        self, y: np.ndarray, random: np.random.Generator
    ) -> tuple[Int[np.ndarray, " v"], Int[np.ndarray, "v b"]]:
        """Return the label of each vote, and examples that share its value: that of an example that is drawn."""
        members = [[np.flatnonzero(column == value) for value in np.unique(column)] for column in y.T]
        values = [np.unique(column, return_inverse=True)[1] for column in y.T]
        labels = random.integers(y.shape[1], size=self.votes)
        examples = random.integers(len(y), size=self.votes)
        rows = [
            random.choice(members[label][values[label][example]], self.batch)
            for label, example in zip(labels, examples, strict=True)
        ]
        return labels, np.stack(rows)


def count_votes(
    x: Float[np.ndarray, "n d"],
    overall: Float[np.ndarray, " d"],
    fixed: Int[np.ndarray, " v"],
    rows: Int[np.ndarray, "v b"],
    *,
    labels: int,
) -> Int[np.ndarray, "d k"]:
    """Return how often each dimension varied least, relative to ``overall``, in batches of examples that share a label's value.

    ``rows`` are the batches, and ``fixed`` the numbers of the labels that they share.  A dimension that does not vary gets no vote.
    """
    votes = np.zeros((x.shape[1], labels), np.int64)
    moving = np.flatnonzero(overall > 0)
    if not len(moving):
        return votes
    x, overall = x[:, moving], overall[moving]
    step = max(1, _STEP // (rows.shape[1] * len(moving)))
    for start in range(0, len(rows), step):
        least = moving[(x[rows[start : start + step]].var(1, ddof=1) / overall).argmin(1)]
        np.add.at(votes, (least, fixed[start : start + step]), 1)
    return votes


def vote_accuracy(fitted: Int[np.ndarray, "d k"], measured: Int[np.ndarray, "d k"]) -> float:
    """Return the share of the votes ``measured`` that are for the label that got most of the dimension's votes ``fitted``."""
    total = measured.sum()
    guess = fitted.argmax(1)
    return float(measured[np.arange(len(guess)), guess].sum() / total) if total else 0.0


def mutual_information_gap(x: Float[np.ndarray, "n d"], y: Int[np.ndarray, "n k"], bins: int) -> float:
    """Return the gap between the two dimensions of largest mutual information with a label, over its entropy, averaged."""
    known, entropy = mutual_informations(x, y, bins)
    known.sort(0)
    return float(np.mean((known[-1] - known[-2]) / entropy))


def mutual_informations(
    x: Float[np.ndarray, "n d"], y: Int[np.ndarray, "n k"], bins: int
) -> tuple[Float[np.ndarray, "d k"], Float[np.ndarray, " k"]]:
    """Return the mutual information of each dimension, in bins of equal width, with each label, and the labels' entropies; nats."""
    from sklearn.metrics import mutual_info_score

    binned = [np.digitize(column, np.histogram(column, bins)[1][:-1]) for column in x.T]
    known = np.array([[mutual_info_score(label, column) for label in y.T] for column in binned])
    return known, np.array([mutual_info_score(label, label) for label in y.T])


def separated_predictability(
    x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, *, C: float, seed: int
) -> float:
    """Return the gap between the accuracies of the two dimensions that predict a label best, a mean over labels."""
    from sklearn.svm import LinearSVC

    gaps = []
    for label in range(y.shape[1]):
        accuracies = []
        for dim in range(x.shape[1]):
            machine = LinearSVC(C=C, class_weight="balanced", random_state=seed).fit(x[:, [dim]], y[:, label])
            accuracies.append(float((machine.predict(test_x[:, [dim]]) == test_y[:, label]).mean()))
        accuracies.sort()
        gaps.append(accuracies[-1] - accuracies[-2])
    return float(np.mean(gaps))


def interventional_robustness(
    x: Float[np.ndarray, "n d"], y: Int[np.ndarray, "n k"], quantile: float = 0.99
) -> float:
    """Return the robustness of each dimension, 1 minus its deviation at a fixed label over its largest deviation.

    It is that for the best label, a mean weighted by the largest deviation; 0 if no dimension varies.
    """
    largest = np.abs(x - x.mean(0)).max(0)
    moving = largest > 0
    if not moving.any():
        return 0.0
    x, largest = x[:, moving], largest[moving]
    deviations = np.zeros((x.shape[1], y.shape[1]))
    for label, column in enumerate(y.T):
        values = np.unique(column)
        for value in values:
            group = x[column == value]
            deviations[:, label] += np.quantile(np.abs(group - group.mean(0)), quantile, axis=0) / len(values)
    best = (1 - deviations / largest[:, None]).max(1)
    return float(np.average(best, weights=largest))


def dci_disentanglement(importance: Float[np.ndarray, "d k"]) -> float:
    """Return 1 minus the entropy of each dimension's importances over labels, weighted by the dimension's importance."""
    total = importance.sum()
    if total == 0:
        return 0.0
    return float(((1 - _relative_entropy(importance)) * importance.sum(1) / total).sum())


def dci_completeness(importance: Float[np.ndarray, "d k"]) -> float:
    """Return 1 minus the entropy of each label's importances over dimensions, weighted by the label's importance."""
    total = importance.sum()
    if total == 0:
        return 0.0
    return float(((1 - _relative_entropy(importance.T)) * importance.sum(0) / total).sum())


def _relative_entropy(rows: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return the entropy of each row's shares, over its largest possible value; the shares of a row of zeros are equal."""
    rows = rows + 1e-11  # as in disentanglement_lib
    shares = rows / rows.sum(1, keepdims=True)
    return -(shares * np.log(shares)).sum(1) / np.log(rows.shape[1])
