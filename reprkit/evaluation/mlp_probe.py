"""MLP probe: a classifier of one hidden layer on the frozen representation, for what a linear probe cannot read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reprkit.errors import DataError
from reprkit.evaluation.encoding import Pool, encode_labeled
from reprkit.evaluation.label_subset import label_subset
from reprkit.evaluation.linear_probe import probe_metrics
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Count, NonNegative, Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_HELD = 0.1  # share of the labels that decides when to stop
_LEAST = 10  # examples of each class, so that the share has one
_BATCH = 200
_PATIENCE = 1000  # updates without a better accuracy of the held-out share, in 10 to 100 epochs


class MLPProbe(Evaluator):
    """A network of one hidden layer on ``model.represent``, fitted on ``fit_on``: ``accuracy``, ``majority`` and ``n``.

    It reads what a linear probe cannot: a label that a linear map erased from the code (``rk.models.erase_label``) may still be
    told by it.  Features are standardized by ``fit_on``'s mean and standard deviation; scikit-learn's ``MLPClassifier`` (ReLU,
    Adam), which stops when the accuracy of a tenth of the labels, held out, has not risen for 1,000 updates (10 to 100 epochs).
    Such probes are discussed by Pimentel et al. 2020 (arXiv 2004.03061).

    Args:
        width: units of the hidden layer.
        alpha: strength of the L2 penalty.
        label: the label field.
        pool: "mean" over tokens, or "flatten" them.
        factor: this factor's code only; None concatenates all factors'.
        max_iter: maximum number of epochs.
        labels: fit on this many labeled examples only, balanced over classes; None takes all.
        seed: of their choice, of the part held out and of the network.
    """

    def __init__(
        self,
        width: Count = 128,
        *,
        alpha: NonNegative = 1e-4,
        label: str = "label",
        pool: Pool = "mean",
        factor: str | None = None,
        max_iter: Count = 1000,
        labels: Count | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.width, self.alpha, self.max_iter = width, alpha, max_iter
        self.label, self.labels, self.seed = label, labels, seed
        self.options: dict[str, Any] = {"pool": pool, "factor": factor}

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return ``accuracy`` on ``data`` and that of the commonest class of ``fit_on``, in [0, 1], and ``n``.

        Warns if ``data`` has one class only, whose accuracy does not show that classes are told apart.

        Raises:
            DataError: no ``fit_on``, no labels, only one class among them, or a class of fewer than 10 examples.
        """
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        fit_on = (
            None if fit_on is None else label_subset(fit_on, self.labels, label=self.label, seed=self.seed)
        )
        x, y = encode_labeled(model, fit_on, self.label, "mlp-probe", **self.options)
        classes, counts = np.unique(y, return_counts=True)
        if len(classes) < 2:
            raise DataError(
                f"mlp-probe needs at least two classes; every label {self.label!r} of fit_on is {y[0]}"
            )
        if counts.min() < _LEAST:
            raise DataError(
                f"mlp-probe needs at least {_LEAST} examples of each class of {self.label!r}; fit_on has "
                f"{counts.min()} of class {classes[counts.argmin()]}: give it more, or use linear-probe"
            )
        network = MLPClassifier(
            (self.width,),
            alpha=self.alpha,
            max_iter=self.max_iter,
            early_stopping=True,
            validation_fraction=_HELD,
            batch_size=min(_BATCH, len(y) // 2),
            n_iter_no_change=min(max(10, _PATIENCE * _BATCH // len(y)), 100),
            random_state=self.seed,
        )
        probe = make_pipeline(StandardScaler(), network).fit(x.astype(np.float64), y)
        test_x, test_y = encode_labeled(model, data, self.label, "mlp-probe", **self.options)
        return probe_metrics(
            probe.predict(test_x.astype(np.float64)), y, test_y, f"mlp-probe(label={self.label!r})"
        )
