"""Leakage between factors: speaker information in the content code, content information in the speaker code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int

from reprkit import Dataset, Evaluator, Model
from reprkit.errors import DataError, nearest
from reprkit.evaluation.encoding import batches
from reprkit.evaluation.label_subset import labels_of
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import Seed

_FRAMES = 8  # tokens per example for the frame-wise probe
_HIDDEN = 128
_CLUSTERS, _FITTED = 32, 20_000  # of frames if phones are unknown, and the frames k-means is fitted on
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tokens:
    """Codes of one factor, or the frames themselves, of a data set.

    Attributes:
        pooled: mean and standard deviation over an example's tokens (n 2 * d), or the only token (n d).
        some: a few tokens of each example, concatenated (m d).
        owner: the example of each of them (m,).
    """

    pooled: Float[Array, "n d"]
    some: Float[Array, "m d"]
    owner: Int[Array, " m"]


class Leakage(Evaluator):
    """Probes both factors for speaker and content, fitted on ``fit_on`` and evaluated on ``data``.

    ``content.pooled``, ``content.frame``: accuracy with which a perceptron (one hidden layer of 128, scikit-learn's
    ``MLPClassifier``) predicts the speaker from the content code, from mean and deviation over an example's tokens, or from
    single tokens; ``content.linear``: logistic regression's, pooled.  Every speaker has equally many examples on either side,
    so that ``chance`` is one over the number of speakers.  ``speaker.pooled``: the same from the speaker code, should be high;
    ``input.pooled``, ``input.frame``: from the model's input.

    ``speaker.said``: how much the speaker code tells of an example's content: variance explained (R^2) by ridge regression of
    the shares of phones in the example, after subtracting every speaker's mean on both sides.  If the data has no phones, 32
    clusters of frames replace them (k-means on frames standardized per example).  0 or slightly less means no information.
    ``content.said``: the same from the content code, from mean and deviation of its tokens.

    A model with one factor has only content.

    Args:
        content: the content factor; by default "content", or else the first that is not ``speaker``.
        speaker: the speaker factor; skipped if the model has none.
        label: the label field of the speaker.
        said: a tokens field of the content; by default "phone", if there is one.
        limit: the most examples on either side, equally many of each speaker.
        seed: of the sampling and of the perceptron.

    Raises:
        PartArgumentError: an argument out of its range.
    """

    def __init__(
        self,
        *,
        content: str | None = None,
        speaker: str = "speaker",
        label: str = "speaker",
        said: str | None = None,
        limit: Annotated[int, Ge(4), Le(10**7)] = 2000,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.content, self.speaker, self.label, self.said = content, speaker, label, said
        self.limit, self.seed = limit, seed

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above.

        Raises:
            BuildError: no such factor.
            DataError: no ``fit_on``, no labels, or fewer than two speakers in common.
        """
        if fit_on is None:
            raise DataError("leakage fits probes: give evaluate(..., fit_on=train)")
        factors = self._factors(model)
        sides = [labels_of(each, self.label, "leakage") for each in (fit_on, data)]
        classes = np.intersect1d(sides[0], sides[1])
        if len(classes) < 2:
            raise DataError(
                f"leakage predicts the speaker, and {fit_on.name} and {data.name} have {len(classes)} speaker in common"
            )
        chosen = [self._balanced(side, classes) for side in sides]
        sets = [
            each.subset(torch.from_numpy(rows)) for each, rows in zip((fit_on, data), chosen, strict=True)
        ]
        y = [side[rows] for side, rows in zip(sides, chosen, strict=True)]
        field = self._content_field(model, data)
        read = [_collect_tokens(model, each, factors, field, self.seed) for each in sets]
        shares = self._symbol_shares([each[1] for each in read])
        results: dict[str, Any] = {"chance": 1 / len(classes), "n": len(y[1])}
        for name in read[0][0]:
            train, test = (each[0][name] for each in read)
            results[name] = {"pooled": self._perceptron_accuracy(train.pooled, y[0], test.pooled, y[1])}
            if len(train.some) > len(train.pooled):
                rows = train.some, y[0][train.owner], test.some, y[1][test.owner]
                results[name]["frame"] = self._perceptron_accuracy(*rows)
            if name == "content":
                results[name]["linear"] = _linear_accuracy(train.pooled, y[0], test.pooled, y[1])
            if name != "input" and shares:
                results[name]["said"] = _explained_variance((train.pooled, test.pooled), shares, y)
        return results

    def _factors(self, model: Model) -> dict[str, str]:
        """Role (content, speaker) -> name of the factor."""
        names = list(model.factors)
        others = [name for name in names if name != self.speaker]
        usual = "content" if "content" in names else (others or names or [""])[0]
        content = resolve_factor(names, self.content or usual, "leakage")
        both = {"content": content}
        return both | ({"speaker": self.speaker} if self.speaker in names and self.speaker != content else {})

    def _balanced(self, labels: Int[Array, " n"], classes: Int[Array, " k"]) -> Int[Array, " m"]:
        """Sample equally many examples of every class: as many as the rarest has, within the limit."""
        generator = np.random.default_rng(self.seed)
        mine = [np.flatnonzero(labels == each) for each in classes]
        count = min(max(1, self.limit // len(classes)), *map(len, mine))
        return np.sort(np.concatenate([generator.choice(rows, count, replace=False) for rows in mine]))

    def _content_field(self, model: Model, data: Dataset) -> str | None:
        """Field of the content: tokens, or the content factor's input frames; None if there is neither."""
        signature = data.signature
        if self.said is not None or ("phone" in signature and signature["phone"].kind == "tokens"):
            name = self.said or "phone"
            if name not in signature or signature[name].kind != "tokens":
                raise DataError(
                    f"leakage: {data.name} has no tokens field {name!r}.{nearest(name, signature)}"
                )
            return name
        read = model.factors[self._factors(model)["content"]].input
        return read if signature[read].kind == "sequence" else None

    def _symbol_shares(self, symbols: Sequence[Sequence[Array]]) -> list[Float[Array, "n k"]]:
        """Shares of symbols in every example of both sides; frames are replaced by cluster indices."""
        if not symbols[0]:
            return []
        if symbols[0][0].ndim > 1:
            from sklearn.cluster import KMeans

            rows = np.concatenate(symbols[0])
            if len(rows) > _FITTED:
                rows = rows[np.random.default_rng(self.seed).choice(len(rows), _FITTED, replace=False)]
            means = KMeans(min(_CLUSTERS, len(rows)), n_init=1, random_state=self.seed).fit(rows)
            symbols = [[means.predict(each) for each in side] for side in symbols]
        count = 1 + max(int(each.max()) for side in symbols for each in side)
        return [
            np.stack([np.bincount(each, minlength=count) / len(each) for each in side]) for side in symbols
        ]

    def _perceptron_accuracy(self, x: Array, y: Array, test_x: Array, test_y: Array) -> float:
        """Test accuracy of a perceptron probe."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        net = MLPClassifier((_HIDDEN,), alpha=1e-3, max_iter=100, n_iter_no_change=8, random_state=self.seed)
        probe = make_pipeline(StandardScaler(), net)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a hundred iterations are enough for a probe
            probe.fit(x.astype(np.float64), y)
        return float((probe.predict(test_x.astype(np.float64)) == test_y).mean())


@torch.no_grad()
def _collect_tokens(
    model: Model, data: Dataset, factors: dict[str, str], field: str | None, seed: int
) -> tuple[dict[str, Tokens], list[Array]]:
    """Collect codes of each factor, frames as "input" if the data is a sequence, and each example's symbols (t,) or frames."""
    generator = torch.Generator().manual_seed(seed)
    read = model.factors[factors["content"]].input
    sequence = data.signature[read].kind == "sequence"
    parts: dict[str, list[tuple[torch.Tensor, torch.Tensor | None]]] = {name: [] for name in factors}
    symbols: list[Array] = []
    for batch in batches(data, "encoding"):
        codes = model.encode(batch, factors=tuple(factors.values()))
        for name, factor in factors.items():
            code = codes[factor]
            parts[name].append((code.point.float().cpu(), None if code.mask is None else code.mask.cpu()))
        if sequence:
            parts.setdefault("input", []).append((batch[read].float(), batch.get(f"{read}_mask")))
        if field is not None:
            masks = batch.get(f"{field}_mask", torch.ones(batch[field].shape[:2], dtype=torch.bool))
            symbols += [_normalize_frames(x[mask]) for x, mask in zip(batch[field], masks, strict=True)]
    return {name: _pool_tokens(pairs, generator) for name, pairs in parts.items()}, symbols


def _normalize_frames(x: torch.Tensor) -> Array:
    """Standardize frames (t c) per example, since mean and deviation belong to voice and room; symbols (t,) are unchanged."""
    if x.ndim == 1:
        return x.numpy()
    return ((x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-4)).float().numpy()


def _pool_tokens(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor | None]], generator: torch.Generator
) -> Tokens:
    pooled, some, owner, count = [], [], [], 0
    for z, mask in pairs:
        size, length, _ = z.shape
        valid = torch.ones(size, length, dtype=torch.bool) if mask is None else mask
        weight = valid.unsqueeze(-1).float()
        total = weight.sum(1).clamp(min=1)
        mean = (z * weight).sum(1) / total
        spread = ((z - mean.unsqueeze(1)).square() * weight).sum(1).div(total).sqrt()
        pooled.append(mean if length == 1 else torch.cat([mean, spread], -1))
        draw = torch.rand(size, length, generator=generator).masked_fill(~valid, 2.0)
        few = draw.argsort(1)[:, : min(_FRAMES, length)]
        there = torch.take_along_dim(valid, few, 1)
        some.append(torch.take_along_dim(z, few.unsqueeze(-1), 1)[there])
        owner.append((count + torch.arange(size)).unsqueeze(1).expand_as(few)[there])
        count += size
    return Tokens(*(torch.cat(each).numpy() for each in (pooled, some, owner)))


def _linear_accuracy(x: Array, y: Array, test_x: Array, test_y: Array) -> float:
    from reprkit.evaluation.linear_probe import fit_probe

    return float((fit_probe(x, y, label="speaker").predict(test_x.astype(np.float64)) == test_y).mean())


def _explained_variance(codes: Sequence[Array], shares: Sequence[Array], y: Sequence[Array]) -> float:
    """R^2 of ridge regression within speakers: fitted on the first of each pair, evaluated on the second."""
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, test_x = (_subtract_class_means(rows, labels) for rows, labels in zip(codes, y, strict=True))
    goal, test_goal = (_subtract_class_means(rows, labels) for rows, labels in zip(shares, y, strict=True))
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13))).fit(x, goal)
    return float(r2_score(test_goal, probe.predict(test_x), multioutput="variance_weighted"))


def _subtract_class_means(rows: Array, labels: Array) -> Array:
    """Subtract from rows the mean of their class."""
    centered = rows.astype(np.float64).copy()
    for each in np.unique(labels):
        centered[labels == each] -= centered[labels == each].mean(0)
    return centered
