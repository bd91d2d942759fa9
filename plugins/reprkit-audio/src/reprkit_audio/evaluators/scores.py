"""Scores of converted waveforms by speaker verification, and their names in the results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit_audio.evaluators.conversion_pairs import ConversionPair


def speaker_scores(
    embeddings: Float[Tensor, "n d"],
    chosen: Sequence[ConversionPair],
    centroids: Mapping[int, Tensor],
    *,
    own: bool,
) -> dict[str, float]:
    """Speaker verification scores of the waveforms of conversion pairs.

    Args:
        embeddings: speaker embeddings of the waveforms.
        chosen: the conversion pairs.
        centroids: of every speaker, by label.
        own: whether the waveforms still have the source's voice.
    """
    labels = list(centroids)
    cosine = embeddings @ torch.stack([centroids[label] for label in labels]).T
    rows = torch.arange(len(chosen))
    source = cosine[rows, torch.tensor([labels.index(each.speaker) for each in chosen])]
    target = cosine[rows, torch.tensor([labels.index(each.target) for each in chosen])]
    best = cosine.max(1).values
    if own:
        return {"identified": float((source == best).float().mean()), "similarity": float(source.mean())}
    return {
        "nearer": float((target > source).float().mean()),
        "nearest": float((target == best).float().mean()),
        "similarity": float(target.mean()),
        "similarity_source": float(source.mean()),
    }


def paired_scores(
    embeddings: Float[Tensor, "n d"],
    baseline: Float[Tensor, "n d"],
    chosen: Sequence[ConversionPair],
    centroids: Mapping[int, Tensor],
) -> dict[str, float]:
    """Compare two versions of the same conversions by their cosine to the target's centroid, pair by pair.

    Returns:
        ``better``: share of pairs in which the first is nearer to the target; ``p``: of the two-sided sign test that neither is.
    """
    from scipy.stats import binomtest

    target = torch.stack([centroids[each.target] for each in chosen])
    difference = (embeddings * target).sum(1) - (baseline * target).sum(1)
    wins, pairs = int((difference > 0).sum()), int((difference != 0).sum())
    return {"better": wins / len(chosen), "p": float(binomtest(wins, pairs).pvalue) if pairs else 1.0}


def add_scores(results: dict[str, Any], name: str, scores: Mapping[str, Any]) -> None:
    """Store scores under the version's name; the model's conversions have no prefix."""
    section = (
        results if name == "converted" else results.setdefault("natural" if name == "source" else name, {})
    )
    for key, value in scores.items():
        if isinstance(value, Mapping):
            section.setdefault(key, {}).update(value)
        else:
            section[key] = value


def nan_mean(values: Sequence[float]) -> float:
    """Mean over the values that are not NaN; NaN if there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return float(np.mean(numbers)) if numbers else math.nan
