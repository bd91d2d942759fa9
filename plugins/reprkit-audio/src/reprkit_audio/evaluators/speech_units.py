"""Evaluation of discrete speech units against phones and speakers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int

from reprkit import Code, Dataset, Evaluator, Model
from reprkit.errors import BuildError, DataError
from reprkit.evaluation.encoding import batches, check_label
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import CountOrZero, Seed
from reprkit_audio.evaluators.abx import Segment, abx, segments

if TYPE_CHECKING:
    from sklearn.cluster import KMeans

SILENCE = ("pau", "sil", "sp", "h#", "_", "")  # names of silence in phone sets
_MAX_CLUSTERS = 4096  # more k-means clusters would take too long


@dataclass(frozen=True)
class AlignedFrames:
    """Frames of a data set, concatenated, with their phones.

    Attributes:
        units: the code's unit (t,).
        z: the code (t d).
        x: the model's input (t c).
        phones: (t,).
        owner: the example of each frame (t,).
        speakers: of each example (n,).
    """

    units: Int[np.ndarray, " t"]
    z: Float[np.ndarray, "t d"]
    x: Float[np.ndarray, "t c"]
    phones: Int[np.ndarray, " t"]
    owner: Int[np.ndarray, " t"]
    speakers: Int[np.ndarray, " n"]

    def is_speech(self, silent: frozenset[int]) -> np.ndarray:
        """Mask of the frames that are not silence (t,)."""
        return ~np.isin(self.phones, list(silent))


class SpeechUnits(Evaluator):
    """Compares a code's units with phones and speakers; k-means on the same frames, with as many units, is the baseline.

    Every frame gets the token of the code that covers it; silence is left out.  A code of several slots has one unit per
    combination of indices; a code without indices is clustered into ``units`` by k-means, fitted on ``fit_on``.

    ``purity``: share of frames whose phone is the most frequent one of their unit; ``pnmi``: mutual information of units and phones
    over the phones' entropy (Hsu et al. 2021, arXiv 2106.07447, section IV-F); ``nmi``: over the mean of both entropies;
    ``units``: number of units that occur.  ``speaker``: accuracy of logistic regression from an example's histogram of units,
    fitted on ``fit_on``; ``speaker-frame``: accuracy of predicting for each frame the speaker who has its unit most often
    there; ``chance``: the most frequent speaker's share.
    ``abx-within``, ``abx-across``: error of ABX discrimination of phones by the codes, in
    [0, 1], chance 0.5 (Schatz et al. 2013); triples are drawn from all contexts.  ``kmeans.NAME`` and ``frames.abx-...``: the
    same of k-means and of the frames themselves.

    Args:
        phone: the tokens field of each frame's phone; its names are ``facts["symbols"][phone]`` of the data.
        speaker: the label field of the speaker.
        factor: the factor to evaluate; by default "content", or else the only one.
        units: number of clusters, for a code without indices and for its k-means baseline.
        triples: number of ABX triples, within and across speakers each; 0 for no ABX.
        seed: of k-means and of the triples.

    Raises:
        PartArgumentError: an argument out of its range.
    """

    def __init__(
        self,
        *,
        phone: str = "phone",
        speaker: str = "speaker",
        factor: str | None = None,
        units: Annotated[int, Ge(2), Le(2**24)] = 128,
        triples: CountOrZero = 1000,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.phone, self.speaker, self.factor = phone, speaker, factor
        self.units, self.triples, self.seed = units, triples, seed

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above on ``data``.

        Raises:
            BuildError: no such factor, or one of a single token an example.
            DataError: no ``fit_on``, no field of phones, or only silence.
        """
        if fit_on is None:
            raise DataError("speech-units fits k-means and a probe: give evaluate(..., fit_on=train)")
        factor = content_factor(model, self.factor, "speech-units")
        for each in (fit_on, data):
            check_phones(each, self.phone, self.speaker, "speech-units")
        silent = silent_phones(data, self.phone)
        train, test = (align(model, each, factor, self.phone, self.speaker) for each in (fit_on, data))
        if not test.is_speech(silent).any():
            raise DataError(f"speech-units: every frame of {data.name} is silence")
        vocab = model.latent(factor).vocab
        size = self.units if vocab is None else min(math.prod(vocab), _MAX_CLUSTERS)
        grouped = kmeans_units(train.x, (train.x, test.x), size, self.seed)
        own = (
            kmeans_units(train.z, (train.z, test.z), size, self.seed)
            if vocab is None
            else [train.units, test.units]
        )
        results = self._measure(train, test, own, silent)
        results.update(
            {f"kmeans.{name}": v for name, v in self._measure(train, test, grouped, silent).items()}
        )
        results["chance"] = float(np.bincount(test.speakers).max() / len(test.speakers))
        if self.triples:
            for prefix, frames in (("", test.z), ("frames.", test.x)):
                results.update(self._abx(prefix, test, frames, silent))
        results["n"] = int(test.is_speech(silent).sum())
        results["figures"] = {"table": self._figure(data, test, own[1], silent)}
        return results

    def _measure(
        self, train: AlignedFrames, test: AlignedFrames, units: Sequence[np.ndarray], silent: frozenset[int]
    ) -> dict[str, Any]:
        speech = test.is_speech(silent)
        scores = agreement(units[1][speech], test.phones[speech])
        scores["speaker"] = speaker_accuracy(train, test, units)
        scores["speaker-frame"] = frame_speaker_accuracy(train, test, units, silent)
        return scores

    def _abx(
        self, prefix: str, test: AlignedFrames, frames: np.ndarray, silent: frozenset[int]
    ) -> dict[str, float]:
        pieces: list[Segment] = []
        bounds = np.searchsorted(test.owner, np.arange(len(test.speakers) + 1))
        for number, speaker in enumerate(test.speakers):
            rows = slice(bounds[number], bounds[number + 1])
            pieces += segments(frames[rows], test.phones[rows], int(speaker), silent)
        errors = {
            f"{prefix}abx-{'across' if across else 'within'}": abx(
                pieces, self.triples, self.seed, across=across
            )
            for across in (False, True)
        }
        return {name: error for name, error in errors.items() if error is not None}

    def _figure(self, data: Dataset, test: AlignedFrames, units: np.ndarray, silent: frozenset[int]) -> Any:
        """Matrix of the 60 most frequent units by phones, ordered by each unit's most frequent phone."""
        from reprkit.reporting.figures import Matrix

        speech = test.is_speech(silent)
        names = phone_names(data, self.phone)
        present = np.unique(test.phones[speech])
        table = contingency_table(units[speech], test.phones[speech])[1][:, present]
        order = np.argsort(-table.sum(1))[:60]
        order = order[np.lexsort((-table[order].max(1), table[order].argmax(1)))]
        return Matrix(
            title="Phones of each unit",
            values=(table[order] / table[order].sum(1, keepdims=True)).T,
            xlabel="most frequent units",
            ylabel=" ".join(names[each] for each in present),
            caption="Share of a unit's frames; units are ordered by their most frequent phone.",
        )


def content_factor(model: Model, factor: str | None, evaluator: str) -> str:
    """The factor to evaluate: the given one, or "content", or else the only one.

    Raises:
        BuildError: no such factor, or several of other names.
    """
    usual = "content" if "content" in model.factors else None
    return resolve_factor(model.factors, factor or usual, evaluator)


def check_phones(data: Dataset, phone: str, speaker: str, evaluator: str) -> None:
    """Check that the data has each frame's phone, and the speaker's label.

    Raises:
        DataError: one of the fields is missing or of another kind.
    """
    check_label(data, speaker, evaluator)
    field = dict(data.signature).get(phone)
    if field is None or field.kind != "tokens":
        raise DataError(
            f"{evaluator} needs each frame's phone, and {data.name} has no tokens field {phone!r}; its fields: "
            f"{', '.join(data.signature)}\n  parallel-speech has one, for synthesizers that report phone timings"
        )


def phone_names(data: Dataset, phone: str) -> list[str]:
    """Names of the phones; their numbers where the data has no names."""
    vocab = data.signature[phone].vocab or 0
    return list(data.facts.get("symbols", {}).get(phone, map(str, range(vocab))))


def silent_phones(data: Dataset, phone: str) -> frozenset[int]:
    """Phones that are silence."""
    return frozenset(number for number, name in enumerate(phone_names(data, phone)) if name in SILENCE)


@torch.no_grad()
def align(model: Model, data: Dataset, factor: str, phone: str, speaker: str) -> AlignedFrames:
    """Collect a data set's frames with units, codes, phones and speakers.

    Raises:
        BuildError: the factor has one token per example.
    """
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("units", "z", "x", "phones", "owner", "speakers")
    }
    count = 0
    for batch in batches(data, "aligning"):
        code = model.encode(batch, factors=(factor,))[factor]
        x, phones = batch[model.factors[factor].input], batch[phone]
        size, length = phones.shape
        if code.z.shape[1] == 1 and length > 1:
            raise BuildError(
                f"speech-units: factor {factor} has one token per example, and phones change within it"
            )
        token = torch.arange(length) * code.z.shape[1] // length
        valid = batch.get(f"{phone}_mask", torch.ones(size, length, dtype=torch.bool)).numpy()
        parts["z"].append(code.point[:, token].float().cpu().numpy()[valid])
        parts["units"].append(_units(code, model.latent(factor).vocab)[:, token.numpy()][valid])
        parts["x"].append(x.numpy()[valid])
        parts["phones"].append(phones.numpy()[valid])
        parts["owner"].append((count + np.arange(size))[:, None].repeat(length, 1)[valid])
        parts["speakers"].append(batch[speaker].numpy())
        count += size
    return AlignedFrames(**{name: np.concatenate(rows) for name, rows in parts.items()})


def _units(code: Code, vocab: tuple[int, ...] | None) -> np.ndarray:
    """Number each combination of indices (b n); zeros if there are no indices."""
    if code.indices is None or vocab is None:
        return np.zeros(code.z.shape[:2], dtype=np.int64)
    index, unit = code.indices.cpu().numpy(), np.zeros(code.z.shape[:2], dtype=np.int64)
    if math.prod(vocab) < 2**62:
        for slot, symbols in enumerate(vocab):
            unit = unit * symbols + index[..., slot]
        return unit
    raise BuildError("speech-units: the code has more combinations of indices than fit into 64 bits")


def kmeans_units(
    fit: np.ndarray, frames: Sequence[np.ndarray], size: int, seed: int
) -> list[Int[np.ndarray, " t"]]:
    """Fit k-means (``fit_kmeans``); returns the clusters of all ``frames``."""
    means = fit_kmeans(fit, size, seed)
    return [means.predict(each.astype(fit.dtype, copy=False)) for each in frames]


def fit_kmeans(fit: Float[np.ndarray, "t d"], size: int, seed: int) -> KMeans:
    """Fit k-means with ``size`` clusters, or as many as there are different rows, on at most 50,000 rows of ``fit``."""
    from sklearn.cluster import KMeans

    generator = np.random.default_rng(seed)
    some = fit if len(fit) <= 50_000 else fit[generator.choice(len(fit), 50_000, replace=False)]
    return KMeans(min(size, len(np.unique(some, axis=0))), n_init=1, random_state=seed).fit(some)


def contingency_table(units: np.ndarray, phones: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The units that occur (u,), and their counts with each phone (u p)."""
    names, places = np.unique(units, return_inverse=True)
    table = np.zeros((len(names), int(phones.max()) + 1))
    np.add.at(table, (places, phones), 1)
    return names, table


def agreement(units: np.ndarray, phones: np.ndarray) -> dict[str, Any]:
    """Purity, mutual information over the phones' entropy and over the mean entropy, and the number of units that occur."""
    from scipy.stats import entropy
    from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

    table = contingency_table(units, phones)[1]
    phone_entropy = entropy(np.bincount(phones))
    return {
        "purity": float(table.max(1).sum() / table.sum()),
        "pnmi": float(mutual_info_score(phones, units) / phone_entropy) if phone_entropy > 0 else 0.0,
        "nmi": float(normalized_mutual_info_score(phones, units)),
        "units": len(table),
    }


def speaker_accuracy(train: AlignedFrames, test: AlignedFrames, units: Sequence[np.ndarray]) -> float:
    """Accuracy of predicting the speaker from the histogram of an example's units."""
    from reprkit.evaluation.linear_probe import fit_probe

    names = np.unique(np.concatenate(units))
    tables = []
    for each, found in zip((train, test), units, strict=True):
        table = np.zeros((len(each.speakers), len(names)), dtype=np.float32)
        np.add.at(table, (each.owner, np.searchsorted(names, found)), 1)
        tables.append(table / table.sum(1, keepdims=True).clip(min=1))
    probe = fit_probe(tables[0], train.speakers, label="speaker")
    return float((probe.predict(tables[1].astype(np.float64)) == test.speakers).mean())


def frame_speaker_accuracy(
    train: AlignedFrames, test: AlignedFrames, units: Sequence[np.ndarray], silent: frozenset[int]
) -> float:
    """Accuracy of predicting the speaker from one frame's unit: the most frequent in ``train``, for an unknown unit overall."""
    speech = train.is_speech(silent)
    names, table = contingency_table(units[0][speech], train.speakers[train.owner][speech])
    speech = test.is_speech(silent)
    queried = units[1][speech]
    index = np.searchsorted(names, queried).clip(max=len(names) - 1)
    predicted = np.where(names[index] == queried, table.argmax(1)[index], table.sum(0).argmax())
    return float((predicted == test.speakers[test.owner][speech]).mean())
