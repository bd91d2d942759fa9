"""Anomaly: how well a score of an example separates unusual examples from normal ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt, Lt, MinLen
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.corruptions.pipeline import CorruptionPipeline, as_corruptions
from reprkit.errors import BuildError, DataError, nearest
from reprkit.evaluation.encoding import Session, batches, check_label, encoded, to_float64, use_session
from reprkit.interfaces import Corruption, Evaluator, require
from reprkit.layers.value_embedding import column_scales
from reprkit.models.isolation import isolate
from reprkit.registry.constraints import Count, CountOrZero, Seed
from reprkit.types import Decoded

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.data.signature import Field
    from reprkit.models.model import Model
    from reprkit.models.scoring import Scored
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
    - "error": squared error of all outputs, of a table's numbers in units of their standard deviations; not for symbols;
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
        normal: the labels of normal examples: names of classes where the field has them, or numbers.
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
        normal: Annotated[tuple[CountOrZero | str, ...], MinLen(1)] = (0,),
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
        check_label(data, self.label, "anomaly")
        labels = _labels(data, self.label)
        usual = np.isin(labels, class_numbers(data.signature[self.label], self.normal))
        if usual.sum() < 2 or usual.all():
            raise DataError(
                f"anomaly needs two normal examples (label {self.label!r} in {self.normal}) and one other; the data has "
                f"{int(usual.sum())} and {int((~usual).sum())}.  Set the labels of normal examples: normal=(...)"
            )
        return self.measure(self.scores(model, data, fit_on), ~usual)

    def measure(self, scores: Float[np.ndarray, " n"], anomalous: Bool[np.ndarray, " n"]) -> dict[str, Any]:
        """Return what ``forward`` returns, for given scores, such as those of another library's detector.

        Raises:
            DataError: a score is not finite.
        """
        from sklearn.metrics import average_precision_score, roc_auc_score

        if not np.isfinite(scores).all():
            raise DataError(
                f"anomaly: the score of example {int(np.argmin(np.isfinite(scores)))} is not finite"
            )
        order = np.random.default_rng(self.seed).permutation(np.flatnonzero(~anomalous))
        count = min(max(1, round(self.held_out * len(order))), len(order) - 1)
        held_out = order[:count]
        threshold = float(np.quantile(scores[held_out], self.quantile))
        scores, anomalous = np.delete(scores, held_out), np.delete(anomalous, held_out)
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

    def scores(
        self, model: Model, data: Dataset, fit_on: Dataset | None = None, *, all_normal: bool = False
    ) -> Float[np.ndarray, " n"]:
        """Return the score of each example, larger for unusual ones; the data needs no labels.

        Raises:
            DataError: "neighbors" without ``fit_on``, or with fewer than k normal examples there.
            BuildError: the model cannot compute this score.
        """
        if self.score == "neighbors":
            return self._distances(model, data, fit_on, all_normal)
        if self.score == "code-nll":
            return _code_nats(model, data, self.prior, self.factor)
        pipeline, generator = self.bound_corruption(model), torch.Generator().manual_seed(self.seed)
        found = []
        for batch in batches(data, "scoring"):
            if pipeline is not None:
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

    def bound_corruption(self, model: Model) -> CorruptionPipeline | None:
        """Return the corruption of "error-under-noise" for this model; None for other scores.

        Raises:
            BuildError: the model has no encoder.
        """
        if self.score != "error-under-noise":
            return None
        if not model.factors:
            raise BuildError(
                "anomaly(score='error-under-noise') corrupts what encoders read, and this model has none"
            )
        pipeline = CorruptionPipeline(self.corruptions)
        pipeline.bind(model)
        return pipeline.eval()

    def elements(
        self,
        model: Model,
        batch: Batch,
        output: str | None,
        pipeline: CorruptionPipeline | None,
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "b n p"], Tensor, tuple[int, ...]]:
        """Return what each element of one output adds to "nll", "error" or "error-under-noise", its point estimate, and the grid.

        Raises:
            BuildError: the output's likelihood is no product over elements, or symbols have no error.
        """
        if pipeline is None:
            scored = model.score(batch, model.encode(batch) if model.factors else None, output=output)
            added = _element_nats(scored) if self.score == "nll" else element_errors(model, scored, output)
            return added, scored.decoded.x, scored.decoded.grid or (1,)
        draws = [
            model.score(batch, model.encode(pipeline(batch, generator)[0], in_range=False), output=output)
            for _ in range(self.draws)
        ]
        added = torch.stack([element_errors(model, scored, output) for scored in draws]).mean(0)
        expected = torch.stack([scored.decoded.x for scored in draws]).mean(0)
        return added, expected, draws[0].decoded.grid or (1,)

    def _distances(
        self, model: Model, data: Dataset, fit_on: Dataset | None, all_normal: bool
    ) -> Float[np.ndarray, " n"]:
        from sklearn.neighbors import NearestNeighbors

        if fit_on is None:
            raise DataError(
                "anomaly(score='neighbors') has neighbors among fit_on: pass evaluate(..., fit_on=train)"
            )
        known = encoded(model, fit_on, factor=self.factor)
        usual: Any = slice(None)
        if self.label in known.labels and not all_normal:
            numbers = class_numbers(fit_on.signature[self.label], self.normal)
            usual = np.isin(known.labels[self.label], numbers)
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
        fit_on: of "neighbors", the normal examples: all of them, whatever their labels, unless ``normal=`` is given.
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
        found = evaluator.scores(model, data, fit_on, all_normal="normal" not in arguments)
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
    """Return the squared error of each example, summed over the elements of all outputs that count: see ``element_errors``."""
    total: Tensor | float = 0.0
    for name in _outputs(model):
        total = total + element_errors(model, model.score(batch, codes, output=name), name).flatten(1).sum(1)
    assert isinstance(total, Tensor)
    return total


def element_errors(model: Model, scored: Scored, output: str | None) -> Float[Tensor, "b n p"]:
    """Return the squared error of each element; of columns, in units of their standard deviations, so that all count alike.

    Raises:
        BuildError: the output holds symbols.
    """
    if scored.decoded.likelihood.discrete:
        raise BuildError("symbols have no squared error: use anomaly(score='nll')")
    difference = to_float64(scored.decoded.x - scored.target)
    field = model.get_output(output).field
    if field.columns:
        scale = column_scales(field)[1].to(difference)
        difference = difference / scale.repeat(difference.shape[-1] // len(scale))
    return difference.square() * to_float64(scored.full_weight)


def _element_nats(scored: Scored) -> Float[Tensor, "b n p"]:
    """Return -log p of each element.

    Raises:
        BuildError: the likelihood is no product over elements.
    """
    if type(scored.decoded).nll is not Decoded.nll or scored.decoded.code_nll is not None:
        raise BuildError(
            "the likelihood of this output is no product over elements, so none has a part in the score 'nll': use 'error'"
        )
    elements = scored.decoded.likelihood.nll(scored.decoded.params, scored.target)
    return to_float64(elements) * to_float64(scored.full_weight)


def class_numbers(field: Field, classes: Sequence[int | str]) -> list[int]:
    """Return the numbers of classes that are given by name, or by number; "3" is 3 where the field names no classes.

    Raises:
        DataError: a class that the field does not have.
    """
    numbers = []
    for each in classes:
        if isinstance(each, str) and each in field.classes:
            numbers.append(field.classes.index(each))
        elif isinstance(each, int) or (each.isdecimal() and not field.classes):
            numbers.append(int(each))
        elif field.classes:
            raise DataError(
                f"the label has no class {each!r}.{nearest(each, field.classes)}\n  known: {', '.join(field.classes)}"
            )
        else:
            raise DataError(f"the label has no class {each!r}: its classes have numbers only")
    wrong = [number for number in numbers if field.vocab is not None and number >= field.vocab]
    if wrong:
        raise DataError(f"the label has no class {wrong[0]}: its classes are 0 to {(field.vocab or 0) - 1}")
    return numbers


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
