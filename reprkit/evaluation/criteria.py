"""Criteria of a good representation, a number each: compact, explanatory, disentangled, interpretable, easy; and its spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le, MinLen
from jaxtyping import Float

from reprkit.corruptions.pipeline import CorruptionPipeline, as_corruptions
from reprkit.errors import DataError
from reprkit.evaluation.disentanglement import mutual_informations
from reprkit.evaluation.encoding import Pool, batches, draw_examples, encoded, to_float64
from reprkit.evaluation.linear_probe import fit_probe
from reprkit.interfaces import Corruption, Evaluator, require
from reprkit.objectives.contrastive import default_views
from reprkit.registry.constraints import LARGEST_COUNT, CountOrZero, Seed
from reprkit.utils.spectrum import alpha_req, effective_rank, lidar, rankme

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


class Criteria(Evaluator):
    """What a good representation is, of ``model.represent``: five numbers up to 1, more is better, and four of its spectrum.

    - ``compact``: 1 minus the code's effective rank (exp of the entropy of its singular values, centered) over the numbers in an
      example of the data;
    - ``explanatory``: the share of the data's variance, about the mean of each element, that the decoder's output explains; absent
      without a decoder of real values that is not causal;
    - ``disentangled``: the gap between the two dimensions of largest mutual information with a label, over the label's entropy, a
      mean over labels (MIG, Chen et al. 2018, arXiv 1802.04942); absent for a code of one dimension;
    - ``interpretable``: the largest mutual information of one dimension with a label, over the label's entropy, a mean over labels:
      what can be read off single dimensions;
    - ``easy``: accuracy of logistic regression from the standardized code, fitted on ``fit_on``, a mean over labels;
    - ``rankme`` (Garrido et al. 2023, arXiv 2210.02885); ``alpha_req``, where two eigenvalues or more are not zero (Agrawal et al.
      2022, NeurIPS); ``effective_rank``; ``lidar``, of corrupted views (Thilak et al. 2024, arXiv 2312.04000).

    The three numbers of labels are absent where the data has no label field.

    Args:
        labels: the label fields; None takes all.
        bins: number of bins of equal width, in which a dimension's mutual information is counted.
        views: corruptions that make the views of ``lidar``, applied in order; None takes those of objective contrastive.
        draws: views of an example; 0 omits ``lidar``.
        limit: at most this many examples for ``easy`` and ``lidar``, drawn with the seed.
        pool: "mean" over tokens, or "flatten" them.
        factor: this factor's code only; None concatenates all factors'.
        seed: of the examples and of the views.

    Raises:
        PartArgumentError: an argument is out of its range, or one draw.
    """

    def __init__(
        self,
        labels: Annotated[tuple[str, ...], MinLen(1)] | None = None,
        *,
        bins: Annotated[int, Ge(2), Le(LARGEST_COUNT)] = 20,
        views: str | Corruption | Annotated[tuple[str | Corruption, ...], MinLen(1)] | None = None,
        draws: CountOrZero = 10,
        limit: Annotated[int, Ge(2), Le(LARGEST_COUNT)] = 1_000,
        pool: Pool = "mean",
        factor: str | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        require(draws != 1, "draws=1: lidar compares two views of an example or more; draws=0 omits it")
        self.labels, self.bins, self.draws, self.limit, self.seed = labels, bins, draws, limit, seed
        self.views: Any = default_views if views is None else as_corruptions(views)
        self.options: dict[str, Any] = {"pool": pool, "factor": factor}

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the numbers above.

        Raises:
            DataError: labels and no ``fit_on``, no such label field, or a label without a second value.
        """
        found = encoded(model, data, **self.options)
        x = torch.from_numpy(found.x.astype(np.float64))
        centered = x - x.mean(0)
        rank = effective_rank(centered.T @ centered / len(x))
        metrics: dict[str, Any] = {"compact": 1 - rank / _numbers(model, data, self.options["factor"])}
        explained = explained_variance(model, data)
        if explained is not None:
            metrics["explanatory"] = explained
        names = self.labels or tuple(found.labels)
        missing = [name for name in names if name not in found.labels]
        if missing:
            raise DataError(
                f"criteria: no label field {', '.join(missing)}; the data has {', '.join(found.labels) or 'none'}"
            )
        if names:
            y = np.stack([found.labels[name] for name in names], 1)
            metrics |= self._of_labels(model, found.x.astype(np.float64), y, names, fit_on)
        metrics |= {"effective_rank": rank, "rankme": rankme(x)}
        singular = torch.linalg.svdvals(centered)
        if int((singular[: len(x) - 1] > 2e-6 * singular.max()).sum()) > 1:
            metrics["alpha_req"] = alpha_req(x)
        if self.draws:
            metrics["lidar"] = lidar(self._views(model, data))
        return metrics

    def _of_labels(
        self, model: Model, x: np.ndarray, y: np.ndarray, names: tuple[str, ...], fit_on: Dataset | None
    ) -> dict[str, float]:
        if fit_on is None:
            raise DataError(
                "criteria fits logistic regression on labeled examples: pass evaluate(..., fit_on=train)"
            )
        for name, column in zip(names, y.T, strict=True):
            if len(np.unique(column)) < 2:
                raise DataError(f"criteria: every label {name!r} is {column[0]}, so nothing varies")
        known, entropy = mutual_informations(x, y, self.bins)
        shares = np.sort(known / entropy, 0)[::-1]
        result = {"disentangled": float((shares[0] - shares[1]).mean())} if len(shares) > 1 else {}
        result["interpretable"] = float(shares[0].mean())
        train = encoded(model, fit_on, **self.options)
        random = np.random.default_rng(self.seed)
        chosen = random.permutation(len(train.x))[: self.limit]
        accuracies = []
        for name, column in zip(names, y.T, strict=True):
            probe = fit_probe(train.x[chosen], train.labels[name][chosen], label=name)
            accuracies.append(float((probe.predict(x) == column).mean()))
        result["easy"] = float(np.mean(accuracies))
        return result

    def _views(self, model: Model, data: Dataset) -> Float[torch.Tensor, "n q d"]:
        """Return the representations of ``draws`` corrupted views of each example."""
        data = draw_examples(data, self.limit, self.seed)
        damage = CorruptionPipeline(self.views)
        damage.bind(model)
        damage.eval()
        generator = torch.Generator().manual_seed(self.seed)
        rows = []
        for batch in batches(data, "encoding views"):
            views = [damage(batch, generator)[0] for _ in range(self.draws)]
            vectors = [
                model.represent(view, self.options["factor"], self.options["pool"], in_range=False)
                for view in views
            ]
            rows.append(torch.stack(vectors, 1).float().cpu())
        return torch.cat(rows)


def explained_variance(model: Model, data: Dataset) -> float | None:
    """Return the share of the variance of the outputs' fields that the decoders explain; None without real outputs.

    The variance is about the mean of each element; where lengths vary, of each channel.
    """
    if not model.outputs or not model.factors or model.objective.decodes != "the data":
        return None
    error = total = 0.0
    for name in model.outputs:
        field = model.outputs[name].field
        if field.discrete or "causal" in model.outputs[name].decoder.provides:
            return None
        fixed = None not in field.shape
        sums: list[Any] = [0.0, 0.0, 0.0]
        for batch in batches(data, "reconstructing"):
            scored = model.score(batch, output=name)
            if not scored.decoded.has_point:
                return None
            target, weight = to_float64(scored.target), to_float64(scored.full_weight)
            error += float((weight * (to_float64(scored.decoded.x) - target).square()).sum())
            for place, value in enumerate((weight, weight * target, weight * target.square())):
                sums[place] = sums[place] + (value.sum(0) if fixed else value.sum((0, 1)))
        count, first, second = sums
        total += float((second - first.square() / count.clamp(min=1)).sum())
    return 1 - error / total if total > 0 else None


def _numbers(model: Model, data: Dataset, factor: str | None) -> float:
    """Return how many numbers or symbols an example has in the fields that the factors read, a mean over the first 256."""
    names = tuple(model.factors) if factor is None else (factor,)
    batch = data.batch(range(min(len(data), 256)))
    total = 0.0
    for field in {model.factors[name].input for name in names}:
        values, mask = batch[field], batch.get(f"{field}_mask")
        steps = values.shape[1] if values.ndim > 1 else 1
        valid = float(len(values)) if mask is None else float(mask.sum()) / max(steps, 1)
        total += values[0].numel() * valid / len(values)
    return total
