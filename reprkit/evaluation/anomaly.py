"""Anomaly: how well a score of an example separates unusual examples from normal ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt, Lt, MinLen
from jaxtyping import Float
from torch import Tensor

from reprkit.corruptions.pipeline import CorruptionPipeline, as_corruptions
from reprkit.errors import BuildError, DataError
from reprkit.evaluation.encoding import Session, batches, check_label, encoded, to_float64, use_session
from reprkit.interfaces import Corruption, Evaluator, require
from reprkit.models.isolation import isolate
from reprkit.registry.constraints import Count, CountOrZero, Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.types import Batch, Codes

Score = Literal["nll", "error", "code-nll", "error-under-noise", "neighbors"]
# Arguments of one score only.
_OWN_ARGUMENTS = {
    "k": "neighbors",
    "prior": "code-nll",
    "corruption": "error-under-noise",
    "draws": "error-under-noise",
}


class Anomaly(Evaluator):
    """Detection of anomalies, which are the examples whose label is not in ``normal``, by a score that is larger for them.

    Scores of an example:

    - "nll": -log p(x | z) of all outputs, nats (reconstruction probability: An and Cho 2015);
    - "error": squared error of all outputs; not for symbols;
    - "code-nll": -log p(z) under the latent's prior, or under ``prior``;
    - "error-under-noise": mean squared error of the clean example's reconstruction from ``draws`` copies under ``corruption``;
    - "neighbors": mean Euclidean distance in ``model.represent`` to the ``k`` nearest normal examples of ``fit_on``; where that has
      no such label, all its examples are normal.

    ``roc_auc`` and ``average_precision`` need no threshold (scikit-learn's definitions); ``precision_at_k`` is the share of
    anomalies among the k examples of the largest scores (``at``).  The ``threshold`` is a quantile of the scores of normal
    examples that were held out: a share of the data's own normal examples, drawn by ``seed``, which count in no other metric.
    (Scores of training examples are too small for that.)  Above it lie ``recall`` of the anomalies and ``false_positive_rate`` of
    the other normal examples.

    Args:
        score: see above.
        label: the label field.
        normal: the labels of normal examples.
        quantile: share of the held-out normal examples below the threshold.
        held_out: share of the data's normal examples that set the threshold.
        at: k of ``precision_at_k``; None is the number of anomalies.
        k: of "neighbors", their number.
        factor: of "neighbors", this factor's code only; of ``prior``, the factor whose codes it models.
        prior: of "code-nll", folder of a model trained on ``codes(model=..., data=...)``, or that model.
        corruption: of "error-under-noise": a reference, an instance, or several that are applied in order.
        draws: of "error-under-noise", copies of each example.
        seed: of the examples held out and of the corruption.

    Raises:
        PartArgumentError: a value is out of its range, or an argument of another score is given.
    """

    def __init__(
        self,
        score: Score = "nll",
        *,
        label: str = "label",
        normal: Annotated[tuple[CountOrZero, ...], MinLen(1)] = (0,),
        quantile: Annotated[float, Gt(0), Lt(1)] = 0.95,
        held_out: Annotated[float, Gt(0), Lt(1)] = 0.5,
        at: Count | None = None,
        k: Count = 5,
        factor: str | None = None,
        prior: str | Model | None = None,
        corruption: str | Corruption | Annotated[tuple[str | Corruption, ...], MinLen(1)] = "gaussian-noise",
        draws: Count = 4,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        for name, own in _OWN_ARGUMENTS.items():
            ignored = score != own and self.arguments.get(name) is not None
            require(not ignored, f"anomaly takes {name}= with score={own!r} only")
        require(
            factor is None or score == "neighbors" or prior is not None,
            "anomaly takes factor= with score='neighbors', or with a prior",
        )
        self.score, self.label, self.normal, self.quantile = score, label, normal, quantile
        self.held_out, self.at, self.k, self.factor, self.prior = held_out, at, k, factor, prior
        self.corruptions, self.draws, self.seed = as_corruptions(corruption), draws, seed

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above, the numbers of examples, and a histogram of the scores.

        Raises:
            DataError: no such label, fewer than two normal examples or no anomaly in the data, or "neighbors" without ``fit_on`` or
                with fewer than k normal examples there.
            BuildError: the model cannot compute this score.
        """
        from sklearn.metrics import average_precision_score, roc_auc_score

        check_label(data, self.label, "anomaly")
        labels = _labels(data, self.label)
        usual = np.isin(labels, self.normal)
        if usual.sum() < 2 or usual.all():
            raise DataError(
                f"anomaly needs two normal examples (label {self.label!r} in {self.normal}) and one other; the data has "
                f"{int(usual.sum())} and {int((~usual).sum())}.  Set the labels of normal examples: normal=(...)"
            )
        scores = self.scores(model, data, fit_on)
        if not np.isfinite(scores).all():
            raise DataError(
                f"anomaly: the score of example {int(np.argmin(np.isfinite(scores)))} is not finite"
            )
        order = np.random.default_rng(self.seed).permutation(np.flatnonzero(usual))
        count = min(max(1, round(self.held_out * len(order))), len(order) - 1)
        held_out = order[:count]
        threshold = float(np.quantile(scores[held_out], self.quantile))
        scores, anomalous = np.delete(scores, held_out), np.delete(~usual, held_out)
        at = min(self.at or int(anomalous.sum()), len(scores))
        highest = np.argsort(-scores, kind="stable")[:at]
        above = scores > threshold
        return {
            "roc_auc": float(roc_auc_score(anomalous, scores)),
            "average_precision": float(average_precision_score(anomalous, scores)),
            "precision_at_k": float(anomalous[highest].mean()),
            "threshold": threshold,
            "recall": float(above[anomalous].mean()),
            "false_positive_rate": float(above[~anomalous].mean()),
            "anomalies": int(anomalous.sum()),
            "normal": int((~anomalous).sum()),
            "held_out": count,
            "figures": {"scores": _figure(scores, anomalous, threshold, self.score)},
        }

    def scores(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> Float[np.ndarray, " n"]:
        """Return the score of each example, larger for unusual ones; the data needs no labels.

        Raises:
            DataError: "neighbors" without ``fit_on``, or with fewer than k normal examples there.
            BuildError: the model cannot compute this score.
        """
        if self.score == "neighbors":
            return self._distances(model, data, fit_on)
        if self.score == "code-nll":
            return _code_nats(model, data, self.prior, self.factor)
        if self.score == "error-under-noise":
            if not model.factors:
                raise BuildError(
                    "anomaly(score='error-under-noise') corrupts what encoders read, and this model has none"
                )
            pipeline = CorruptionPipeline(self.corruptions)
            pipeline.bind(model)
            pipeline.eval()
            generator = torch.Generator().manual_seed(self.seed)
        found = []
        for batch in batches(data, "scoring"):
            if self.score == "error-under-noise":
                draws = [
                    example_errors(model, batch, model.encode(pipeline(batch, generator)[0], in_range=False))
                    for _ in range(self.draws)
                ]
                found.append(torch.stack(draws).mean(0))
                continue
            codes = model.encode(batch) if model.factors else None
            if self.score == "error":
                found.append(example_errors(model, batch, codes))
            else:
                found.append(example_nats(model, batch, codes))
        return torch.cat(found).cpu().numpy()

    def _distances(self, model: Model, data: Dataset, fit_on: Dataset | None) -> Float[np.ndarray, " n"]:
        from sklearn.neighbors import NearestNeighbors

        if fit_on is None:
            raise DataError(
                "anomaly(score='neighbors') has neighbors among fit_on: pass evaluate(..., fit_on=train)"
            )
        known = encoded(model, fit_on, factor=self.factor)
        usual = np.isin(known.labels[self.label], self.normal) if self.label in known.labels else slice(None)
        normal = known.x[usual].astype(np.float64)
        if len(normal) < self.k:
            raise DataError(
                f"anomaly needs {self.k} neighbors, but fit_on has {len(normal)} normal examples "
                f"(label {self.label!r} in {self.normal})"
            )
        search = NearestNeighbors(n_neighbors=self.k).fit(normal)
        rows = encoded(model, data, factor=self.factor).x.astype(np.float64)
        return search.kneighbors(rows)[0].mean(1)


@torch.no_grad()
def anomaly_scores(
    model: Model,
    data: Dataset,
    score: Score = "nll",
    *,
    fit_on: Dataset | None = None,
    batch: int = 256,
    seed: int = 0,
    progress: bool | None = None,
    **arguments: Any,
) -> Float[np.ndarray, " n"]:
    """Return a score of each example that is larger for unusual ones, as the evaluator ``anomaly`` computes it; no labels needed.

    Args:
        model: a trained model.
        data: the examples to score.
        score: "nll", "error", "code-nll", "error-under-noise" or "neighbors": see ``Anomaly``.
        fit_on: of "neighbors", the normal examples.
        batch: examples at a time.
        seed: of random draws.
        progress: as in ``rk.evaluate``.
        arguments: of ``Anomaly``, such as ``k=`` and ``prior=``.

    Raises:
        DataError, BuildError: as ``Anomaly.scores``; or a score is not finite.
        PartArgumentError: an unknown score, or a wrong argument.
    """
    evaluator = Anomaly(score, seed=seed, **arguments)
    with isolate(model, seed), use_session(Session(batch, progress, "anomaly")):
        found = evaluator.scores(model, data, fit_on)
    if not np.isfinite(found).all():
        raise DataError(f"the score of example {int(np.argmin(np.isfinite(found)))} is not finite")
    return found


def _code_nats(
    model: Model, data: Dataset, prior: str | Model | None, factor: str | None
) -> Float[np.ndarray, " n"]:
    """Return -log p(z) of each example's codes, under the latents' own priors or a second model."""
    from reprkit.models.factor import resolve_factor
    from reprkit.models.priors import code_to_batch, log_prob, prior_of_codes

    if not model.factors:
        raise BuildError("this model has no encoder, so it has no code to score")
    if prior is not None:
        name = resolve_factor(model.factors, factor, "anomaly")
        learned, latent = prior_of_codes(model, name, prior).eval(), model.latent(name)

        def log_priors(codes: Codes) -> list[Tensor]:
            return [to_float64(log_prob(learned, code_to_batch(codes[name], latent)))]
    else:
        for each, part in model.factors.items():
            if not part.latent.has_prior:
                raise BuildError(
                    f"latent {part.latent.qualified or type(part.latent).__name__} of factor {each} has no prior: train one on "
                    "codes(model=DIR, data=...), and pass its folder, anomaly(score='code-nll', prior=DIR)"
                )

        def log_priors(codes: Codes) -> list[Tensor]:
            return [to_float64(model.latent(each).log_prior(code)).sum(1) for each, code in codes.items()]

    found = [-torch.stack(log_priors(model.encode(batch))).sum(0) for batch in batches(data, "scoring")]
    return torch.cat(found).cpu().numpy()


def _outputs(model: Model) -> list[str | None]:
    return list(model.outputs) or [None]  # None: score raises the error that says there is none


def example_nats(model: Model, batch: Batch, codes: Codes | None) -> Float[Tensor, " b"]:
    """Return the nats of each example, summed over all outputs."""
    each = [to_float64(model.score(batch, codes, output=name).per_example) for name in _outputs(model)]
    return torch.stack(each).sum(0)


def example_errors(model: Model, batch: Batch, codes: Codes | None) -> Float[Tensor, " b"]:
    """Return the squared error of each example, summed over the elements of all outputs that count."""
    total: Tensor | float = 0.0
    for name in _outputs(model):
        scored = model.score(batch, codes, output=name)
        if scored.decoded.likelihood.discrete:
            raise BuildError("symbols have no squared error: use anomaly(score='nll')")
        squares = to_float64(scored.decoded.x - scored.target).square() * to_float64(scored.full_weight)
        total = total + squares.flatten(1).sum(1)
    assert isinstance(total, Tensor)
    return total


def _labels(data: Dataset, label: str) -> np.ndarray:
    return np.concatenate([batch[label].cpu().numpy() for batch in batches(data, "reading labels")])


def _figure(scores: np.ndarray, anomalous: np.ndarray, threshold: float, score: str) -> Any:
    from reprkit.reporting.figures import Curves

    edges = np.histogram_bin_edges(scores, bins=40)
    middle = ((edges[1:] + edges[:-1]) / 2).tolist()
    lines = {
        name: (middle, (np.histogram(scores[rows], edges)[0] / max(rows.sum(), 1)).tolist())
        for name, rows in (("normal", ~anomalous), ("anomalies", anomalous))
    }
    return Curves(
        title="Scores of normal examples and of anomalies",
        lines=lines,
        xlabel=score,
        ylabel="share of the examples",
        log=False,
        caption=f"The threshold is {threshold:.4g}.",
    )
